//! The story, and its courses again and again with the program killed at each of their records.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Mutex;

use crate::courses::{BUILD, Course, GROUPS, STORY};
use crate::say;
use crate::stage::Stage;
use crate::world::World;

/// Stages that are played side by side: they wait most of the time.
const LANES: usize = 16;

/// Where a kill of the sample may fall: the courses have more records than that.
const SAMPLED: usize = 12;

/// How many records each course has when nobody is killed, by its name.
pub(crate) type Lengths = BTreeMap<&'static str, usize>;

/// Plays a course; gives how many records it had.
fn play(stage: &mut Stage, course: &Course) -> usize {
    stage.begin(course.name);
    (course.play)(stage);
    stage.length()
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

/// These courses, with one kill in each: at which of its records, the seed says.
pub(crate) fn sampled(world: Box<dyn World>, courses: &[Course], seed: u64) {
    say(&format!("seed {seed}"));
    let mut stage = Stage::new(world);
    let mut dice = Dice(seed);
    for course in courses {
        let records = dice.upto(SAMPLED);
        stage.kill_at(records);
        let length = play(&mut stage, course);
        let killed = if stage.spared() {
            "not killed".to_owned()
        } else {
            format!("killed after {records}")
        };
        say(&format!("{}: {length} records, {killed}", course.name));
    }
    stage.end();
}

/// Each group of courses on one stage again and again, with the kill one record later each time,
/// until it comes too late for all of them.
pub(crate) fn at_every_record_in_turn(world: Box<dyn World>) {
    let mut stage = Stage::new(world);
    play(&mut stage, &BUILD);
    for group in GROUPS {
        let killed = killed_in(group);
        if killed.iter().any(|course| course.name == BUILD.name) {
            // It is told once only where machines take minutes.
            continue;
        }
        for records in 1.. {
            let mut late = true;
            stage.freshen();
            for course in killed {
                stage.kill_at(records);
                play(&mut stage, course);
                late &= stage.spared();
            }
            stage.rest();
            say(&format!("{}: killed after {records}", killed[0].name));
            if late {
                break;
            }
        }
    }
    stage.end();
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

/// Enough of randomness for a sample, and the same everywhere (SplitMix64).
struct Dice(u64);

impl Dice {
    /// From 1 to `most`.
    fn upto(&mut self, most: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        1 + usize::try_from((z ^ (z >> 31)) % most as u64).unwrap()
    }
}
