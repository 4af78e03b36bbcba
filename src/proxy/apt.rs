//! What apt reads instead of a variable for certificates: a configuration file of its own.

use std::path::Path;

/// The configuration for `APT_CONFIG`: what that named `before`, then ours. The file of certificates is below a folder
/// that is private to its user, and as root apt would download as another one.
///
/// apt's strings have no escapes. Where a path has a quote or the end of a line in it, what needs it is left out.
pub fn configuration(before: Option<&Path>, ca_file: &str) -> String {
    let quoted = |path: &str| {
        let can_be_said = !path.contains(['"', '\n', '\r']);
        if !can_be_said {
            tracing::warn!(path, "apt's configuration cannot name this file");
        }
        can_be_said.then(|| format!("\"{path}\""))
    };
    // A file that is not there is an error to `#include`; as `APT_CONFIG`, apt goes on without it.
    let before = before.filter(|path| path.is_file()).and_then(|path| quoted(path.to_str()?));
    let include = before.map(|file| format!("#include {file};\n"));
    let ours = quoted(ca_file).map(|file| format!("Acquire::https::CaInfo {file};\nAPT::Sandbox::User \"root\";\n"));
    [include, ours].into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use std::{fs, process::Command};

    use super::*;

    /// What apt takes `name` to be in `configuration`.
    fn as_apt_reads(configuration: &str, name: &str) -> String {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), configuration).unwrap();
        let mut command = Command::new("apt-config");
        command.args(["shell", "IT", name]).env("APT_CONFIG", file.path());
        let output = command.output().unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    #[test]
    fn apt_reads_the_path_back() {
        let file = r"/a b\c;{d}//e#f%22/*g*/'/ca.pem";
        let read = as_apt_reads(&configuration(None, file), "Acquire::https::CaInfo");
        assert_eq!(read, format!("IT='{}'\n", file.replace('\'', r"'\''")));
        assert_eq!(configuration(None, "/a\"; Dir \"/b"), "", "said as no option of another kind");
    }

    #[test]
    fn what_was_there_before_stays_unless_it_is_ours_to_say() {
        let folder = tempfile::Builder::new().prefix("it's a").tempdir().unwrap();
        let before = folder.path().join("apt.conf");
        fs::write(&before, "Acquire::Retries \"7\"; Acquire::https::CaInfo \"/theirs\";\n").unwrap();
        let both = configuration(Some(&before), "/ours");
        assert_eq!(as_apt_reads(&both, "Acquire::Retries"), "IT='7'\n");
        assert_eq!(as_apt_reads(&both, "Acquire::https::CaInfo"), "IT='/ours'\n");
        let gone = configuration(Some(Path::new("/nowhere")), "/ours");
        assert_eq!(as_apt_reads(&gone, "Acquire::https::CaInfo"), "IT='/ours'\n");
    }
}
