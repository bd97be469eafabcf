//! SIGKILL in the middle of everything: the real binary, killed when its journal holds so many
//! records of a course, started again, and looked at once it is done.
//!
//! What must come of it is what would have come without the kill: the machines that were
//! wanted, and no server, token or cordon beside them.

use std::process::Stdio;
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
}

/// Gives an order anew until it is granted: right after a start the guard may still say no.
fn order(site: &Site, course: &Course, why: &str) {
    let arguments = (course.arguments)(site);
    let mut arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    arguments.extend(["--why", why]);
    site.wait(&format!("{} to be granted", course.name), |site| {
        (said(&site.rhizome(&arguments)).0 == 0).then_some(())
    });
}

fn killed_at(site: &mut Site, course: &Course, place: usize) {
    let before = site.record_count();
    let key = format!("{}-{before}", course.name);
    let arguments = (course.arguments)(site);
    let mut arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    arguments.extend(["--why", "killed", "--key", &key]);
    let mut asking = site
        .command(&arguments, &site.server())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    site.wait_each(AT_ONCE, "the place of the kill", |site| {
        let here = site.record_count() >= before + place;
        (here || site.records().last().is_some_and(is_over)).then_some(())
    });
    site.kill();
    asking.wait().unwrap();
    let held = site.record_count() - before;
    let records = site.records();
    let mut since = records.iter().skip(before);
    let granted = since.clone().any(is_granted);
    let taken = since.any(|record| matches!(record, Record::Wish { key: one, .. } if *one == key));
    site.start(&[]);
    if taken {
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
