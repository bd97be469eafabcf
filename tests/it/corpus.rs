//! Every fuzz target on every file of its corpus, so that what fuzzing once found stays found;
//! and on files made from these by chance, by seed.
//!
//! `RHIZOME_FUZZ_SECONDS=300 cargo test corpus` goes on for so long with each target, on other
//! inputs each time. That needs no nightly compiler; `fuzz/README.md` says how to do it with one.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rhizome::clock::RealClock;
use rhizome_engine::time::Clock;

use crate::support::Dice;

#[allow(
    unreachable_pub,
    reason = "public in the fuzz crate, whose files these are"
)]
#[path = "../../fuzz/src/lib.rs"]
mod targets;

/// Made-up inputs for each target in an ordinary run: a second or two in a debug build.
const INPUTS: u64 = 300;

/// The longest made-up input: as far as the targets' own fuzzing goes.
const INPUT_MAX: usize = 64 << 10;

/// What is put into inputs: words and values on which readers were seen to stumble.
const WORDS: &[&str] = &[
    "\"",
    "\\",
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "\n",
    "\r\n",
    "\t",
    " ",
    "\u{0}",
    "\u{feff}",
    "\u{202e}",
    "\\u0000",
    "\\ud800",
    "null",
    "true",
    "NaN",
    "inf",
    "-0",
    "1e999",
    "-1",
    "0.1e-400",
    "9223372036854775808",
    "18446744073709551616",
    "9999-12-31T23:59:59Z",
    "node",
    "time",
    "cpu",
    "host",
    "values",
    "labels",
    "alerts",
    "status",
    "firing",
    "resolved",
    "startsAt",
    "fingerprint",
    "&a",
    "*a",
    "<<:",
    "!!binary",
    "---",
    "pools:",
    "|pool|",
    "/*",
    "scale_up(",
    ".when(",
    ".then(",
    "mean(",
    "silent(",
    "5m",
    "0s",
    "99999999999d",
    "eval(",
    "import ",
    "loop {",
    "fn f(x) { f(x) }",
    "${",
    "`",
];

fn files_of(name: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz/corpus")
        .join(name);
    let files = std::fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("the target `{name}` has no corpus: {error}"));
    let mut paths: Vec<_> = files.map(|file| file.unwrap().path()).collect();
    paths.sort();
    let read = |path: PathBuf| {
        let data = std::fs::read(&path).unwrap();
        (path, data)
    };
    paths.into_iter().map(read).collect()
}

#[test]
fn every_corpus_file_passes_its_target() {
    for (name, run) in targets::TARGETS {
        let files = files_of(name);
        assert!(!files.is_empty(), "the corpus of `{name}` is empty");
        for (path, data) in files {
            if std::panic::catch_unwind(|| run(&data)).is_err() {
                panic!("`{name}` fails on {}", path.display());
            }
        }
    }
}

#[test]
#[allow(
    clippy::print_stdout,
    reason = "the seed is how what was found is found again"
)]
fn what_is_made_of_the_corpora_by_chance_passes_too() {
    let seconds = std::env::var("RHIZOME_FUZZ_SECONDS").ok();
    let seconds = seconds.map(|text| text.parse::<u64>().unwrap());
    let clock = RealClock::new();
    std::thread::scope(|scope| {
        for (name, run) in targets::TARGETS {
            let clock = &clock;
            scope.spawn(move || {
                let began = clock.now().mono;
                let bound = Duration::from_secs(seconds.unwrap_or_default());
                let more = |count: u64| match seconds {
                    None => count < INPUTS,
                    Some(_) => clock.now().mono.since(began) < bound,
                };
                let seed = seconds.map_or(1, |_| now());
                let count = made_up(name, *run, seed, more);
                println!("{name}: {count} inputs from seed {seed}");
            });
        }
    });
}

/// Another number each time.
#[allow(
    clippy::disallowed_methods,
    reason = "a seed of chance is no time that anything is decided by"
)]
fn now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    u64::try_from(now.as_millis()).unwrap()
}

/// Runs a target on made-up inputs for as long as there are to be more; gives how many.
fn made_up(name: &str, run: fn(&[u8]), seed: u64, more: impl Fn(u64) -> bool) -> u64 {
    let files = files_of(name);
    let mut dice = Dice(seed);
    let mut count = 0;
    while more(count) {
        let input = mutate(&files, &mut dice);
        if std::panic::catch_unwind(|| run(&input)).is_err() {
            let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("fuzz-{name}"));
            std::fs::write(&kept, &input).unwrap();
            panic!(
                "`{name}` fails on input {count} of seed {seed}: {}",
                kept.display()
            );
        }
        count += 1;
    }
    count
}

/// A file of the corpus with a few changes.
fn mutate(files: &[(PathBuf, Vec<u8>)], dice: &mut Dice) -> Vec<u8> {
    let any = |dice: &mut Dice| &files[pick(dice, files.len())].1;
    let mut input = any(dice).clone();
    for _ in 0..1 + dice.below(6) {
        let at = pick(dice, input.len() + 1);
        let end = at + pick(dice, (input.len() - at).min(64) + 1);
        match dice.below(8) {
            0 if at < input.len() => input[at] ^= 1 << dice.below(8),
            1 if at < input.len() => input[at] = u8::try_from(dice.below(256)).unwrap(),
            2 => drop(input.drain(at..end)),
            3 => input.truncate(at),
            4 => {
                let again = input[at..end].repeat(1 + pick(dice, 200));
                input.splice(at..at, again);
            }
            5 => {
                let other = any(dice);
                let from = pick(dice, other.len() + 1);
                input.splice(at.., other[from..].iter().copied());
            }
            6 => {
                let digits = input[at..].iter().position(u8::is_ascii_digit);
                if let Some(digit) = digits {
                    let word = WORDS[pick(dice, WORDS.len())];
                    input.splice(at + digit..=at + digit, word.bytes());
                }
            }
            _ => {
                let word = WORDS[pick(dice, WORDS.len())];
                input.splice(at..at, word.bytes());
            }
        }
        input.truncate(INPUT_MAX);
    }
    input
}

fn pick(dice: &mut Dice, below: usize) -> usize {
    usize::try_from(dice.below(below as u64)).unwrap()
}

#[test]
fn every_target_is_a_binary_and_every_corpus_has_a_target() {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    let names_in = |folder: &str, end: &str| -> Vec<String> {
        let mut names: Vec<String> = std::fs::read_dir(fuzz.join(folder))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .map(|name| name.trim_end_matches(end).to_owned())
            .collect();
        names.sort();
        names
    };
    let mut targets: Vec<String> = targets::TARGETS
        .iter()
        .map(|(name, _)| (*name).to_owned())
        .collect();
    targets.sort();
    assert_eq!(names_in("fuzz_targets", ".rs"), targets);
    assert_eq!(names_in("corpus", ""), targets);
    let manifest = std::fs::read_to_string(fuzz.join("Cargo.toml")).unwrap();
    for name in targets {
        assert!(manifest.contains(&format!("name = \"{name}\"")), "{name}");
    }
}
