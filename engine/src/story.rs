//! Proposals and operations in words, for decisions, refusals and `why`.

use crate::decision::{Ask, Direction};

/// What is asked for, in words.
pub(crate) fn asked(ask: &Ask) -> String {
    match ask {
        Ask::Resize {
            pool,
            to,
            direction,
        } => {
            let verb = match direction {
                Direction::Up => "scale up",
                Direction::Down => "scale down",
                Direction::Either => "scale",
            };
            format!("{verb} {pool} to {to}")
        }
        Ask::Heal { node, ladder, .. } => {
            let rungs: Vec<_> = ladder.iter().map(|rung| rung.as_str()).collect();
            format!("heal {node} ({})", rungs.join(", "))
        }
    }
}
