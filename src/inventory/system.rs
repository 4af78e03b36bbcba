//! The systems that entries are for, as Nix names them.

use std::env::consts;

/// The Nix system that this program was made for, such as `x86_64-linux`.
pub fn current_system() -> String {
    system(consts::ARCH, consts::OS, cfg!(target_endian = "little"))
}

/// Nix's name for what Rust calls `arch` and `os`: Nix goes by GNU's names, where byte order is part of some.
fn system(arch: &str, os: &str, is_little_endian: bool) -> String {
    let arch = match (arch, is_little_endian) {
        ("x86", _) => "i686",
        ("arm", _) => "armv7l",
        ("powerpc64", true) => "powerpc64le",
        ("mips", true) => "mipsel",
        ("mips64", true) => "mips64el",
        // x86_64, aarch64, riscv64, powerpc64, s390x, loongarch64: the same names.
        (other, _) => other,
    };
    let os = if os == "macos" { "darwin" } else { os };
    format!("{arch}-{os}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn systems_have_the_names_that_nix_gives_them() {
        for (arch, os, little, name) in [
            ("x86_64", "linux", true, "x86_64-linux"),
            ("aarch64", "macos", true, "aarch64-darwin"),
            ("x86", "linux", true, "i686-linux"),
            ("arm", "linux", true, "armv7l-linux"),
            ("riscv64", "linux", true, "riscv64-linux"),
            ("powerpc64", "linux", true, "powerpc64le-linux"),
            ("powerpc64", "linux", false, "powerpc64-linux"),
            ("x86_64", "freebsd", true, "x86_64-freebsd"),
        ] {
            assert_eq!(system(arch, os, little), name);
        }
    }
}
