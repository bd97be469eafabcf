//! Each decision, refusal and ending as a line of the log.

use rhizome_engine::decision::Evidence;
use rhizome_engine::journal::Record;
use rhizome_engine::remediation::{Ending, Phase};
use tracing::{info, warn};

/// Logs what an operator would want to see of a journaled record.
pub fn log(record: &Record) {
    match record {
        Record::Decision { decision } => info!(
            pool = %decision.pool,
            node = decision.node.as_ref().map(ToString::to_string),
            origin = %decision.origin,
            why = %decision.why,
            saw = %values(&decision.evidence),
            "decided: {}", decision.what
        ),
        Record::Refusal { refusal } => info!(
            pool = %refusal.pool,
            node = refusal.node.as_ref().map(ToString::to_string),
            origin = %refusal.origin,
            reason = %refusal.reason,
            saw = %values(&refusal.evidence),
            "refused: {}: {}", refusal.what, refusal.detail
        ),
        Record::Operation { operation } => {
            let Phase::Over { ending } = &operation.phase else {
                return;
            };
            let node = operation.node().map(ToString::to_string);
            match ending {
                Ending::Done | Ending::Dry => {
                    info!(operation = %operation.id, node, "operation ended: {ending:?}");
                }
                Ending::Failed(why) | Ending::Cancelled(why) => {
                    warn!(operation = %operation.id, node, "operation given up: {why}");
                }
            }
        }
        Record::Pause { source, pause, .. } => match pause {
            Some(pause) => warn!(
                scope = pause.scope(),
                who = pause.who,
                why = pause.why,
                "paused by {}",
                source.words()
            ),
            None => info!("the pause of {} is over", source.words()),
        },
        Record::Epoch { epoch, .. } => info!(epoch, "a new epoch begins"),
        _ => {}
    }
}

/// The values that were seen, on one line.
pub fn values(evidence: &Evidence) -> String {
    let values = evidence.values.iter().map(ToString::to_string);
    values.collect::<Vec<_>>().join(", ")
}
