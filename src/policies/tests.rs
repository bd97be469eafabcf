use super::*;
use crate::clock::RealClock;

fn write(folder: &Path, name: &str, text: &str) {
    std::fs::write(folder.join(name), text).unwrap();
}

fn names(files: &[SourceFile]) -> Vec<&str> {
    files.iter().map(|file| file.name.as_str()).collect()
}

#[test]
fn the_rhai_files_of_a_folder_are_read_in_order_and_nothing_else_is() {
    let folder = tempfile::tempdir().unwrap();
    for name in [
        "b.rhai",
        "a.rhai",
        ".hidden.rhai",
        "a.scenario",
        "README.md",
    ] {
        write(folder.path(), name, "");
    }
    let files = read_folder(folder.path()).unwrap();
    assert_eq!(names(&files), ["a.rhai", "b.rhai"]);
}

#[test]
fn no_folder_an_empty_one_and_a_file_too_large_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let read = |path: &Path| read_folder(path).unwrap_err();
    assert!(matches!(
        read(&folder.path().join("no")),
        LoadError::Read { .. }
    ));
    assert!(matches!(read(folder.path()), LoadError::None(_)));
    write(folder.path(), "big.rhai", &"/".repeat(300 << 10));
    assert!(matches!(read(folder.path()), LoadError::TooMuch(_)));
}

#[test]
fn an_error_is_shown_with_its_line_and_a_caret() {
    let files = [SourceFile {
        name: "a.rhai".to_owned(),
        text: "one\ntwo three\n".to_owned(),
    }];
    let errors = [PolicyError {
        file: "a.rhai".to_owned(),
        line: 2,
        column: 5,
        message: "`three` is not known".to_owned(),
    }];
    assert_eq!(
        render(&files, &errors),
        "error: `three` is not known\n --> a.rhai:2:5\n  |\n2 | two three\n  |     ^\n"
    );
}

#[test]
fn loading_has_a_deadline() {
    let files = [SourceFile {
        name: "slow.rhai".to_owned(),
        text: "let i = 0;\nwhile i < 10000 { i += 1; }".to_owned(),
    }];
    assert!(check(&files).is_ok());
    let error = check_within(&files, Duration::ZERO).unwrap_err();
    assert!(error.to_string().contains("past its deadline"), "{error}");
}

/// A folder that is watched, and the changes that it hands over.
struct Watched {
    policies: Arc<Policies>,
    changes: mpsc::Receiver<Change>,
    stop: CancellationToken,
}

fn watch(folder: &Path) -> Watched {
    let policies = Policies::load(folder).unwrap();
    let (sender, changes) = mpsc::channel(8);
    let stop = CancellationToken::new();
    let watching = Arc::clone(&policies).watch(Arc::new(RealClock::new()), sender, stop.clone());
    tokio::spawn(watching);
    Watched {
        policies,
        changes,
        stop,
    }
}

#[tokio::test]
async fn a_symlink_swap_as_of_a_config_map_is_seen() {
    let folder = tempfile::tempdir().unwrap();
    let link = |to: &str, name: &str| {
        let temporary = folder.path().join("..tmp");
        std::os::unix::fs::symlink(to, &temporary).unwrap();
        std::fs::rename(temporary, folder.path().join(name)).unwrap();
    };
    for (version, text) in [("..1", "// one"), ("..2", "// two")] {
        std::fs::create_dir(folder.path().join(version)).unwrap();
        write(&folder.path().join(version), "a.rhai", text);
    }
    link("..1", "..data");
    link("..data/a.rhai", "a.rhai");
    let mut watched = watch(folder.path());
    link("..2", "..data");
    assert!(matches!(
        watched.changes.recv().await,
        Some(Change::Loaded(_))
    ));
    watched.stop.cancel();
    assert!(watched.changes.recv().await.is_none(), "it ends");
}

#[tokio::test]
async fn an_emptied_folder_is_refused_once_and_the_policies_go_on() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "a.rhai", "// one");
    let mut watched = watch(folder.path());
    let before = watched.policies.current();
    std::fs::remove_file(folder.path().join("a.rhai")).unwrap();
    assert!(matches!(
        watched.changes.recv().await,
        Some(Change::Refused(_))
    ));
    assert!(Arc::ptr_eq(&before, &watched.policies.current()));
    assert!(watched.policies.refused().is_some());
    write(folder.path(), "a.rhai", "// two");
    assert!(matches!(
        watched.changes.recv().await,
        Some(Change::Loaded(_))
    ));
    assert!(watched.policies.refused().is_none());
}
