//! A row for each reason of the guard, both sides, and what the brakes hold over time.

use std::time::Duration;

mod brakes;
pub(crate) mod ill;
mod pauses;
mod witnesses;

use crate::decision::{Reason, Rung};
use crate::event::{SourceName, Target, Wish};
use crate::journal::Record;
use crate::lab::{BEGIN, Lab, Plan, Row, play, pool};
use crate::names::NodeName;
use crate::time::Now;

fn nothing(_: &mut Lab) {}

fn as_it_is(_: &mut Plan) {}

/// Past the start-up hold and the stabilization window.
fn warm(lab: &mut Lab) {
    lab.run(400);
}

fn w3_dies(lab: &mut Lab) {
    lab.die("w3");
    lab.run(90);
}

fn two_die(lab: &mut Lab) {
    lab.die("w3");
    lab.die("w4");
    lab.run(90);
}

fn load_rises(lab: &mut Lab) {
    lab.cpu(Some(0.95));
    lab.run(120);
}

fn load_falls(lab: &mut Lab) {
    lab.cpu(Some(0.05));
    lab.run(120);
}

fn failures(count: u32) -> Record {
    Record::Circuit {
        pool: pool(),
        failures: count,
        at: BEGIN.plus(Duration::from_secs(500)),
    }
}

pub(crate) const ROWS: &[Row] = &[
    Row {
        reason: Reason::AtMaximum,
        name: "a pool of the most it may have",
        plan: |plan| plan.nodes = 8,
        both: warm,
        only: nothing,
        then: load_rises,
        else_decides: "",
    },
    Row {
        reason: Reason::AtMinimum,
        name: "a node that does not serve leaves just the minimum",
        plan: |plan| plan.pool.min = 5,
        both: warm,
        only: |lab| {
            let w6 = lab.node("w6");
            w6.kubelet = false;
            w6.marked_protected = true;
            lab.run(60);
        },
        then: load_falls,
        else_decides: "remove",
    },
    Row {
        reason: Reason::AtMinimum,
        name: "the last node of a zone",
        plan: |plan| {
            plan.nodes = 2;
            plan.pool.min = 0;
        },
        both: nothing,
        only: |lab| {
            lab.node("w1").zone = Some("a".to_owned());
            lab.node("w2").zone = Some("b".to_owned());
        },
        then: |lab| {
            warm(lab);
            load_falls(lab);
        },
        else_decides: "remove",
    },
    Row {
        reason: Reason::StartUp,
        name: "a source that was never heard since the start",
        plan: as_it_is,
        both: nothing,
        only: |lab| {
            lab.sources.remove(&SourceName::Openstack);
        },
        then: |lab| {
            warm(lab);
            w3_dies(lab);
        },
        else_decides: "reboot w3",
    },
    Row {
        reason: Reason::PartialInventory,
        name: "half of the VMs are not listed",
        plan: as_it_is,
        both: warm,
        only: |lab| {
            for name in ["w4", "w5", "w6"] {
                lab.node(name).listed = false;
            }
        },
        then: w3_dies,
        else_decides: "reboot w3",
    },
    Row {
        reason: Reason::ClockStep,
        name: "the wall clock jumps by a day",
        plan: as_it_is,
        both: warm,
        only: |lab| lab.now.wall = lab.now.wall.plus(Duration::from_secs(86_400)),
        then: w3_dies,
        else_decides: "reboot w3",
    },
    Row {
        reason: Reason::Blind,
        name: "the cloud cannot be heard",
        plan: as_it_is,
        both: warm,
        only: |lab| {
            lab.sources.insert(SourceName::Openstack, false);
        },
        then: w3_dies,
        else_decides: "reboot w3",
    },
    Row {
        reason: Reason::Blind,
        name: "nothing is added on pods and windows that cannot be heard",
        plan: as_it_is,
        both: warm,
        only: |lab| {
            lab.sources.insert(SourceName::Kubernetes, false);
        },
        then: load_rises,
        else_decides: "add",
    },
    Row {
        reason: Reason::SightReturning,
        name: "the cloud is heard again since a minute",
        plan: as_it_is,
        both: warm,
        only: |lab| {
            lab.sources.insert(SourceName::Openstack, false);
            lab.run(20);
            lab.sources.insert(SourceName::Openstack, true);
            lab.run(10);
        },
        then: w3_dies,
        else_decides: "reboot w3",
    },
    Row {
        reason: Reason::ThinData,
        name: "a tenth of a window",
        plan: |plan| {
            plan.policy = r#"scale_down("workers").when(mean("cpu", "10m") < 0.2);"#;
        },
        both: nothing,
        only: |lab| lab.cpu(None),
        then: |lab| {
            lab.run(700);
            lab.cpu(Some(0.05));
            lab.run(600);
        },
        else_decides: "",
    },
    Row {
        reason: Reason::OneWitness,
        name: "only the agent is silent",
        plan: as_it_is,
        both: |lab| {
            warm(lab);
            lab.die("w3");
        },
        only: |lab| lab.node("w3").kubelet = true,
        then: |lab| lab.run(90),
        else_decides: "reboot w3",
    },
    Row {
        reason: Reason::OneWitness,
        name: "a rule that reads two says what one of them says",
        plan: |plan| {
            plan.policy = r#"
                heal("workers").when(silent("60s") or not_ready("60s")).ladder(["reboot"]);
            "#;
        },
        both: |lab| {
            warm(lab);
            lab.die("w3");
        },
        only: |lab| lab.node("w3").agent = true,
        then: |lab| lab.run(150),
        else_decides: "reboot w3",
    },
    Row {
        reason: Reason::OneWitness,
        name: "how large the pool is says nothing of a node",
        plan: |plan| {
            plan.policy = r#"
                heal("workers").when(not_ready("60s") and size() > 2).ladder(["reboot"]);
            "#;
        },
        both: |lab| {
            warm(lab);
            lab.die("w3");
        },
        only: |lab| lab.node("w3").agent = true,
        then: |lab| lab.run(150),
        else_decides: "reboot w3",
    },
    Row {
        reason: Reason::Storm,
        name: "two of six at once",
        plan: as_it_is,
        both: warm,
        only: |lab| lab.die("w4"),
        then: w3_dies,
        else_decides: "reboot w3",
    },
    Row {
        reason: Reason::Storm,
        name: "half of a zone",
        plan: |plan| plan.nodes = 20,
        both: |lab| {
            for name in ["w3", "w4", "w5"] {
                lab.node(name).zone = Some("a".to_owned());
            }
            warm(lab);
        },
        only: |lab| lab.die("w4"),
        then: w3_dies,
        else_decides: "reboot w3",
    },
    Row {
        reason: Reason::Share,
        name: "a tenth of the pool is under remediation",
        plan: |plan| {
            plan.nodes = 12;
            plan.pool.max = 20;
        },
        both: warm,
        only: |lab| lab.die("w4"),
        then: w3_dies,
        else_decides: "",
    },
    Row {
        reason: Reason::Velocity,
        name: "a second removal within a minute",
        plan: |plan| {
            plan.nodes = 30;
            plan.pool.max = 40;
            plan.policy = r#"heal("workers").when(silent("60s")).ladder(["replace"]);"#;
        },
        both: warm,
        only: |lab| lab.die("w4"),
        then: w3_dies,
        else_decides: "",
    },
    Row {
        reason: Reason::CircuitOpen,
        name: "three failures in a row",
        plan: |plan| plan.before.push(failures(2)),
        both: |lab| {
            warm(lab);
            lab.run(100);
        },
        only: |lab| {
            lab.journal.push(failures(3));
            lab.restart();
        },
        then: load_rises,
        else_decides: "add",
    },
    Row {
        reason: Reason::Protected,
        name: "an operator protects the node",
        plan: as_it_is,
        both: warm,
        only: |lab| {
            lab.wish(Wish::Protect {
                node: NodeName::new("w3"),
                on: true,
            });
        },
        then: w3_dies,
        else_decides: "reboot w3",
    },
    Row {
        reason: Reason::Protected,
        name: "a mark on the VM protects the node",
        plan: as_it_is,
        both: warm,
        only: |lab| lab.node("w3").marked_protected = true,
        then: w3_dies,
        else_decides: "reboot w3",
    },
    Row {
        reason: Reason::ControlPlane,
        name: "a node of the control plane",
        plan: as_it_is,
        both: warm,
        only: |lab| lab.node("w3").control_plane = true,
        then: w3_dies,
        else_decides: "reboot w3",
    },
    Row {
        reason: Reason::Maintenance,
        name: "a node in maintenance",
        plan: as_it_is,
        both: warm,
        only: |lab| {
            lab.wish(Wish::Maintenance {
                target: Target::Node(NodeName::new("w3")),
                length: Duration::from_secs(3600),
            });
        },
        then: w3_dies,
        else_decides: "reboot w3",
    },
    Row {
        reason: Reason::Maintenance,
        name: "a pool in maintenance",
        plan: as_it_is,
        both: warm,
        only: |lab| {
            lab.wish(Wish::Maintenance {
                target: Target::Pool(pool()),
                length: Duration::from_secs(3600),
            });
        },
        then: load_rises,
        else_decides: "add",
    },
    Row {
        reason: Reason::Paused,
        name: "everything is paused",
        plan: as_it_is,
        both: warm,
        only: |lab| {
            lab.wish(Wish::Pause { pool: None });
        },
        then: load_rises,
        else_decides: "add",
    },
    Row {
        reason: Reason::Paused,
        name: "a pause by a file",
        plan: as_it_is,
        both: warm,
        only: |lab| lab.pause_file(Ok(Some(pauses::everything("upgrade")))),
        then: load_rises,
        else_decides: "add",
    },
    Row {
        reason: Reason::Paused,
        name: "whether there is a pause cannot be read",
        plan: as_it_is,
        both: warm,
        only: |lab| lab.pause_file(Err("permission denied")),
        then: w3_dies,
        else_decides: "reboot w3",
    },
    Row {
        reason: Reason::NotOwned,
        name: "a VM without our mark",
        plan: as_it_is,
        both: warm,
        only: |lab| lab.node("w3").ours = false,
        then: w3_dies,
        else_decides: "reboot w3",
    },
    Row {
        reason: Reason::InFlight,
        name: "the most operations at once are under way",
        plan: |plan| {
            plan.nodes = 30;
            plan.pool.max = 40;
            plan.limits.operations = 1;
        },
        both: warm,
        only: |lab| lab.die("w4"),
        then: w3_dies,
        else_decides: "",
    },
    Row {
        reason: Reason::JournalFailed,
        name: "the journal cannot be written",
        plan: as_it_is,
        both: warm,
        only: |lab| {
            lab.step(crate::event::Input::JournalHealth(false));
        },
        then: load_rises,
        else_decides: "add",
    },
    Row {
        reason: Reason::LadderExhausted,
        name: "three rungs on one node within a day",
        plan: |plan| {
            for hours in [3, 4] {
                plan.before.push(rung(Rung::Reboot, hours * 3600));
            }
        },
        both: warm,
        only: |lab| {
            lab.journal.push(rung(Rung::Replace, 5 * 3600));
            lab.restart();
            lab.run(310);
        },
        then: w3_dies,
        else_decides: "reboot w3",
    },
];

/// A rung of w3 begun so many seconds before the first.
pub(crate) fn rung(rung: Rung, ago: u64) -> Record {
    let ago = Duration::from_secs(ago);
    Record::Rung {
        node: NodeName::new("w3"),
        rung,
        at: Now {
            wall: BEGIN.wall.minus(ago),
            mono: BEGIN.mono,
        },
    }
}

#[test]
fn every_refusal_of_the_guard_has_its_yes_and_its_no() {
    play(&ROWS[1..]);
}
