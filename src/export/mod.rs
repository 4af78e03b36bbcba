//! Giving inventories to other programs: as HAR, and as Nix expressions.

pub mod har;
pub mod nix;

use crate::inventory::{Entry, Inventory};

/// The entries for `system`, in the order of the file, and a remark on the others.
fn of_system<'a>(inventory: &'a Inventory, system: &str) -> (Vec<&'a Entry>, Option<String>) {
    let (entries, others): (Vec<&Entry>, Vec<&Entry>) =
        inventory.entries.iter().partition(|entry| entry.is_for(system));
    let remark = match others.len() {
        0 => None,
        count => Some(format!("{count} of the entries: they are for other systems than {system}")),
    };
    (entries, remark)
}
