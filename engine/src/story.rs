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
        Ask::Sweep { node, vm: Some(vm) } => format!("sweep VM {vm} of {node}"),
        Ask::Sweep { node, vm: None } => format!("sweep node {node}"),
        Ask::SweepPorts { node, operation } => {
            format!("sweep the ports that {operation} made for {node}")
        }
    }
}

/// What is asked for in words without what may be another at each look or is told beside: the
/// size, and the name of the node.
pub(crate) fn kind_of(what: &str) -> String {
    if let Some((resize, _)) = what.rsplit_once(" to ") {
        return resize.to_owned();
    }
    match what.split_once(" (") {
        Some((_, ladder)) => format!("heal ({ladder}"),
        None => what.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decision::{Rung, Witness};

    #[test]
    fn sizes_and_names_make_no_other_kind_and_ladders_do() {
        let resize = |to, direction| Ask::Resize {
            pool: "workers".into(),
            to,
            direction,
        };
        let heal = |node: &str, rung| Ask::Heal {
            node: node.into(),
            ladder: vec![rung, Rung::Replace],
            witness: Witness::Heartbeat,
        };
        let kind = |ask: Ask| kind_of(&asked(&ask));
        assert_eq!(kind(resize(5, Direction::Up)), "scale up workers");
        assert_eq!(kind(resize(-1, Direction::Up)), "scale up workers");
        assert_eq!(kind(resize(5, Direction::Down)), "scale down workers");
        assert_eq!(kind(heal("w1", Rung::Reboot)), "heal (reboot, replace)");
        assert_eq!(kind(heal("w2", Rung::Reboot)), "heal (reboot, replace)");
        assert_eq!(kind(heal("w1", Rung::Rebuild)), "heal (rebuild, replace)");
        assert_eq!(kind_of("drain of op-1-7"), "drain of op-1-7");
    }
}
