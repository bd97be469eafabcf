//! What the steps watch for: the tests that the table names.
//!
//! Each looks at the operation and at what is observed, and changes nothing.

use std::time::Duration;

use super::Sight;
use super::work::{Test, View};
use crate::event::{Ready, ServerStatus};
use crate::time::{Now, show_duration};

/// A sign of life counts as back only this long after a reboot was asked for.
///
/// One heartbeat interval: a node that still talks goes on talking for a moment after its
/// reboot was accepted, and that is no proof of anything.
const BACK_MARGIN: Duration = Duration::from_secs(10);

/// Never comes: the step lasts until its deadline.
pub(super) fn never(_: &View<'_>) -> Test {
    Test::NotYet
}

/// Whether the new VM runs and can be reached. What else may become of it has a name each, by
/// which `why`, the notice and the log tell it; what was made is then undone.
pub(super) fn is_active(view: &View<'_>) -> Test {
    let after = || show_duration(view.context.pool.build_timeout);
    match view.server_of(view.made()) {
        Sight::There(server) => match &server.status {
            ServerStatus::Active if server.addressed => Test::Yes,
            ServerStatus::Active => Test::Stuck(format!(
                "ACTIVE without an address: the VM has none after {}",
                after()
            )),
            ServerStatus::Build => Test::Stuck(format!(
                "BUILD without end: the VM is not ACTIVE after {}",
                after()
            )),
            // `No valid host` among others: Nova's words say which.
            ServerStatus::Error => Test::Failed(format!(
                "the VM is in ERROR: {}",
                server.fault.as_deref().unwrap_or("no fault was given")
            )),
            ServerStatus::Deleted => Test::Failed("the VM was deleted".to_owned()),
            _ => Test::NotYet,
        },
        Sight::Gone { asked } if is_since(view, asked) && has_settled(view, asked) => {
            Test::Failed("the VM is gone".to_owned())
        }
        Sight::Gone { .. } | Sight::Unknown => Test::NotYet,
    }
}

/// Whether a list that lacks the new VM says anything of it. One that no list has shown yet may be
/// younger than what answers: a replica that lags.
fn has_settled(view: &View<'_>, asked: Now) -> bool {
    let seen = view.made().is_some_and(|new| new.created.is_some());
    let since = view.operation.step_began;
    seen || since.until(view.context.moment(asked)) >= view.context.limits.settle
}

pub(super) fn has_joined(view: &View<'_>) -> Test {
    let active = is_active(view);
    if let Test::Failed(_) = active {
        return active;
    }
    let (Some(new), Sight::There(node)) = (view.made(), view.node_of(view.made())) else {
        return Test::NotYet;
    };
    let former = view.old().and_then(|old| old.uid.as_ref());
    if former.is_some_and(|former| node.uid == **former) {
        // The Node of the VM before its rebuild, not yet seen to be deleted.
        return Test::NotYet;
    }
    match &node.vm {
        Some(vm) if Some(vm) != new.vm.as_ref() => {
            Test::Failed(format!("the node `{}` runs on another VM", new.node))
        }
        Some(_) if node.ready == Ready::True => Test::Yes,
        _ => Test::NotYet,
    }
}

pub(super) fn is_gone(view: &View<'_>) -> Test {
    if view.lease_is_fresh(view.old()) {
        // Whoever renews it runs: a 404 is then a lie, and the Node stays.
        return Test::NotYet;
    }
    match view.server_of(view.old()) {
        Sight::Gone { asked } if is_since(view, asked) => Test::Yes,
        Sight::There(server) if server.status == ServerStatus::Deleted => Test::Yes,
        _ => Test::NotYet,
    }
}

/// I26: gone for good, and nothing that runs on it.
pub(super) fn stays_gone(view: &View<'_>) -> Test {
    if let Some(life) = view.life() {
        return Test::Failed(life.to_owned());
    }
    match view.server_of(view.old()) {
        Sight::There(server) if server.status != ServerStatus::Deleted => {
            Test::Failed("its VM is there".to_owned())
        }
        Sight::There(_) => Test::Yes,
        Sight::Gone { asked } if is_since(view, asked) => Test::Yes,
        Sight::Gone { .. } | Sight::Unknown => Test::NotYet,
    }
}

pub(super) fn is_off(view: &View<'_>) -> Test {
    match view.server_of(view.old()) {
        Sight::There(server) if server.status == ServerStatus::Shutoff && server.idle => Test::Yes,
        _ if view.operation.creates_vm() => is_gone(view),
        // A rebuild needs the VM that it rebuilds.
        Sight::Gone { asked } if is_since(view, asked) => Test::Failed("the VM is gone".to_owned()),
        _ => Test::NotYet,
    }
}

pub(super) fn is_back(view: &View<'_>) -> Test {
    let Some(old) = view.old() else {
        return Test::NotYet;
    };
    let heard = view.seen.heard(&old.node).is_some_and(|heard| {
        view.operation.step_began.until(view.context.moment(heard)) >= BACK_MARGIN
    });
    let ready = !view.context.pool.kubernetes
        || matches!(view.node_of(Some(old)), Sight::There(node) if node.ready == Ready::True);
    match view.server_of(Some(old)) {
        Sight::There(server) if heard && ready && server.status == ServerStatus::Active => {
            Test::Yes
        }
        Sight::Gone { asked } if is_since(view, asked) => Test::Failed("the VM is gone".to_owned()),
        _ => Test::NotYet,
    }
}

/// Whether something was asked for after the step began.
pub(super) fn is_since(view: &View<'_>, asked: Now) -> bool {
    view.operation
        .step_began
        .is_before(view.context.moment(asked))
}
