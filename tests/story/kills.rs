//! The story with one kill in each course, and its parts again and again with the program killed
//! at each of their records.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::courses::{BUILD, Course, Part, STORY};
use crate::say;
use crate::stage::{Ladder, Stage};
use crate::world::World;

/// Makes one more world for a stage of its own.
pub(crate) trait Worlds: Fn() -> Box<dyn World> + Sync {}

impl<T: Fn() -> Box<dyn World> + Sync> Worlds for T {}

/// Plays a course; gives how many records it had.
fn play(stage: &mut Stage, course: &Course) -> usize {
    stage.begin(course.name);
    (course.play)(stage);
    stage.length()
}

/// The whole story, without a kill.
pub(crate) fn whole(worlds: &impl Worlds) {
    let mut stage = Stage::new(worlds(), Ladder::RebootHelps);
    for course in &STORY {
        let length = play(&mut stage, course);
        say(&format!("{}: {length} records", course.name));
    }
    stage.end();
}

/// Each troupe tells its courses, all at the same time, with one kill in each course: at which of
/// its records, the seed says. One that has none is told with a kill at its beginning.
pub(crate) fn sampled(troupes: &[&[Course]], seed: u64, worlds: &impl Worlds) {
    say(&format!("seed {seed}"));
    std::thread::scope(|scope| {
        for (troupe, courses) in troupes.iter().enumerate() {
            scope.spawn(move || {
                let mut dice = Dice(seed.wrapping_add(1_000 * troupe as u64));
                let mut stage = Stage::new(worlds(), Ladder::RebootHelps);
                for course in *courses {
                    let records = dice.upto(course.records);
                    stage.kill_at(records);
                    let length = play(&mut stage, course);
                    let killed = if stage.spared() {
                        "not killed"
                    } else {
                        "killed"
                    };
                    let name = course.name;
                    say(&format!(
                        "{name}: {length} records, {killed} after {records}"
                    ));
                }
                stage.end();
            });
        }
    });
}

/// A part, and the records at which the program is killed in each of its courses.
pub(crate) struct Span {
    pub(crate) part: &'static Part,
    pub(crate) from: usize,
    /// None: until the kill comes too late for all of its courses.
    pub(crate) to: Option<usize>,
}

impl Span {
    /// All records of a part. One that has none is told with a kill at its beginning.
    pub(crate) fn whole(part: &'static Part) -> Self {
        Self {
            part,
            from: part.records().min(1),
            to: None,
        }
    }
}

/// So many troupes tell the span at the same time, each on one stage for as long as that has a
/// worker which nothing befell yet.
pub(crate) fn at_every_record(span: &Span, troupes: usize, worlds: &impl Worlds) {
    let killed = Killed::default();
    let next = AtomicUsize::new(span.from);
    let last = AtomicUsize::new(span.to.unwrap_or(usize::MAX));
    std::thread::scope(|scope| {
        for _ in 0..troupes {
            scope.spawn(|| {
                let _failing = EndsAll(&last);
                let mut on = None;
                loop {
                    let records = next.fetch_add(1, Ordering::SeqCst);
                    if records > last.load(Ordering::SeqCst) {
                        break;
                    }
                    let stage = stage_for(span.part, on.take(), worlds);
                    if !killed_at(on.insert(stage), span.part, records, &killed) {
                        last.fetch_min(records, Ordering::SeqCst);
                    }
                }
                if let Some(stage) = on {
                    stage.end();
                }
            });
        }
    });
    say(&format!("{}: {killed}", span.part.name));
}

/// A stage for the part: the one that there is, if it will do.
fn stage_for(part: &Part, there: Option<Stage>, worlds: &impl Worlds) -> Stage {
    if let Some(mut stage) = there {
        if !part.anew && stage.has_fresh() {
            return stage;
        }
        stage.end();
    }
    let mut stage = Stage::new(worlds(), part.ladder);
    if !part.builds() {
        play(&mut stage, &BUILD);
    }
    stage
}

/// Plays the part's courses with a kill in each; whether any of them had so many records.
fn killed_at(stage: &mut Stage, part: &Part, records: usize, killed: &Killed) -> bool {
    let mut any = false;
    for course in part.courses {
        stage.kill_at(records);
        let length = play(stage, course);
        if !stage.spared() {
            any = true;
            killed.note(course.name, records);
            say(&format!(
                "{}: {length} records, killed after {records}",
                course.name
            ));
        }
    }
    stage.rest();
    any
}

/// If whoever holds it panics, nothing more of the span is told.
struct EndsAll<'a>(&'a AtomicUsize);

impl Drop for EndsAll<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.store(0, Ordering::SeqCst);
        }
    }
}

/// The records after which the program was killed, by course.
#[derive(Default)]
struct Killed(Mutex<BTreeMap<&'static str, BTreeSet<usize>>>);

impl Killed {
    fn note(&self, course: &'static str, records: usize) {
        let mut killed = self.0.lock().unwrap();
        killed.entry(course).or_default().insert(records);
    }
}

impl fmt::Display for Killed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let killed = self.0.lock().unwrap();
        for (course, records) in killed.iter() {
            write!(f, "in \"{course}\" killed {} times, after", records.len())?;
            for record in records {
                write!(f, " {record}")?;
            }
            f.write_str("; ")?;
        }
        f.write_str("all of it came out")
    }
}

/// Enough of randomness for a sample, and the same everywhere (SplitMix64).
struct Dice(u64);

impl Dice {
    /// From 1 to `most`; 0 if that is 0.
    fn upto(&mut self, most: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let one = usize::try_from((z ^ (z >> 31)) % most.max(1) as u64).unwrap();
        most.min(1 + one)
    }
}
