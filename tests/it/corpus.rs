//! Every fuzz target on every file of its corpus, so that what fuzzing once found stays found.

use std::path::Path;

#[allow(
    unreachable_pub,
    reason = "public in the fuzz crate, whose files these are"
)]
#[path = "../../fuzz/src/lib.rs"]
mod targets;

#[test]
fn every_corpus_file_passes_its_target() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    for (name, run) in targets::TARGETS {
        let folder = corpus.join(name);
        let files = std::fs::read_dir(&folder)
            .unwrap_or_else(|error| panic!("the target `{name}` has no corpus: {error}"));
        let mut count = 0;
        for file in files {
            let path = file.unwrap().path();
            let data = std::fs::read(&path).unwrap();
            if std::panic::catch_unwind(|| run(&data)).is_err() {
                panic!("`{name}` fails on {}", path.display());
            }
            count += 1;
        }
        assert!(count > 0, "the corpus of `{name}` is empty");
    }
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
