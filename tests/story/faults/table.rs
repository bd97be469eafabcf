//! The table: each change that an addition and a removal make, and what meets it.

use std::time::Duration;

use rhizome_standin::{Api, Effect, Entry, Fault, Refusal, Rule};

use super::Front;
use crate::courses::{self, BUILD, Course, PODS, RISE};
use crate::stage::{Ladder, Stage};
use crate::world::{Worker, World};
use crate::{accounts, say};

/// A call by its method and path.
type Call = (Api, &'static str, &'static str);

const CREATE: Call = (Api::OpenStack, "POST", "/compute/v2.1/servers");
const LIST: Call = (Api::OpenStack, "GET", "/compute/v2.1/servers/detail");

/// What an addition changes, in its order.
const ADDITION: [Call; 6] = [
    (
        Api::Kubernetes,
        "POST",
        "/api/v1/namespaces/kube-system/secrets",
    ),
    (Api::OpenStack, "POST", "/network/v2.0/ports"),
    CREATE,
    (
        Api::Kubernetes,
        "PUT",
        "/apis/certificates.k8s.io/v1/certificatesigningrequests/*/approval",
    ),
    (Api::Kubernetes, "PATCH", "/api/v1/nodes/*"),
    (
        Api::Kubernetes,
        "DELETE",
        "/api/v1/namespaces/kube-system/secrets/*",
    ),
];

/// What a removal changes, in its order. There are pods to evict.
const REMOVAL: [Call; 5] = [
    (Api::Kubernetes, "PATCH", "/api/v1/nodes/*"),
    (
        Api::Kubernetes,
        "POST",
        "/api/v1/namespaces/*/pods/*/eviction",
    ),
    (Api::OpenStack, "DELETE", "/compute/v2.1/servers/*"),
    (Api::Kubernetes, "DELETE", "/api/v1/nodes/*"),
    (Api::OpenStack, "DELETE", "/network/v2.0/ports/*"),
];

/// As the story has it, but the worker that leaves has pods.
const FALL: Course = Course {
    name: courses::FALL.name,
    records: courses::FALL.records,
    play: |stage| {
        stage.put_to_work(PODS);
        let leaves = stage.until("a worker with pods", at_work);
        courses::falls(stage, &leaves);
    },
};

/// With RabbitMQ away a create was seen to hang so long, and then to succeed.
const HUNG: Duration = Duration::from_secs(25);

/// Longer than a service remembers a token that it has seen (`tests/servers/openstack`).
const FORGOTTEN: Duration = Duration::from_secs(7);

/// What meets a call, once, by the service that it is made to.
type Meets = fn(Api) -> Fault;

/// Each row is an addition and a removal, in which every change is met so once.
const ROWS: [(&str, Meets); 4] = [
    ("done, and the answer lost", |_| Fault::DropAfter),
    ("lost before it was done", |_| Fault::DropBefore),
    ("done, and said to have failed", |api| {
        Fault::DoneBut(unavailable(api))
    }),
    ("done a second later, and not answered", |_| {
        Fault::DoLate(Duration::from_secs(1), None)
    }),
];

/// How much of the table is played.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Much {
    /// All of it.
    Whole,
    /// Its first row: each change is done, and nobody hears so.
    FirstRow,
}

/// Plays the table on one world.
pub(crate) fn play(world: Box<dyn World>, front: &Front, much: Much) {
    let mut stage = Stage::new(world, Ladder::RebootHelps);
    course(&mut stage, front, &BUILD, Vec::new());
    let rows = match much {
        Much::Whole => ROWS.len(),
        Much::FirstRow => 1,
    };
    for (what, meets) in &ROWS[..rows] {
        say(&format!("{}: {what}", front.name()));
        let all = |calls: &[Call]| calls.iter().map(|call| met(*call, meets(call.0))).collect();
        course(&mut stage, front, &RISE, all(&ADDITION));
        course(&mut stage, front, &FALL, all(&REMOVAL));
    }
    if much == Much::Whole {
        late_and_short(&mut stage, front);
    }
    stage.end();
}

/// What is no row, for each call has its own: a create that hangs, tokens that are withdrawn in the
/// middle, and lists that lack servers, or are cut off.
fn late_and_short(stage: &mut Stage, front: &Front) {
    let name = front.name();
    say(&format!(
        "{name}: hung for 25 s, a token withdrawn, lists that are short and cut"
    ));
    let rise = vec![
        met(ADDITION[1], Fault::Withdrawn(FORGOTTEN)),
        met(CREATE, Fault::Delay(HUNG)),
        met(LIST, Fault::PartialList(1)),
        met(LIST, Fault::CutBody),
    ];
    course(stage, front, &RISE, rise);
    let fall = vec![
        met(LIST, Fault::PartialList(1)),
        met(LIST, Fault::PartialList(0)),
        met(LIST, Fault::CutBody),
        met(REMOVAL[2], Fault::Withdrawn(FORGOTTEN)),
    ];
    course(stage, front, &FALL, fall);
}

/// A course of the story in which each of these rules meets one call. What must come of it, and
/// that nothing else is left, the course says.
fn course(stage: &mut Stage, front: &Front, course: &Course, rules: Vec<Rule>) {
    let before = front.ledger().requests.len();
    let wanted = rules.len();
    for rule in rules {
        front.fault(rule);
    }
    stage.begin(course.name);
    (course.play)(stage);
    let ledger = front.ledger();
    let met: Vec<_> = ledger
        .requests
        .iter()
        .skip(before)
        .filter(|entry| entry.fault.is_some())
        .collect();
    assert_eq!(met.len(), wanted, "a call was not made: {met:#?}");
    let amiss: Vec<_> = met.iter().filter(|entry| !as_meant(entry)).collect();
    assert!(amiss.is_empty(), "the services refused these: {amiss:#?}");
    let wrong = accounts::unaccounted(&stage.site.records(), &ledger);
    assert!(wrong.is_empty(), "{wrong:?}");
    front.clear();
    let (front, records) = (front.name(), stage.length());
    say(&format!("{front}: {}: {records} records", course.name));
}

/// Whether a call of which only the answer was to be lost was done: one that the service itself
/// refused shows nothing. What is done late may come when it was tried again already.
fn as_meant(entry: &Entry) -> bool {
    let done = matches!(entry.fault, Some("drop_after" | "done_but"));
    !done || entry.effect == Effect::Done
}

/// A worker on which a pod of the work runs.
fn at_work(stage: &mut Stage) -> Option<Worker> {
    let running = stage.world.truth()?.running;
    let works = |worker: &Worker| running.values().any(|node| *node == worker.node);
    stage.workers().into_iter().find(works)
}

/// The next such call meets the fault.
fn met((api, method, path): Call, fault: Fault) -> Rule {
    Rule::new(path, fault).on(api).method(method).times(1)
}

fn unavailable(api: Api) -> Refusal {
    match api {
        Api::OpenStack => Refusal::nova(503, "The server is currently unavailable."),
        Api::Kubernetes => Refusal::kubernetes(
            503,
            "ServiceUnavailable",
            "the server is currently unable to handle the request",
        ),
    }
}
