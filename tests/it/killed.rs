//! SIGKILL in the middle of everything: the real binary, killed when its journal holds so many
//! records of a course, started again, and looked at once it is done.
//!
//! What must come of it is what would have come without the kill: the machines that were
//! wanted, and no server, token or cordon beside them.

use std::process::{Child, Stdio};
use std::time::Duration;

use rhizome_engine::decision::Origin;
use rhizome_engine::journal::Record;
use rhizome_engine::remediation::Phase;
use rhizome_standin::{Fault, Rule};

use crate::harness::{Setup, Site, said, verify};

/// Sites that are tried side by side.
const LANES: usize = 4;

/// Kills of each course on each site: with [`LANES`], eight places of each course.
const CUTS: usize = 2;

/// How often the journal is looked at before a kill: the record must just be there.
const AT_ONCE: Duration = Duration::from_millis(1);

/// How long a change takes: many looks at the journal.
const SLOW: Duration = Duration::from_millis(50);

/// An operator's order, and how many machines there are when it is done.
struct Course {
    name: &'static str,
    arguments: fn(&Site) -> Vec<String>,
    machines: usize,
}

/// In this order each begins where the one before ended, and the last where the first began.
const COURSES: [Course; 3] = [
    Course {
        name: "add",
        arguments: |_| words("scale workers 2"),
        machines: 2,
    },
    Course {
        name: "replace",
        arguments: |site| {
            // Right after a start the machines are not listed yet.
            let one = site.wait("a node", |site| site.nodes().first().cloned());
            words(&format!("replace {}", one.name))
        },
        machines: 2,
    },
    Course {
        name: "remove",
        arguments: |_| words("scale workers 1"),
        machines: 1,
    },
];

fn words(text: &str) -> Vec<String> {
    text.split(' ').map(str::to_owned).collect()
}

#[test]
fn a_kill_after_any_record_leaves_what_was_wanted_and_nothing_else() {
    std::thread::scope(|scope| {
        for lane in 0..LANES {
            scope.spawn(move || run_lane(lane));
        }
    });
}

fn run_lane(lane: usize) {
    let mut site = Site::settled(Setup::default());
    slow_down(&site, lane);
    // Once without a kill, to know how many records each course has.
    let lengths = COURSES.map(|course| {
        let before = site.record_count();
        order(&site, &course, "whole");
        site.wait_settled(course.machines);
        site.record_count() - before
    });
    for cut in 0..CUTS {
        for (course, length) in COURSES.iter().zip(lengths) {
            // The lanes' cuts lie between each other's; the first is after the first record.
            let place = 1 + (cut * LANES + lane) * length / (CUTS * LANES);
            killed_at(&mut site, course, place);
        }
    }
    let (code, text) = verify(&site.path("state"));
    assert_eq!(code, 0, "{text}");
    let wrong = site.unaccounted();
    assert!(wrong.is_empty(), "{wrong:?}");
}

/// Gives an order anew until it is granted: right after a start the guard may still say no. One
/// that was granted before the kill, and is carried out, changes nothing any more.
fn order(site: &Site, course: &Course, why: &str) {
    let mut arguments = (course.arguments)(site);
    arguments.extend(["--why".to_owned(), why.to_owned()]);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    site.wait(&format!("{} to be granted", course.name), |site| {
        let (code, text) = said(&site.rhizome(&arguments));
        (code == 0 || text.contains("no_change")).then_some(())
    });
}

/// An order that is being given while the test looks at the journal.
struct Asking {
    arguments: Vec<String>,
    key: String,
    /// The records there were before it.
    before: usize,
    command: Child,
}

impl Asking {
    fn begin(site: &Site, course: &Course) -> Self {
        let before = site.record_count();
        let key = format!("{}-{before}", course.name);
        let mut arguments = (course.arguments)(site);
        arguments.extend(words(&format!("--why killed --key {key}")));
        let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let command = site
            .command(&words, &site.server())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self {
            arguments,
            key,
            before,
            command,
        }
    }

    fn was_refused(&mut self) -> bool {
        let ended = self.command.try_wait().unwrap();
        ended.is_some_and(|status| !status.success())
    }
}

fn killed_at(site: &mut Site, course: &Course, place: usize) {
    let mut asking = Asking::begin(site, course);
    site.wait_each(AT_ONCE, "the place of the kill", |site| {
        if asking.was_refused() {
            // The sight that returns after a start is no reason to wait here for ever.
            asking = Asking::begin(site, course);
        }
        let here = site.record_count() >= asking.before + place;
        let over = || site.records().iter().skip(asking.before).any(is_over);
        (here || over()).then_some(())
    });
    site.kill();
    asking.command.wait().unwrap();
    let held = site.record_count() - asking.before;
    let records = site.records();
    let mut since = records.iter().skip(asking.before);
    let granted = since.clone().any(is_granted);
    let taken =
        since.any(|record| matches!(record, Record::Wish { key, .. } if *key == asking.key));
    site.start(&[]);
    if taken {
        let arguments: Vec<&str> = asking.arguments.iter().map(String::as_str).collect();
        let again = site.order(&arguments);
        assert!(again.contains("taken before"), "after {held}: {again}");
    }
    if !granted {
        order(site, course, "asked again");
    }
    site.wait_settled(course.machines);
}

fn is_over(record: &Record) -> bool {
    matches!(record, Record::Operation { operation }
        if matches!(operation.phase, Phase::Over { .. }))
}

/// Each change takes a while, so that a kill right after its intent meets it under way: in one
/// half of the lanes before it is done, in the other when it is done and not yet answered.
fn slow_down(site: &Site, lane: usize) {
    for method in ["POST", "PUT", "PATCH", "DELETE"] {
        let fault = if lane.is_multiple_of(2) {
            Fault::Delay(SLOW)
        } else {
            Fault::SlowBody(256, SLOW)
        };
        site.standin.fault(Rule::new("**", fault).method(method));
    }
}

fn is_granted(record: &Record) -> bool {
    matches!(record, Record::Decision { decision }
        if matches!(decision.origin, Origin::Operator(_)))
}
