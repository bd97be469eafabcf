//! SIGKILL while a change is with the cloud or the cluster and nobody has heard its answer:
//! the real binary, killed by the stand-in's ledger, not by a clock.
//!
//! Each change of an addition, a replacement and a removal is met once before it is done and
//! once after. What was wanted must come of it all the same, and one server of each creation.

use std::time::Duration;

use rhizome_standin::{Api, Fact, Fault, Refusal, Rule, RuleId};

use crate::harness::{Setup, Site, said};

const SERVERS: &str = "/compute/v2.1/servers";
const SERVER: &str = "/compute/v2.1/servers/*";
const PORTS: &str = "/network/v2.0/ports";
const PORT: &str = "/network/v2.0/ports/*";
const TOKENS: &str = "/api/v1/namespaces/kube-system/secrets";
const TOKEN: &str = "/api/v1/namespaces/kube-system/secrets/*";
const NODE: &str = "/api/v1/nodes/*";

/// How late the first list of servers comes after a start. What the program does again of a
/// creation, it does before; what it knows of it by then is in its journal.
const LIST_LATE: Duration = Duration::from_secs(5);

/// A change that a course makes, and how many of its like come before.
struct Change {
    api: Api,
    method: &'static str,
    path: &'static str,
    skip: u32,
}

const fn change(api: Api, method: &'static str, path: &'static str) -> Change {
    Change {
        api,
        method,
        path,
        skip: 0,
    }
}

/// Courses in their order: from one machine to two, one of them replaced, and back to one.
/// Each round meets each of them at another change.
const ROUNDS: [[Change; 3]; 5] = [
    [
        change(Api::OpenStack, "POST", SERVERS),
        // The label of the new node comes first, then the cordon of the old one.
        Change {
            skip: 1,
            ..change(Api::Kubernetes, "PATCH", NODE)
        },
        change(Api::OpenStack, "DELETE", SERVER),
    ],
    [
        change(Api::Kubernetes, "PATCH", NODE),
        change(Api::OpenStack, "POST", SERVERS),
        change(Api::Kubernetes, "DELETE", NODE),
    ],
    [
        change(Api::Kubernetes, "POST", TOKENS),
        change(Api::OpenStack, "DELETE", SERVER),
        change(Api::Kubernetes, "PATCH", NODE),
    ],
    [
        change(Api::Kubernetes, "DELETE", TOKEN),
        change(Api::Kubernetes, "DELETE", NODE),
        change(Api::OpenStack, "DELETE", SERVER),
    ],
    [
        change(Api::OpenStack, "POST", PORTS),
        change(Api::OpenStack, "POST", PORTS),
        change(Api::OpenStack, "DELETE", PORT),
    ],
];

/// How many machines there are after each course.
const MACHINES: [usize; 3] = [2, 2, 1];

#[test]
fn a_kill_after_a_change_is_done_and_before_it_is_answered_does_nothing_twice() {
    run(Fault::HangDone);
}

#[test]
fn a_kill_before_a_change_is_done_forgets_nothing() {
    run(Fault::Hang);
}

#[test]
fn killed_between_a_port_and_its_server_and_called_off_it_leaves_no_port() {
    let mut site = Site::settled(Setup::default());
    let met = Rule::new(PORTS, Fault::HangDone)
        .on(Api::OpenStack)
        .method("POST")
        .times(1);
    let before = site.standin.ledger().requests.len();
    let rule = site.standin.fault(met);
    order(&site, 0);
    site.wait("the port to be made", |site| {
        met_one(site, before, &Fault::HangDone).then_some(())
    });
    site.kill();
    let ports = |site: &Site| site.standin.world(|world| world.cloud.ports.len());
    assert_eq!(ports(&site), 2, "that of the machine, and one of nobody");
    site.standin.faults(|faults| faults.remove(rule));
    // Nothing comes of it any more: what is there of it can only be taken away.
    let refusal = Refusal::nova(400, "Invalid imageRef provided.");
    let refused = Rule::new(SERVERS, Fault::Refuse(refusal));
    site.standin
        .fault(refused.on(Api::OpenStack).method("POST"));
    site.start(&[]);
    // Else what was wished for would be begun anew.
    granted(&site, &["scale", "workers", "1", "--why", "never mind"]);
    site.wait_settled(1);
    assert_eq!(ports(&site), 1);
    let ledger = site.standin.ledger();
    let created = |(_, fact): &&(_, Fact)| matches!(fact, Fact::ServerCreated { .. });
    assert_eq!(ledger.facts.iter().filter(created).count(), 1);
}

/// Two sites side by side, with half of the rounds each.
fn run(fault: Fault) {
    std::thread::scope(|scope| {
        for rounds in ROUNDS.chunks(3) {
            let fault = fault.clone();
            scope.spawn(move || {
                let mut site = Site::settled(Setup::default());
                for round in rounds {
                    for (course, change) in round.iter().enumerate() {
                        killed_at(&mut site, course, change, &fault);
                    }
                }
            });
        }
    });
}

fn killed_at(site: &mut Site, course: usize, change: &Change, fault: &Fault) {
    let before = site.standin.ledger().requests.len();
    let met = Rule::new(change.path, fault.clone())
        .on(change.api)
        .method(change.method)
        .skip(change.skip)
        .times(1);
    let rule = site.standin.fault(met);
    order(site, course);
    let what = format!("{} {} of course {course}", change.method, change.path);
    site.wait(&format!("{what} to be met"), |site| {
        met_one(site, before, fault).then_some(())
    });
    site.kill();
    site.standin.faults(|faults| faults.remove(rule));
    let late = start_with_a_late_list(site);
    site.wait("the machines, and no second one", |site| {
        let twice = site.standin.world(|world| twice(&world.ledger));
        assert_eq!(twice, None, "after a kill at {what}");
        is_over(site).then_some(())
    });
    site.standin.faults(|faults| faults.remove(late));
    site.wait_settled(MACHINES[course]);
    let wrong = site.unaccounted();
    assert!(wrong.is_empty(), "after a kill at {what}: {wrong:?}");
}

/// Gives the order of a course, anew until it is granted: right after a start the guard may
/// still say no.
fn order(site: &Site, course: usize) {
    site.wait("the order to be granted", |site| {
        let node = site
            .try_status()?
            .engine
            .pools
            .first()?
            .nodes
            .first()?
            .name
            .clone();
        let order = match course {
            0 => vec!["scale", "workers", "2"],
            1 => vec!["replace", node.as_str()],
            _ => vec!["scale", "workers", "1"],
        };
        let arguments = [order, vec!["--why", "test"]].concat();
        (said(&site.rhizome(&arguments)).0 == 0).then_some(())
    });
}

/// Granted, if perhaps not at once: right after a start the guard may still say no.
fn granted(site: &Site, arguments: &[&str]) {
    site.wait(&format!("{arguments:?} to be granted"), |site| {
        let (code, text) = said(&site.rhizome(arguments));
        (code == 0 || text.contains("no_change")).then_some(())
    });
}

/// Whether a request since `before` met the fault, and was done if it is to be.
fn met_one(site: &Site, before: usize, fault: &Fault) -> bool {
    let done = matches!(fault, Fault::HangDone);
    site.standin.world(|world| {
        let since = world.ledger.requests.iter().skip(before);
        let mut met = since.filter(|entry| entry.fault == Some(fault.name()));
        met.any(|entry| entry.was_done() || !done)
    })
}

/// Starts the program while the list of servers is slow to come.
fn start_with_a_late_list(site: &mut Site) -> RuleId {
    let late = Rule::new("/compute/v2.1/servers/detail", Fault::Delay(LIST_LATE));
    let rule = site.standin.fault(late.on(Api::OpenStack).times(1));
    site.start(&[]);
    rule
}

/// An operation that two servers came to be for.
fn twice(ledger: &rhizome_standin::Ledger) -> Option<String> {
    let mut asked = ledger.mutations().filter_map(|entry| entry.operation);
    asked
        .find(|operation| ledger.servers_of(*operation).count() > 1)
        .map(|operation| format!("two servers of {operation}"))
}

/// Whether nothing is under way any more.
fn is_over(site: &Site) -> bool {
    site.try_status()
        .is_some_and(|status| status.engine.operations.is_empty())
}
