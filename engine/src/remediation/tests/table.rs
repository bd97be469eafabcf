//! What each step does about each kind of failure, row by row.

use super::super::advance::outcome;
use super::super::table::{Course, Undo, Work, course};
use super::*;
use crate::action::{Failure, FailureKind};

const KINDS: &[(&str, FailureKind)] = &[
    ("retry", FailureKind::Retry { after: None }),
    ("unknown", FailureKind::Unknown),
    ("refused", FailureKind::Refused),
    ("no_capacity", FailureKind::NoCapacity),
    ("not_found", FailureKind::NotFound),
    ("not_owned", FailureKind::NotOwned),
    ("gate", FailureKind::Gate),
    ("needs_token", FailureKind::NeedsToken),
    ("blocked", FailureKind::Blocked),
    ("timed_out", FailureKind::TimedOut),
];

/// What each acting step does on each of [`KINDS`], in their order. `again` is bounded, `on`
/// is not; `back` gives the operation up and undoes what the step's row says.
const ROWS: &[(Step, &str)] = &[
    (
        Step::CreateToken,
        "again again back back back back park back again again",
    ),
    (
        Step::CreateServer,
        "again settle back back back back park create_token again again",
    ),
    (Step::Search, "on on on on on on park on on on"),
    (Step::DropTwin, "on on on on search search park on on on"),
    (
        Step::ExtendToken,
        "wait_active wait_active wait_active wait_active wait_active wait_active wait_active \
         wait_active wait_active wait_active",
    ),
    (
        Step::ApproveJoin,
        "on on back back back back park back again back",
    ),
    (
        Step::Label,
        "again again back back back back park back again again",
    ),
    (Step::DeleteToken, "on on on on next next park on on on"),
    (Step::Tally, "on on on on on on park on on on"),
    (
        Step::Cordon,
        "again again back back next back park back again again",
    ),
    (
        Step::Drain,
        "again again back back next back park back back back",
    ),
    (
        Step::DeleteServer,
        "again on back back next back park back again again",
    ),
    (
        Step::ClearNode,
        "again again back back next back park back again again",
    ),
    (Step::DeleteNode, "on on on on next next park on on on"),
    (Step::ReleasePorts, "on on on on next next park on on on"),
    (
        Step::RebootSoft,
        "again next reboot_hard back back back park back again again",
    ),
    (
        Step::StartServer,
        "again again back back back back park back again again",
    ),
    (
        Step::RebootHard,
        "again next back back back back park back again again",
    ),
    (
        Step::StopServer,
        "again again back back next back park back again again",
    ),
    (
        Step::RebuildServer,
        "again again back back back back park create_token again again",
    ),
    (
        Step::OutOfService,
        "again again next back next next park back again again",
    ),
    (
        Step::StartRebuilt,
        "again again back back back back park back again again",
    ),
    (Step::UndoToken, "on on on on next next park on on on"),
    (Step::UndoServer, "on on on on on on park on on on"),
    (Step::UndoNode, "on on on on next next park on on on"),
    (Step::UndoPorts, "on on on on next next park on on on"),
    (Step::UndoStop, "on on on on next next park on on on"),
    (Step::Uncordon, "on on on on next next park on on on"),
    (Step::InService, "on on on on next next park on on on"),
];

/// A case in whose course, or whose undo, the step stands.
fn case_of(step: Step) -> Case {
    match step {
        Step::Cordon
        | Step::Drain
        | Step::DeleteServer
        | Step::DeleteNode
        | Step::WaitGone
        | Step::ReleasePorts
        | Step::Uncordon => Case::Remove,
        Step::RebootSoft | Step::RebootHard | Step::WaitBack | Step::WaitBackHard => Case::Reboot,
        Step::ConfirmGone | Step::ClearNode => Case::SweepNode,
        Step::OutOfService | Step::InService => Case::ReplaceFenced,
        Step::StopServer | Step::WaitOff | Step::RebuildServer | Step::StartRebuilt => {
            Case::Rebuild
        }
        _ => Case::Add,
    }
}

/// The operation at `step`, with its action under way, failed like this: what comes of it.
fn reaction(step: Step, kind: FailureKind, tries: u32) -> String {
    let run = Run::new(case_of(step));
    let mut before = run.operation.clone();
    before.step = step;
    before.tries = tries;
    before.sent = true;
    before.search = Some(Step::Search);
    let undoing = matches!(
        step,
        Step::UndoToken
            | Step::UndoServer
            | Step::UndoNode
            | Step::UndoPorts
            | Step::UndoStop
            | Step::Uncordon
            | Step::InService
    );
    if undoing {
        before.phase = Phase::Undoing {
            rest: Vec::new(),
            ending: Ending::Failed("a test".to_owned()),
        };
    }
    let key = before.next_key();
    before.started(key);
    let failure = Err(Failure::new(kind, "a test"));
    let after = outcome(&before, key, &failure, &run.world, &run.context());
    assert_eq!(after.in_flight, None);
    let turned = before.phase == Phase::Doing && matches!(&after.phase, Phase::Undoing { .. })
        || matches!(
            &after.phase,
            Phase::Over { ending: Ending::Failed(_) | Ending::Cancelled(_) } if !undoing
        );
    let next = match undoing {
        true => None,
        false => before.step.after(&before, &run.context()),
    };
    if turned {
        return "back".to_owned();
    }
    if after.step != step || matches!(after.phase, Phase::Over { .. }) {
        return match next == Some(after.step) || undoing || after.phase != before.phase {
            true => "next".to_owned(),
            false => after.step.to_string(),
        };
    }
    let parked = after.tries == before.tries && after.pause.is_some();
    if parked { "park" } else { "again" }.to_owned()
}

#[test]
fn each_step_does_this_on_each_kind_of_failure() {
    for (step, row) in ROWS {
        let wanted: Vec<&str> = row.split(' ').collect();
        assert_eq!(wanted.len(), KINDS.len(), "{step}");
        for ((name, kind), wanted) in KINDS.iter().zip(wanted) {
            let what = format!("{step} on {name}");
            let first = reaction(*step, *kind, 0);
            // The last try tells what is bounded from what is not.
            let last = reaction(*step, *kind, 1_000);
            match wanted {
                "again" => assert_eq!((&*first, &*last), ("again", "back"), "{what}"),
                "on" => assert_eq!((&*first, &*last), ("again", "again"), "{what}"),
                wanted => assert_eq!((&*first, &*last), (wanted, wanted), "{what}"),
            }
        }
    }
}

#[test]
fn every_acting_step_has_its_rows_and_every_step_its_name() {
    for step in Step::ALL {
        let acts = matches!(step.row().work, Work::Act(_));
        let rows = ROWS.iter().filter(|(row, _)| row == step).count();
        assert_eq!(rows, usize::from(acts), "{step}");
        let json = serde_json::to_string(step).unwrap();
        assert_eq!(json, format!("\"{step}\""));
    }
}

#[test]
fn what_a_step_may_leave_behind_is_undone_from_it_on() {
    let all = [
        OperationKind::Add,
        OperationKind::Remove,
        OperationKind::Heal(Rung::Rebuild),
        OperationKind::Heal(Rung::Replace),
    ];
    for kind in all {
        let mut tokens = false;
        let mut cordoned = false;
        for step in course(kind) {
            tokens |= *step == Step::CreateToken;
            tokens &= *step != Step::Tally && *step != Step::Cordon;
            cordoned |= *step == Step::Cordon;
            cordoned &= *step != Step::WaitGone;
            let undo = step.row().undo;
            if tokens {
                let made = matches!(undo, Undo::Made | Undo::MadeUnlessServing);
                assert!(made, "{kind:?} at {step}");
            }
            if cordoned {
                assert_eq!(undo, Undo::Cordon, "{kind:?} at {step}");
            }
        }
    }
}

#[test]
fn a_step_that_waits_ends_by_itself_or_by_its_deadline() {
    let run = Run::new(Case::Add);
    for step in Step::ALL {
        let row = step.row();
        if matches!(row.work, Work::Watch(..)) {
            let length = row.deadline.length(&run.context());
            assert!(length.is_some_and(|length| !length.is_zero()), "{step}");
            assert!(matches!(row.late, Course::GiveUp | Course::Go(_)), "{step}");
        }
    }
}

/// What takes a machine of the workload away is looked at again before its call. The rows that a
/// storm does not hold are the ones where to stop leaves a machine off, or a twin.
#[test]
fn every_step_that_takes_something_away_has_its_brakes() {
    let storm: Vec<&str> = held_by(Brakes::All);
    assert_eq!(
        storm,
        [
            "cordon",
            "drain",
            "delete_server",
            "reboot_soft",
            "reboot_hard",
            "stop_server"
        ]
    );
    let sight: Vec<&str> = held_by(Brakes::Sight);
    assert_eq!(
        sight,
        [
            "drop_twin",
            "delete_node",
            "clear_node",
            "out_of_service",
            "rebuild_server"
        ]
    );
}

fn held_by(brakes: Brakes) -> Vec<&'static str> {
    let steps = Step::ALL.iter().filter(|step| step.row().brakes == brakes);
    steps.map(|step| step.as_str()).collect()
}

#[test]
fn no_brake_holds_what_has_no_way_back() {
    let mut run = Run::new(Case::Remove);
    run.operation.step = Step::DeleteServer;
    assert_eq!(run.operation.brakes(), Brakes::All);
    run.operation.committed = true;
    assert_eq!(run.operation.brakes(), Brakes::None);
    run.operation.committed = false;
    run.operation.phase = Phase::Undoing {
        rest: Vec::new(),
        ending: Ending::Done,
    };
    assert_eq!(run.operation.brakes(), Brakes::None);
}
