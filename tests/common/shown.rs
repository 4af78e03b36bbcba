//! Rows of docs/reliability.md: what a test has shown, with the figures of its own run. `benches/reliability.sh` makes
//! the table of them.

use std::{env, fs, path::Path};

use serde_json::json;

/// The parts of the table, in its order.
#[derive(Clone, Copy, Debug)]
pub enum Part {
    Capture,
    Replay,
    Load,
    Verify,
    HostileInput,
    Secrets,
}

/// How often a test does what it repeats: `usual` in every run, `full` where the table is made.
pub fn times(usual: u32, full: u32) -> u32 {
    if env::var_os("RELIABILITY").is_some_and(|value| value == "full") { full } else { usual }
}

/// Called by `shows!`, which knows the test.
pub fn row(inside: &str, file: &str, part: Part, how: &str, figure: &str) {
    let test = inside.split("::{{closure}}").next().unwrap();
    let (binary, sentence) = (test.split("::").next().unwrap(), test.rsplit("::").next().unwrap());
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/reliability");
    fs::create_dir_all(&folder).unwrap();
    let row = json!({
        "order": part as u8,
        "part": format!("{part:?}"),
        "promise": sentence.replace('_', " "),
        "file": file,
        "how": how,
        "figure": figure,
    });
    fs::write(folder.join(format!("{binary}.{sentence}.json")), row.to_string()).unwrap();
}

/// Says at the end of a test, after its last assertion, what it has shown: the part of the table, how, and the figures
/// of this run as `format!` takes them. The promise is the test's own name, so it stands in the test itself.
#[macro_export]
macro_rules! shows {
    ($part:ident, $how:literal, $($figure:tt)+) => {
        $crate::common::shown::row(
            std::any::type_name_of_val(&|| ()),
            file!(),
            $crate::common::shown::Part::$part,
            $how,
            &format!($($figure)+),
        )
    };
}
