//! What happened, one line each: records of the journal, decisions, refusals.

use rhizome_engine::decision::{Decision, Evidence, Refusal};
use rhizome_engine::event::{Target, Wish};
use rhizome_engine::journal::{Brake, Record};
use rhizome_engine::names::PoolName;
use rhizome_engine::remediation::{Ending, Operation, OperationKind, Phase};
use rhizome_engine::time::format_duration;

use super::plain;
use crate::api::{Told, record_time};

/// A record of the past on one line, and how often it came in a row.
pub(super) fn told(told: &Told) -> String {
    match told.times {
        1 => record(&told.record),
        times => format!(
            "{} (asked {times} times, this was the last)",
            record(&told.record)
        ),
    }
}

/// Where an operation stands, and what became of it.
fn stands(operation: &Operation) -> String {
    let step = operation.step.as_str();
    let ended = |ending: &Ending| match ending {
        Ending::Done => "done".to_owned(),
        Ending::Dry => "nothing was done: a dry run".to_owned(),
        Ending::Failed(why) => format!("failed: {}", plain(why)),
        Ending::Cancelled(why) => format!("cancelled: {}", plain(why)),
    };
    match &operation.phase {
        Phase::Doing => format!("step {step}"),
        Phase::Undoing { ending, .. } => format!("step {step}, {}", ended(ending)),
        Phase::Over { ending } => ended(ending),
    }
}

/// A record of the journal on one line.
pub(in crate::commands) fn record(record: &Record) -> String {
    let at = record_time(record)
        .map(|at| format!("{at} "))
        .unwrap_or_default();
    let what = match record {
        Record::Decision { decision: one } => return decision(one),
        Record::Refusal { refusal: one } => return refusal(one),
        Record::Epoch { epoch, version, .. } => format!("start {epoch} of rhizome {version}"),
        Record::Snapshot { state } => format!(
            "the state so far: start {}, {} operations under way, {} VMs of ours",
            state.epoch,
            state.operations.len(),
            state.owned.len()
        ),
        Record::Operation { operation } => format!(
            "{} {} of {}: {}",
            operation.id,
            kind(operation.kind),
            operation
                .node()
                .map_or_else(|| operation.pool.to_string(), ToString::to_string),
            stands(operation)
        ),
        Record::Intent { action, .. } => format!("{} {}", action.key, action.kind.name()),
        Record::Outcome { key, result, .. } => match result {
            Ok(_) => format!("{key} done"),
            Err(failure) => format!("{key} failed: {}", plain(&failure.message)),
        },
        Record::Desired {
            pool, size, origin, ..
        } => format!("{pool} shall have {size} nodes ({origin})"),
        Record::Cooldown { rule, pool, .. } => {
            format!("{rule} acted on {pool}: its cooldown begins")
        }
        Record::Rung { node, rung, .. } => format!("{node}: rung {} of the ladder", rung.as_str()),
        Record::Wish { who, why, wish, .. } => format!("{who} {}: {}", wished(wish), plain(why)),
        Record::Pause {
            source,
            pause: Some(pause),
            ..
        } => format!(
            "{} pauses {}, left by {}: {}",
            source.words(),
            pause.scope(),
            plain(&pause.who),
            plain(&pause.why)
        ),
        Record::Pause { source, .. } => format!("the pause of {} is over", source.words()),
        Record::Brake {
            brake, on, detail, ..
        } => {
            let does = if *on { "holds" } else { "lets go" };
            format!("brake {} {does}: {}", brake_name(brake), plain(detail))
        }
        Record::Circuit {
            pool, failures: 0, ..
        } => format!("{pool}: the circuit is closed"),
        Record::Circuit { pool, failures, .. } => format!("{pool}: {failures} failures in a row"),
        Record::Adopted {
            vm,
            node,
            pool,
            who,
            ..
        } => format!("the VM {vm} of {node} in {pool} is ours from now on, says {who}"),
        Record::Pool { pool, .. } => format!("{pool}: operations begin with new settings"),
        Record::Policies { hash, .. } => format!("the policies {hash} run"),
    };
    format!("{at}{what}")
}

fn brake_name(brake: &Brake) -> String {
    match brake {
        Brake::Storm(pool) => format!("storm {pool}"),
        Brake::Domain(domain) => format!("storm {domain}"),
        Brake::Blind(source) => format!("blind {}", source.as_str()),
        Brake::Inventory(source) => format!("inventory {}", source.as_str()),
        Brake::Clock => "clock".to_owned(),
        Brake::Pause(source) => format!("pause {}", source.as_str()),
    }
}

fn wished(wish: &Wish) -> String {
    let scope = |pool: &Option<PoolName>| {
        pool.as_ref()
            .map_or_else(|| "everything".to_owned(), ToString::to_string)
    };
    match wish {
        Wish::Pause { pool } => format!("paused {}", scope(pool)),
        Wish::Resume { pool } => format!("resumed {}", scope(pool)),
        Wish::Scale { pool, size } => format!("asked for {size} nodes in {pool}"),
        Wish::Replace { node } => format!("asked to replace {node}"),
        Wish::Cancel { operation } => format!("cancelled {operation}"),
        Wish::Protect { node, on: true } => format!("protected {node}"),
        Wish::Protect { node, on: false } => format!("took the protection off {node}"),
        Wish::Adopt { target } => format!("took {} under management", target_name(target)),
        Wish::Maintenance { target, length } => {
            let name = target_name(target);
            format!(
                "asked to leave {name} alone for {}",
                format_duration(*length)
            )
        }
    }
}

fn target_name(target: &Target) -> &str {
    match target {
        Target::Node(name) => name.as_str(),
        Target::Pool(name) => name.as_str(),
    }
}

pub(super) fn decision(decision: &Decision) -> String {
    let operation = decision
        .operation
        .map(|id| format!(" as {id}"))
        .unwrap_or_default();
    format!(
        "{} {} in {}{operation}, by {}: {}{}",
        decision.at,
        decision.what,
        decision.pool,
        decision.origin,
        plain(&decision.why),
        seen(&decision.evidence)
    )
}

pub(super) fn refusal(refusal: &Refusal) -> String {
    format!(
        "{} refused to {} in {}, for {} ({}): {}{}",
        refusal.at,
        refusal.what,
        refusal.pool,
        refusal.origin,
        refusal.reason,
        plain(&refusal.detail),
        seen(&refusal.evidence)
    )
}

/// The values and witnesses of a decision, in brackets.
fn seen(evidence: &Evidence) -> String {
    let values = evidence.values.iter().map(ToString::to_string);
    let witnesses = evidence
        .witnesses
        .iter()
        .map(|witness| format!("witness {}", witness.as_str()));
    let seen: Vec<_> = values.chain(witnesses).collect();
    if seen.is_empty() {
        String::new()
    } else {
        format!(" [{}]", seen.join(", "))
    }
}

pub(super) fn kind(kind: OperationKind) -> String {
    match kind {
        OperationKind::Add => "add".to_owned(),
        OperationKind::Remove => "remove".to_owned(),
        OperationKind::Heal(rung) => rung.as_str().to_owned(),
        OperationKind::Sweep(_) => "sweep".to_owned(),
    }
}
