//! Every seeded bug of `tests/mutants` can still be put into the sources as they are now, and
//! the test that it is to turn red is there. `tests/mutants/run` does put them in.

use std::path::Path;
use std::process::Command;

use crate::harness::said;

#[test]
fn every_seeded_bug_can_still_be_put_in() {
    let run = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/mutants/run");
    let (code, text) = said(&Command::new(run).arg("--check").output().unwrap());
    assert_eq!(code, 0, "{text}");
    let count = text.lines().last().and_then(|line| line.split(' ').next());
    assert!(count.unwrap().parse::<usize>().unwrap() >= 12, "{text}");
}
