//! One file per good and per bad configuration; beside each bad one, what an operator is told.

use std::path::{Path, PathBuf};

use rhizome::config;

fn files(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/config")
        .join(folder);
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "yaml")
        })
        .collect();
    files.sort();
    assert!(files.len() > 3, "the files are gone");
    files
}

fn name(path: &Path) -> String {
    path.file_name().unwrap().to_string_lossy().into_owned()
}

#[test]
fn good_configurations_are_taken() {
    for path in files("good") {
        let text = std::fs::read_to_string(&path).unwrap();
        if let Err(error) = config::parse(&name(&path), &text) {
            panic!("{error}");
        }
    }
}

#[test]
fn bad_configurations_are_refused_with_every_error_and_its_place() {
    let update = std::env::var_os("UPDATE_EXPECT").is_some();
    let mut wrong = Vec::new();
    for path in files("bad") {
        let text = std::fs::read_to_string(&path).unwrap();
        let error = config::parse(&name(&path), &text).expect_err(&name(&path));
        let said = error.to_string();
        for secret in ["hunter2", "s3cr3t-token"] {
            assert!(!said.contains(secret), "{said}");
        }
        let expected_path = path.with_extension("txt");
        if update {
            std::fs::write(&expected_path, &said).unwrap();
        }
        let expected = std::fs::read_to_string(&expected_path).unwrap_or_default();
        if said != expected {
            wrong.push(format!(
                "{}:\n{said}\n--- expected:\n{expected}",
                name(&path)
            ));
        }
    }
    assert!(
        wrong.is_empty(),
        "UPDATE_EXPECT=1 rewrites them:\n{}",
        wrong.join("\n")
    );
}
