//! I20 on a site: what the journal says was asked for, held against what the cloud saw.

use std::collections::BTreeMap;

use rhizome_engine::action::{ActionKey, ActionKind};
use rhizome_engine::journal::Record;
use rhizome_engine::names::OperationId;
use rhizome_engine::remediation::Phase;
use rhizome_standin::Ledger;

/// What does not add up, once everything is over: an intent has one outcome, unless a start of
/// the program came between; an outcome has an intent; and each creation that was sent has one.
pub(crate) fn unaccounted(records: &[Record], ledger: &Ledger) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut open: BTreeMap<OperationId, ActionKey> = BTreeMap::new();
    let mut creates: BTreeMap<OperationId, usize> = BTreeMap::new();
    for record in records {
        match record {
            // Whoever waited for an outcome is gone: the operation is taken up anew.
            Record::Epoch { .. } => open.clear(),
            Record::Intent { action, .. } => {
                let key = action.key;
                if let Some(before) = open.insert(key.operation, key) {
                    wrong.push(format!("{before} has no outcome, and {key} is begun"));
                }
                if matches!(action.kind, ActionKind::CreateServer { .. }) {
                    *creates.entry(key.operation).or_default() += 1;
                }
            }
            Record::Outcome { key, .. } => {
                let intended = open.remove(&key.operation) == Some(*key);
                wrong.extend((!intended).then(|| format!("the outcome of {key} has no intent")));
            }
            Record::Operation { operation } if matches!(operation.phase, Phase::Over { .. }) => {
                if let Some(key) = open.remove(&operation.id) {
                    wrong.push(format!("{key} has no outcome, and its operation is over"));
                }
            }
            _ => {}
        }
    }
    wrong.extend(open.values().map(|key| format!("{key} has no outcome")));
    let sent = ledger
        .mutations()
        .filter(|entry| entry.is("POST", "/compute/v2.1/servers"))
        .filter_map(|entry| entry.operation);
    let mut asked: BTreeMap<OperationId, usize> = BTreeMap::new();
    for operation in sent {
        *asked.entry(operation).or_default() += 1;
    }
    for (operation, asked) in asked {
        let intents = creates.get(&operation).copied().unwrap_or_default();
        if asked > intents {
            wrong.push(format!(
                "{operation} asked for {asked} servers on {intents} intents"
            ));
        }
    }
    wrong
}
