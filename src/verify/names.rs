//! Names that Nix refuses. Reading refuses an inventory because of them, but `verify` has to find all that is wrong.

use serde_json::Value;

use super::finding::{Finding, FindingKind};
use crate::{
    inventory::{self, Inventory},
    store::path::StorePathName,
};

/// Reads the inventory in `text` in spite of names that Nix refuses. Each is a finding, and a valid name stands in for it.
///
/// `None` where no name is the matter, or something else is wrong with it, too.
pub fn read_despite_names(text: &str) -> Option<(Inventory, Vec<Finding>)> {
    let mut document: Value =
        if inventory::is_json(text) { serde_json::from_str(text).ok()? } else { toml::from_str(text).ok()? };
    let mut findings = Vec::new();
    for (entry, value) in document.get_mut("entry")?.as_array_mut()?.iter_mut().enumerate() {
        let url = value.get("url").and_then(Value::as_str).unwrap_or_default().to_owned();
        let Some(Value::String(name)) = value.pointer_mut("/body/name") else { continue };
        if let Err(error) = StorePathName::new(name.as_str()) {
            let kind = FindingKind::BadName { name: name.clone(), reason: error.to_string() };
            findings.push(Finding { entry: Some(entry), url, kind });
            *name = StorePathName::sanitized(name).to_string();
        }
    }
    let inventory = inventory::parse(&document.to_string()).ok()?;
    (!findings.is_empty()).then_some((inventory, findings))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=";

    fn inventory(names: &[&str]) -> String {
        let entry = |name: &&str| {
            format!(
                "[[entry]]\nurl = \"http://h/{name}\"\nbody = {{ hash = \"{HASH}\", size = 0, name = \"{name}\" }}\n"
            )
        };
        format!("version = 1\n{}", names.iter().map(entry).collect::<String>())
    }

    #[test]
    fn every_name_that_nix_refuses_is_a_finding() {
        let (inventory, findings) = read_despite_names(&inventory(&["a", ".b", "c!", "d.drv"])).unwrap();
        assert_eq!(inventory.entries.len(), 4);
        assert_eq!(findings.iter().map(|finding| finding.entry).collect::<Vec<_>>(), [Some(1), Some(2), Some(3)]);
        assert!(findings[0].to_string().contains("starts with a dot"), "{}", findings[0]);
    }

    #[test]
    fn what_else_is_wrong_is_not_passed_over() {
        assert!(read_despite_names(&inventory(&["a"])).is_none());
        assert!(read_despite_names(&inventory(&[".a"]).replace("size", "syze")).is_none());
        assert!(read_despite_names("version = ").is_none());
    }
}
