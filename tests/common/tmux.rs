//! A real terminal: a pane of a tmux server of the test's own, as wide as it is said to be.

use std::{
    ffi::OsStr,
    fs,
    path::PathBuf,
    process::Command,
    sync::atomic::{AtomicUsize, Ordering},
};

use super::{
    Workdir,
    process::{run, wait_for},
};

/// The running server with its one pane; ends when dropped.
pub struct Tmux<'a> {
    work: &'a Workdir,
    /// Its socket, and what it writes, have names of their own: a server that was told to end can take its time.
    name: String,
}

static STARTED: AtomicUsize = AtomicUsize::new(0);

impl<'a> Tmux<'a> {
    /// Runs `command` in a pane of `columns` and `rows`, in nothing but the environment that it has.
    pub fn start(work: &'a Workdir, columns: u16, rows: u16, command: &Command) -> Self {
        // The screen is there to be looked at when the command has ended; and all that was written to it, in a file.
        let configuration = "set -g remain-on-exit on\nset -g status off\nset -g history-limit 10000\n";
        fs::write(work.root().join("tmux.conf"), configuration).unwrap();
        let tmux = Self { work, name: format!("tmux{}", STARTED.fetch_add(1, Ordering::Relaxed)) };
        let mut start = tmux.client("new-session");
        start.args(["-d", "-x", &columns.to_string(), "-y", &rows.to_string(), "-c"]);
        start.arg(command.get_current_dir().unwrap_or(work.root()));
        // The pane waits for a line, so that what it writes is written down from the first byte. It keeps the exit code
        // itself, which tmux 3.3 forgets at times.
        let script = "trap : INT; code=$1; shift; stty -echo; read -r _; stty echo; \
                      env -i TERM=xterm-256color \"$@\"; echo $? >\"$code\"";
        start.args(["sh", "-c", script, "sh"]).arg(tmux.file("code"));
        for (name, value) in command.get_envs() {
            let pair = [name, value.unwrap_or_default()].join(OsStr::new("="));
            start.arg(pair);
        }
        run(start.arg(command.get_program()).args(command.get_args())).expect_code(0);
        run(tmux.client("pipe-pane").arg(format!("cat >{}.written", tmux.name))).expect_code(0);
        tmux.keys(&["Enter"]);
        tmux
    }

    /// One of tmux's own commands, to be completed. The name of its socket is short, wherever the test is.
    fn client(&self, command: &str) -> Command {
        let mut client = self.work.command("tmux");
        client.current_dir(self.work.root()).args(["-u", "-S", &self.name, "-f", "tmux.conf", command]);
        client
    }

    /// Presses these keys: texts, and names such as `Enter`, `Tab`, `C-c`.
    #[track_caller]
    pub fn keys(&self, keys: &[&str]) {
        run(self.client("send-keys").args(keys)).expect_code(0);
    }

    /// Types a line as it is.
    #[track_caller]
    pub fn line(&self, text: &str) {
        run(self.client("send-keys").args(["-l", text])).expect_code(0);
        self.keys(&["Enter"]);
    }

    #[track_caller]
    pub fn resize(&self, columns: u16, rows: u16) {
        let size = ["-x", &columns.to_string(), "-y", &rows.to_string()];
        run(self.client("resize-window").args(size)).expect_code(0);
    }

    /// What the screen shows, and what has left it at the top; a line that is wider than the screen is several.
    #[track_caller]
    pub fn screen(&self) -> String {
        let shown = run(self.client("capture-pane").args(["-p", "-S", "-"])).expect_code(0);
        let text = shown.text().trim_end();
        // What tmux says below the last line.
        let end = text.rfind('\n').filter(|at| text[at + 1..].starts_with("Pane is dead")).unwrap_or(text.len());
        text[..end].trim_end().to_owned()
    }

    /// The same, with colours as escape codes.
    #[track_caller]
    pub fn coloured(&self) -> String {
        run(self.client("capture-pane").args(["-p", "-e", "-S", "-"])).expect_code(0).text().to_owned()
    }

    /// Waits until the screen is as it should be.
    #[track_caller]
    pub fn wait_for(&self, what: &str, mut is_so: impl FnMut(&str) -> bool) -> String {
        let mut last = String::new();
        let found = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            wait_for(what, || {
                last = self.screen();
                is_so(&last).then(|| last.clone())
            })
        }));
        found.unwrap_or_else(|_| panic!("waited in vain for {what}; the screen is:\n{last}"))
    }

    /// Waits until `text` is on the screen.
    #[track_caller]
    pub fn wait_for_text(&self, text: &str) -> String {
        self.wait_for(&format!("`{text}`"), |screen| screen.contains(text))
    }

    /// Waits until the command has ended, and gives its exit code.
    #[track_caller]
    pub fn end(&self) -> i32 {
        self.wait_for("the end of the command", |_| self.code().is_some());
        self.code().unwrap()
    }

    fn code(&self) -> Option<i32> {
        fs::read_to_string(self.file("code")).ok()?.trim().parse().ok()
    }

    /// A file of its own.
    fn file(&self, kind: &str) -> PathBuf {
        self.work.root().join(format!("{}.{kind}", self.name))
    }

    /// All bytes that were written to the terminal until now.
    pub fn written(&self) -> Vec<u8> {
        fs::read(self.file("written")).unwrap_or_default()
    }

    /// Where a shell that runs in here has its own files.
    pub fn home(&self) -> PathBuf {
        self.work.root().join("home")
    }
}

impl Drop for Tmux<'_> {
    fn drop(&mut self) {
        let _ended = self.client("kill-server").output();
    }
}
