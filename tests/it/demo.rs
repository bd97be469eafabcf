//! `rhizome demo` as a person starts it: the whole story comes out, and a changed line of a
//! policy changes it.
//!
//! These two go at their own pace and take most of two minutes; they run side by side.

use std::path::Path;
use std::process::Command;

use crate::harness::said;

/// Hardly faster than the demo goes by itself: at twice of that, a pause of two seconds on a
/// loaded machine is a minute of silence of every agent.
const SPEED: &str = "15";

fn demo(more: &[&str]) -> (i32, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_rhizome"))
        .args(["demo", "--plain", "--speed", SPEED])
        .args(more)
        .env_remove("RUST_LOG")
        .output()
        .unwrap();
    said(&output)
}

/// What the demo tells again at its end.
fn summary(text: &str) -> &str {
    text.split_once("What was decided and refused, and why:")
        .unwrap_or_else(|| panic!("no summary:\n{text}"))
        .1
}

#[test]
fn the_demos_story_comes_out() {
    let (code, text) = demo(&[]);
    assert_eq!(code, 0, "{text}");
    let summary = summary(&text);
    let after = |from: &str, wanted: &str| {
        let (_, rest) = summary.split_once(from).unwrap_or_default();
        let lines: Vec<_> = rest.lines().filter(|line| line.contains(wanted)).collect();
        assert!(!lines.is_empty(), "no `{wanted}` after `{from}`:\n{text}");
        lines[0].to_owned()
    };
    let added = after("the load rises", "decided  add");
    assert!(
        added.contains("scale.rhai:") && added.contains("mean(\"cpu\", \"2m\") = 0."),
        "by the rule, with the value that it saw: {added}"
    );
    after("the load rises", "added    workers-");
    after("the load falls", "removed  workers-");
    let replaced = after("is pulled", "decided  replace");
    assert!(
        replaced.contains("heartbeat and kubernetes agree"),
        "two witnesses: {replaced}"
    );
    after("is pulled", "healed   workers-");
    after("the broker stalls", "brake on  kafka cannot be heard");
    after("the broker goes on", "brake off kafka is heard again");
    let (_, stall) = summary.split_once("the broker stalls").unwrap();
    for harm in [
        "decided  remove",
        "decided  replace",
        "removed  ",
        "healed  ",
    ] {
        assert!(!stall.contains(harm), "{harm}:\n{stall}");
    }
    assert!(summary.contains("The story came out"), "{text}");
}

#[test]
fn one_changed_line_of_a_policy_changes_the_story() {
    let folder = tempfile::tempdir().unwrap();
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/demo/policies");
    for entry in std::fs::read_dir(shipped).unwrap() {
        let entry = entry.unwrap();
        let text = std::fs::read_to_string(entry.path()).unwrap();
        let text = text.replace(
            "mean(\"cpu\", \"2m\") > 0.75",
            "mean(\"cpu\", \"2m\") > 0.99",
        );
        std::fs::write(folder.path().join(entry.file_name()), text).unwrap();
    }
    let (code, text) = demo(&["--policies", folder.path().to_str().unwrap()]);
    assert_eq!(code, 1, "{text}");
    let (_, rise) = summary(&text).split_once("the load rises").unwrap();
    assert!(!rise.contains("decided  add"), "{rise}");
    assert!(rise.contains("this did not happen in time"), "{rise}");
}
