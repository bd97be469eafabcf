//! The story, and its courses again and again with the program killed at each of their records.

use std::collections::{BTreeMap, VecDeque};
use std::io::Write;
use std::sync::Mutex;

use crate::courses::{Course, GROUPS, STORY};
use crate::stage::Stage;
use crate::world::World;

/// Stages that are played side by side: they wait most of the time.
const LANES: usize = 16;

/// How many records each course has when nobody is killed, by its name.
pub(crate) type Lengths = BTreeMap<&'static str, usize>;

/// Plays a course; gives how many records it had.
fn play(stage: &mut Stage, course: &Course) -> usize {
    stage.begin(course.name);
    (course.play)(stage);
    stage.length()
}

/// Says how far the story is. Not by `eprintln`: the harness would keep that to itself.
fn say(what: &str) {
    let mut stderr = std::io::stderr();
    writeln!(stderr, "story: {what}").unwrap();
}

/// The whole story, without a kill.
pub(crate) fn whole(world: impl Fn() -> Box<dyn World>) -> Lengths {
    let mut stage = Stage::new(world());
    let mut lengths = Lengths::new();
    for course in &STORY {
        let length = play(&mut stage, course);
        say(&format!("{}: {length} records", course.name));
        lengths.insert(course.name, length);
    }
    stage.end();
    lengths
}

/// Each group of courses once for each record that one of them has, with a kill there.
pub(crate) fn at_every_record(lengths: &Lengths, world: impl Fn() -> Box<dyn World> + Send + Sync) {
    let mut waiting = VecDeque::new();
    for group in GROUPS {
        let killed = killed_in(group);
        let longest = killed.iter().map(|course| lengths[course.name]).max();
        waiting.extend((1..=longest.unwrap_or(0)).map(|records| (group, records)));
    }
    let waiting = Mutex::new(waiting);
    let next = || waiting.lock().unwrap().pop_front();
    std::thread::scope(|scope| {
        for _ in 0..LANES {
            scope.spawn(|| {
                while let Some((group, records)) = next() {
                    killed_at(world(), group, lengths, records);
                }
            });
        }
    });
}

/// The courses of a group that are interrupted: all but the beginning, if there are others.
fn killed_in(group: &'static [Course]) -> &'static [Course] {
    if group.len() > 1 { &group[1..] } else { group }
}

fn killed_at(world: Box<dyn World>, group: &'static [Course], lengths: &Lengths, records: usize) {
    let mut stage = Stage::new(world);
    let quiet = group.len() - killed_in(group).len();
    for (place, course) in group.iter().enumerate() {
        if place >= quiet && records <= lengths[course.name] {
            stage.kill_at(records);
        }
        play(&mut stage, course);
        // It may have had fewer records this time.
        stage.spared();
    }
}
