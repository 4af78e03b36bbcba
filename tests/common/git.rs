//! A real git server: `git http-backend` behind nginx, by fcgiwrap.

use std::{path::Path, process::Command};

use super::{
    Nginx,
    process::{Guard, run, wait_for},
};

/// Serves the bare repository `project.git`, which has a few commits and a tag.
pub struct GitServer {
    pub nginx: Nginx,
    _backend: Guard,
}

impl GitServer {
    pub fn start() -> Self {
        let exec_path = run(Command::new("git").arg("--exec-path")).expect_code(0).text().trim().to_owned();
        // Both run in nginx's folder: a socket's path is at most 107 bytes, so it is a relative one.
        let nginx = Nginx::start(&format!(
            "location /git/ {{
                fastcgi_pass unix:git.sock;
                fastcgi_param SCRIPT_FILENAME {exec_path}/git-http-backend;
                fastcgi_param GIT_PROJECT_ROOT $document_root;
                fastcgi_param GIT_HTTP_EXPORT_ALL 1;
                fastcgi_param PATH_INFO $uri;
                fastcgi_param QUERY_STRING $query_string;
                fastcgi_param REQUEST_METHOD $request_method;
                fastcgi_param CONTENT_TYPE $content_type;
                fastcgi_param CONTENT_LENGTH $content_length;
                fastcgi_param HTTP_CONTENT_ENCODING $http_content_encoding;
                fastcgi_param GIT_PROTOCOL $http_git_protocol;
            }}"
        ));
        make_repository(&nginx.www());
        let mut command = Command::new("fcgiwrap");
        command.args(["-s", "unix:git.sock"]).current_dir(nginx.folder()).env("PATH", path());
        let backend = Guard(command.spawn().expect("fcgiwrap is installed"));
        wait_for("fcgiwrap", || nginx.folder().join("git.sock").exists().then_some(()));
        Self { nginx, _backend: backend }
    }

    pub fn url(&self) -> String {
        self.nginx.tls_url("/git/project.git")
    }
}

fn path() -> String {
    format!("{}:/usr/sbin", std::env::var("PATH").unwrap())
}

/// Enough refs and history that git's requests and answers have more than one packet.
fn make_repository(www: &Path) {
    let script = r#"
        mkdir git && git init --quiet --bare git/project.git && git init --quiet source && cd source
        git config user.name Tests && git config user.email tests@example.org && git checkout --quiet -b main
        for n in $(seq 40); do
            seq "$n" 3000 > "numbers-$n.txt" && git add . && git commit --quiet -m "Number $n" && git tag "v$n"
        done
        git -C ../git/project.git config transfer.advertiseSID true
        git push --quiet ../git/project.git main --tags && git -C ../git/project.git symbolic-ref HEAD refs/heads/main
    "#;
    let mut command = Command::new("sh");
    command.args(["-euc", script]).current_dir(www);
    command.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1");
    run(&mut command).expect_code(0);
}
