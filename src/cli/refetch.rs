//! `buildproxy verify --refetch`: asking, repairing, reporting.

use super::{Common, FAILED, bars::Bar, block_on, output, relocate::Editing};
use crate::{
    inventory::Inventory,
    refetch::{self, Asked, Proposal, Verdict},
    relocate::{self, Move},
};

/// Asks the origins for every body that is to be fetched from them.
pub fn ask(inventory: &Inventory, common: &Common) -> Result<Vec<Asked>, u8> {
    let total = crate::fetch::all(inventory).iter().map(|one| one.size).sum();
    let progress = Bar::new("asking again", Some(total), common.quiet);
    let origin = super::fetch::anonymous_origin()?;
    block_on(async { Ok(refetch::refetch(inventory, &origin, progress.counter()).await) })
}

/// Carries out those proposals that lose nothing, in `asked` of `inventory` as it was read. Gives what that changed.
pub fn fix(inventory: &Inventory, asked: &mut [Asked], common: &Common) -> Result<String, u8> {
    let editing = Editing::start(common)?;
    if editing.inventory != *inventory {
        output::error(&"the inventory was changed while the origins were asked: run it again");
        return Err(FAILED);
    }
    let mut changed = inventory.clone();
    refetch::fetch_from_pinned(&mut changed, asked);
    let mut moves: Vec<Move> = Vec::new();
    for one in asked.iter_mut().filter(|one| matches!(one.proposal, Some(Proposal::Keep { .. }))) {
        let planned = relocate::plan_to_keep(&changed, &editing.path, &one.entries, &editing.files);
        one.fixed = !planned.is_empty() && planned.iter().all(Result::is_ok);
        for result in planned {
            match result {
                Ok(planned) => moves.push(planned),
                Err(obstacle) => output::warning(format!("cannot be kept: {obstacle}")),
            }
        }
    }
    if moves.is_empty() && changed == *inventory {
        return Ok(String::new());
    }
    editing.apply(&changed, &moves, common).inspect_err(|_| asked.iter_mut().for_each(|one| one.fixed = false))
}

/// Says what came of it, grouped; what is the same is only counted.
pub fn report(asked: &[Asked], quiet: bool) {
    if asked.is_empty() {
        return;
    }
    for verdict in Verdict::ALL.into_iter().filter(|verdict| *verdict != Verdict::Same) {
        for one in asked.iter().filter(|one| one.verdict == verdict) {
            // Not as an error where it needs no hand any more.
            let proposal = one.proposal.as_ref().filter(|_| !one.fixed);
            let what_to_do = proposal.map(|proposal| format!("\n  proposal: {proposal}")).unwrap_or_default();
            let line = format!("{verdict}: {}{what_to_do}", one.message);
            if one.fixed { output::done("fixed", &line) } else { output::error(&line) }
        }
    }
    let count = |verdict| (verdict, asked.iter().filter(|one| one.verdict == verdict).count());
    let counts = Verdict::ALL.map(count).into_iter().filter(|(_, count)| *count > 0);
    let counts: Vec<String> = counts.map(|(verdict, count)| format!("{count} {verdict}")).collect();
    if !quiet {
        output::done("asked for", format!("{}: {}", bodies(asked.len()), counts.join(", ")));
    }
}

fn bodies(count: usize) -> String {
    output::count(count, "body", "bodies")
}

/// Whether somebody still has to do something about it.
pub fn is_finding(asked: &Asked) -> bool {
    asked.verdict != Verdict::Same && !asked.fixed
}
