//! The locks on the structure: who leans on whom, what the engine may not have, where a pass
//! is granted, where unsafe code is, and which cryptography is in the tree.
//!
//! It reads `cargo metadata` and the sources, so a change of the structure is a change here.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// Our packages, and which of ours each may lean on outside of its tests.
const ROOMS: [(&str, &[&str]); 5] = [
    (
        "rhizome",
        &[
            "rhizome-actions",
            "rhizome-connectors",
            "rhizome-engine",
            "rhizome-standin",
        ],
    ),
    ("rhizome-actions", &["rhizome-engine"]),
    ("rhizome-connectors", &["rhizome-engine"]),
    ("rhizome-engine", &[]),
    ("rhizome-standin", &["rhizome-engine"]),
];

/// All that the engine may lean on: arithmetic, text, hashing and the script host. No package
/// that does I/O, reads a clock or runs tasks.
const ENGINE_MAY: &[&str] = &[
    "foldhash",
    "hashbrown",
    "jiff",
    "rhai",
    "serde",
    "serde_json",
    "sha2",
    "strsim",
    "thiserror",
    "uuid",
];

/// Packages that do I/O or run tasks: nowhere below the engine either.
const IO: &[&str] = &[
    "async-std",
    "axum",
    "hyper",
    "kube",
    "mio",
    "rdkafka",
    "reqwest",
    "rustls",
    "smol",
    "socket2",
    "tokio",
];

/// The files that may grant a pass for a mutating call: the gate, and the gates of tests.
const GRANTS: &[&str] = &["actions/src/lib.rs", "src/gate.rs"];

/// The one file with unsafe code.
const UNSAFE: &str = "connectors/src/kafka/batch.rs";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The system that this was compiled on and for.
fn host() -> String {
    let output = Command::new("rustc").arg("-vV").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    host.unwrap().to_owned()
}

fn metadata() -> Value {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--offline", "--locked"])
        // Packages of other systems may never have been downloaded.
        .args(["--filter-platform", &host()])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).unwrap()
}

/// What `package` leans on directly in a build that is no test.
fn leans_on(metadata: &Value, package: &str) -> BTreeSet<String> {
    let packages = metadata["packages"].as_array().unwrap();
    let package = packages.iter().find(|one| one["name"] == package).unwrap();
    let dependencies = package["dependencies"].as_array().unwrap();
    dependencies
        .iter()
        .filter(|one| one["kind"] != "dev")
        .map(|one| one["name"].as_str().unwrap().to_owned())
        .collect()
}

/// Every package that is built for `package`, but for its tests.
fn built_for(metadata: &Value, package: &str) -> BTreeSet<String> {
    let nodes = metadata["resolve"]["nodes"].as_array().unwrap();
    let nodes: BTreeMap<&str, &Value> = nodes
        .iter()
        .map(|node| (node["id"].as_str().unwrap(), node))
        .collect();
    let packages = metadata["packages"].as_array().unwrap();
    let names: BTreeMap<&str, &str> = packages
        .iter()
        .map(|one| (one["id"].as_str().unwrap(), one["name"].as_str().unwrap()))
        .collect();
    let first = names.iter().find(|(_, name)| **name == package).unwrap();
    let mut ahead = vec![*first.0];
    let mut seen = BTreeSet::new();
    while let Some(id) = ahead.pop() {
        if !seen.insert(id) {
            continue;
        }
        for dependency in nodes[id]["deps"].as_array().unwrap() {
            let kinds = dependency["dep_kinds"].as_array().unwrap();
            if kinds.iter().any(|kind| kind["kind"].is_null()) {
                ahead.push(dependency["pkg"].as_str().unwrap());
            }
        }
    }
    seen.into_iter().map(|id| names[id].to_owned()).collect()
}

/// The Rust files of all our packages, by their path from the root; build folders left out.
fn sources() -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut ahead: Vec<PathBuf> = [
        "src",
        "tests",
        "benches",
        "engine",
        "connectors",
        "actions",
        "standin",
    ]
    .iter()
    .map(|name| root().join(name))
    .filter(|path| path.is_dir())
    .collect();
    while let Some(folder) = ahead.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                if !path.ends_with("target") {
                    ahead.push(path);
                }
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                let name = path.strip_prefix(root()).unwrap().to_str().unwrap();
                found.push((name.to_owned(), text));
            }
        }
    }
    assert!(found.len() > 100, "the sources are not where they were");
    found
}

/// The code of a file: without comments, and without this file's own words about it.
fn code(text: &str) -> impl Iterator<Item = &str> {
    text.lines()
        .map(|line| line.split("//").next().unwrap_or_default())
}

/// The engine's modules that are compiled for its tests only.
fn modules_for_tests(sources: &[(String, String)]) -> BTreeSet<String> {
    sources
        .iter()
        .filter(|(name, _)| name.starts_with("engine/src/"))
        .flat_map(|(_, text)| text.split("#[cfg(test)]\nmod ").skip(1))
        .filter_map(|rest| rest.lines().next()?.strip_suffix(';'))
        .map(str::to_owned)
        .collect()
}

fn is_test(name: &str) -> bool {
    name.contains("tests/") || name.ends_with("tests.rs") || name.contains("benches/")
}

#[test]
fn each_room_leans_on_those_it_may_and_connectors_and_actions_never_meet() {
    let metadata = metadata();
    let ours: BTreeSet<&str> = ROOMS.iter().map(|(name, _)| *name).collect();
    let members = metadata["workspace_members"].as_array().unwrap();
    assert_eq!(members.len(), ROOMS.len(), "a new room is named here");
    for (room, may) in ROOMS {
        let leans = leans_on(&metadata, room);
        let on_ours: Vec<&str> = leans
            .iter()
            .map(String::as_str)
            .filter(|name| ours.contains(name))
            .collect();
        assert_eq!(on_ours, may, "{room}");
    }
}

#[test]
fn nothing_that_does_io_is_built_for_the_engine() {
    let metadata = metadata();
    let leans = leans_on(&metadata, "rhizome-engine");
    let may: BTreeSet<String> = ENGINE_MAY.iter().map(|name| (*name).to_owned()).collect();
    let beyond: Vec<_> = leans.difference(&may).collect();
    assert!(beyond.is_empty(), "the engine leans on {beyond:?}");
    let built = built_for(&metadata, "rhizome-engine");
    let io: Vec<_> = IO.iter().filter(|name| built.contains(**name)).collect();
    assert!(io.is_empty(), "{io:?} are built for the engine");
    assert!(
        built_for(&metadata, "rhizome").contains("tokio"),
        "the walk over the tree finds what is there"
    );
}

#[test]
fn the_engines_sources_name_no_file_socket_thread_or_clock() {
    let forbidden = [
        "std::fs",
        "std::net",
        "std::thread",
        "std::process",
        "std::env",
        "Instant::now",
        "SystemTime::now",
        "tokio::",
    ];
    let sources = sources();
    let for_tests = modules_for_tests(&sources);
    for (name, text) in &sources {
        let module = name.trim_end_matches(".rs").rsplit('/').next();
        let own = module.is_some_and(|module| for_tests.contains(module));
        if !name.starts_with("engine/src/") || is_test(name) || own {
            continue;
        }
        // Tests stand at the foot of a file.
        let own = text.split("#[cfg(test)]").next().unwrap_or_default();
        for (number, line) in code(own).enumerate() {
            for word in forbidden {
                assert!(!line.contains(word), "{name}:{}: {word}", number + 1);
            }
        }
    }
}

#[test]
fn a_pass_for_a_mutating_call_is_granted_by_the_gate_alone() {
    let asked = ["Pass", "::granted("].concat();
    let mut by_the_gate = 0;
    for (name, text) in sources() {
        let own = text.split("#[cfg(test)]").next().unwrap_or_default();
        let grants = code(own).filter(|line| line.contains(&asked)).count();
        if is_test(&name) || grants == 0 {
            continue;
        }
        assert!(GRANTS.contains(&name.as_str()), "{name} grants passes");
        by_the_gate += usize::from(name == "src/gate.rs") * grants;
    }
    assert_eq!(by_the_gate, 1, "one place of the gate grants");
}

#[test]
fn unsafe_code_is_in_one_file() {
    let words: [String; 3] = ["{", "fn", "impl"].map(|after| ["unsafe", after].join(" "));
    let mut with = BTreeSet::new();
    for (name, text) in sources() {
        if code(&text).any(|line| words.iter().any(|word| line.contains(word))) {
            with.insert(name);
        }
    }
    assert_eq!(with.into_iter().collect::<Vec<_>>(), [UNSAFE]);
}

#[test]
fn every_package_has_the_lints_of_the_workspace() {
    for folder in ["", "engine", "connectors", "actions", "standin"] {
        let path = root().join(folder).join("Cargo.toml");
        let text = std::fs::read_to_string(path).unwrap();
        let (_, lints) = text.split_once("\n[lints]\n").unwrap_or_default();
        assert!(lints.starts_with("workspace = true"), "`{folder}` has none");
    }
}

#[test]
fn there_is_one_provider_of_cryptography() {
    let metadata = metadata();
    let packages = metadata["packages"].as_array().unwrap();
    let named = |name: &str| {
        packages
            .iter()
            .filter(|one| one["name"] == name)
            .map(|one| one["version"].as_str().unwrap())
            .collect::<Vec<_>>()
    };
    let built = built_for(&metadata, "rhizome");
    for absent in ["aws-lc-rs", "aws-lc-sys", "native-tls"] {
        assert!(!built.contains(absent), "{absent} is built");
    }
    assert_eq!(named("rustls").len(), 1, "one rustls");
    assert_eq!(named("ring").len(), 1, "one ring");
    let nodes = metadata["resolve"]["nodes"].as_array().unwrap();
    let rustls = nodes
        .iter()
        .find(|node| node["id"].as_str().unwrap().contains("#rustls@"))
        .unwrap();
    let features: Vec<_> = rustls["features"].as_array().unwrap().iter().collect();
    assert!(features.iter().any(|one| *one == "ring"), "{features:?}");
    assert!(
        !features
            .iter()
            .any(|one| one.as_str().unwrap().starts_with("aws")),
        "{features:?}"
    );
}

/// Every invariant has its row in ARCHITECTURE.md, which names tests that are there, or says why
/// there is none.
#[test]
fn every_invariant_names_a_test_that_is_there() {
    let page = std::fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let rows: BTreeMap<u32, &str> = page
        .lines()
        .filter_map(|line| {
            let (number, rest) = line.strip_prefix("| I")?.split_once(" |")?;
            Some((number.parse().ok()?, rest))
        })
        .collect();
    let numbers: Vec<u32> = rows.keys().copied().collect();
    assert_eq!(numbers, (1..=40).collect::<Vec<_>>());
    for (number, row) in rows {
        let named: Vec<(&str, &str)> = row
            .split('`')
            .filter_map(|part| part.split_once(".rs: "))
            .collect();
        let excused = row.contains("does not apply: ") || row.contains("not kept yet: ");
        assert!(!named.is_empty() || excused, "I{number} names no test");
        for (file, test) in named {
            let path = root().join(format!("{file}.rs"));
            let source = std::fs::read_to_string(&path)
                .unwrap_or_else(|error| panic!("I{number}: {}: {error}", path.display()));
            let is_there = source.contains(&format!("fn {test}("));
            assert!(is_there, "I{number}: {file}.rs has no test `{test}`");
        }
    }
}
