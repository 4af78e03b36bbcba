//! Why a command cannot be isolated, and what can be done about it.

use std::{fmt, fs, io, path::Path};

use rustix::io::Errno;

/// What was wanted, and what the system said.
#[derive(Debug)]
pub struct SetupError {
    what: &'static str,
    source: io::Error,
}

/// Wraps what the system says when it refuses `what`.
pub fn failed<E: Into<io::Error>>(what: &'static str) -> impl FnOnce(E) -> SetupError {
    move |source| SetupError { what, source: source.into() }
}

impl fmt::Display for SetupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, self.source)?;
        let setting = |name: &str| fs::read_to_string(Path::new("/proc/sys").join(name)).unwrap_or_default();
        match Errno::from_io_error(&self.source).and_then(|error| remedy(error, &setting)) {
            Some(remedy) => write!(f, "\n\nhint: {remedy}"),
            None => Ok(()),
        }
    }
}

/// What to change on a system with these settings that answered `error`.
fn remedy(error: Errno, setting: &dyn Fn(&str) -> String) -> Option<String> {
    // What is not there does not forbid: systems differ in what they have.
    let (settings, otherwise): (&[(&str, &str, &str)], _) = match error {
        Errno::PERM | Errno::ACCESS => (
            &[
                ("kernel/unprivileged_userns_clone", "0", "1"),
                ("kernel/apparmor_restrict_unprivileged_userns", "1", "0"),
            ],
            "in a container, allow user namespaces (for Docker: --security-opt seccomp=unconfined, or --cap-add SYS_ADMIN \
             as root); in a chroot there are none for ordinary users; or run without --isolate",
        ),
        // What a limit of namespaces gives (namespaces(7)).
        Errno::NOSPC => (
            &[
                ("user/max_user_namespaces", "0", "10000"),
                ("user/max_net_namespaces", "0", "10000"),
                ("user/max_mnt_namespaces", "0", "10000"),
            ],
            "no more namespaces are allowed here, or outside of the container that this is: raise user.max_user_namespaces, \
             user.max_net_namespaces and user.max_mnt_namespaces there (sysctl -w, as root); or run without --isolate",
        ),
        // What a kernel without such namespaces gives.
        Errno::INVAL | Errno::NOSYS => (&[], "run without --isolate"),
        _ => return None,
    };
    let forbids = |(name, forbids, _): &&(&str, &str, &str)| setting(name).trim() == *forbids;
    Some(match settings.iter().find(forbids) {
        Some((name, forbids, allows)) => {
            let name = name.replace('/', ".");
            format!(
                "this system forbids it ({name} is {forbids}); as root: sysctl -w {name}={allows}; or run without --isolate"
            )
        }
        None => otherwise.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_setting_that_forbids_it_is_named() {
        for (error, name, value) in [
            (Errno::PERM, "kernel/unprivileged_userns_clone", "0\n"),
            (Errno::PERM, "kernel/apparmor_restrict_unprivileged_userns", "1\n"),
            (Errno::NOSPC, "user/max_user_namespaces", "0\n"),
            (Errno::NOSPC, "user/max_net_namespaces", "0\n"),
            (Errno::NOSPC, "user/max_mnt_namespaces", "0\n"),
        ] {
            let hint = remedy(error, &|asked| if asked == name { value.to_owned() } else { "7\n".to_owned() }).unwrap();
            let name = name.replace('/', ".");
            let command = format!("as root: sysctl -w {name}=");
            assert!(hint.contains(&format!("({name} is {})", value.trim())) && hint.contains(&command), "{hint}");
        }
    }

    #[test]
    fn where_no_setting_forbids_it_the_surroundings_do() {
        for (error, words) in [
            (Errno::PERM, "--security-opt seccomp=unconfined"),
            (Errno::NOSPC, "raise user.max_user_namespaces"),
            (Errno::INVAL, "run without --isolate"),
        ] {
            let hint = remedy(error, &|_| String::new()).unwrap();
            assert!(hint.contains(words) && hint.contains("run without --isolate"), "{hint}");
        }
        assert_eq!(remedy(Errno::MFILE, &|_| String::new()), None);
    }

    #[test]
    fn what_to_do_is_a_command_where_a_setting_forbids_it_and_else_names_the_surroundings() {
        let of = |error, value: &str| remedy(error, &|_| value.to_owned()).unwrap();
        assert_eq!(
            of(Errno::NOSPC, "0"),
            "this system forbids it (user.max_user_namespaces is 0); as root: sysctl -w user.max_user_namespaces=10000; or \
             run without --isolate"
        );
        assert_eq!(
            of(Errno::NOSPC, "7"),
            "no more namespaces are allowed here, or outside of the container that this is: raise user.max_user_namespaces, \
             user.max_net_namespaces and user.max_mnt_namespaces there (sysctl -w, as root); or run without --isolate"
        );
        assert_eq!(
            of(Errno::PERM, "7"),
            "in a container, allow user namespaces (for Docker: --security-opt seccomp=unconfined, or --cap-add SYS_ADMIN as \
             root); in a chroot there are none for ordinary users; or run without --isolate"
        );
    }
}
