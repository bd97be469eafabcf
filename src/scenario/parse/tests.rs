//! Every word of the format, what is refused and where, and that its page says the same.

use super::*;

/// The page that describes the format.
const PAGE: &str = include_str!("../../../tests/scenarios/README.md");

/// A head to which single lines are added.
const HEAD: &str = "policy scale.rhai\npool workers min=1 max=3\nnodes workers: w1 w2\n";

fn error(text: &str) -> String {
    parse(text).unwrap_err().to_string()
}

/// What the page shows in backticks in the first column of the table under `heading`.
fn shown(heading: &str) -> Vec<&'static str> {
    let section = PAGE.split("\n## ").find(|part| part.starts_with(heading));
    let rows = section.unwrap().lines().filter_map(|line| {
        let cell = line.strip_prefix("| `")?;
        Some(cell.split_once('`').unwrap().0)
    });
    rows.collect()
}

#[test]
fn a_whole_scenario_is_read() {
    let text = format!(
        "# Says what it is for.\n{HEAD}run_on 5m\n\nseries every 15s\n  cpu{{node=\"w1\"}}: 0.2x2 _ 1+2x1\n\n\
         events\n  2m die w2\n  90s kafka down\n\nexpect\n  2m decide this\n"
    );
    let scenario = parse(&text).unwrap();
    assert_eq!(scenario.policies, ["scale.rhai"]);
    assert_eq!(scenario.every, Duration::from_secs(15));
    assert_eq!(scenario.run_on, Duration::from_secs(300));
    let values = [Some(0.2), Some(0.2), Some(0.2), None, Some(1.0), Some(3.0)];
    assert_eq!(scenario.series[0].values, values);
    assert_eq!(scenario.series[0].of, Target::Node(NodeName::new("w1")));
    // In the order of time, however they are written.
    assert_eq!(
        scenario.events[0],
        (
            Duration::from_secs(90),
            Happening::Source(SourceName::Kafka, false)
        )
    );
    assert_eq!(scenario.expected, ["2m decide this"]);
}

#[test]
fn what_cannot_be_read_says_its_line_and_what_to_write() {
    for (line, says) in [
        ("colour red", "line 4: `colour` is none of policy"),
        ("policy", "line 4: `policy` is none of"),
        ("  0.2x30", "line 4: an indented line belongs under"),
        ("nodes w1 w2", "line 4: write `nodes POOL: NAME NAME ...`"),
        ("pool", "line 4: write `pool NAME min=1 max=5`"),
        ("pool p min", "line 4: `min`: write `key=value`"),
        ("pool p min=many", "line 4: `many` is no number"),
        ("pool p min=-1", "line 4: `-1` is no number"),
        ("pool p kubernetes=no", "line 4: write true or false"),
        ("pool p colour=red", "line 4: a pool has no `colour` here"),
        ("run_on 5", "line 4: `5` is not a duration"),
        ("expect this", "line 4: `expect` stands alone"),
        ("events now", "line 4: `events` stands alone"),
        ("series now", "line 4: write `series every 10s`"),
        ("expect\n  1m end\nevents", "line 6: `expect` is the last"),
        ("expect\n  1m end\nexpect", "line 6: `expect` is the last"),
        ("series every now", "line 4: `now` is not a duration"),
        (
            "series\n  cpu 0.2",
            "line 5: write `metric{node=\"w1\"}: 0.2x30`",
        ),
        (
            "series\n  cpu: 0.2",
            "line 5: a series is of one `node` or of one `pool`",
        ),
        (
            "series\n  cpu{node=w1}: 0.2",
            "line 5: `node=w1` is no label",
        ),
        (
            "series\n  cpu{node=\"w1\": 0.2",
            "line 5: `cpu{node=\"w1\"`: the `{` is not closed",
        ),
        (
            "series\n  cpu{node=\"w1\"}:",
            "line 5: a series needs values",
        ),
        (
            "series\n  cpu{node=\"w1\"}: 0.2y3",
            "line 5: `0.2y3` is no value",
        ),
        (
            "series\n  cpu{node=\"w1\"}: _x-1",
            "line 5: `_x-1` is no value",
        ),
        (
            "series\n  cpu{node=\"w1\"}: 1x99999999",
            "line 5: more than 60480 values",
        ),
        ("events\n  10m", "line 5: write a time and what happens"),
        ("events\n  soon die w1", "line 5: `soon` is not a duration"),
        (
            "events\n  1m explode w1",
            "line 5: `explode w1` cannot happen here",
        ),
        (
            "events\n  1m kafka gone",
            "line 5: `gone`: write up, down, on or off",
        ),
        (
            "events\n  1m unschedulable some",
            "line 5: `some` is no number",
        ),
        (
            "events\n  1m scale workers all",
            "line 5: `all` is no number",
        ),
        (
            "events\n  1m cancel it",
            "line 5: `it` is not the id of an operation",
        ),
        (
            "events\n  1m maintenance node w1 long",
            "line 5: `long` is not a duration",
        ),
    ] {
        let told = error(&format!("{HEAD}{line}\n"));
        assert!(told.starts_with(says), "{line:?}: {told}");
    }
}

#[test]
fn every_event_that_the_page_shows_can_happen() {
    let shown = shown("Events");
    assert!(shown.len() >= 20, "{shown:?}");
    for event in &shown {
        let text = format!("{HEAD}events\n  1m {event}\n");
        parse(&text).unwrap_or_else(|why| panic!("{event}: {why}"));
    }
}

#[test]
fn the_page_shows_every_word_that_can_happen() {
    let words: Vec<_> = shown("Events")
        .into_iter()
        .map(|event| event.split(' ').next().unwrap())
        .collect();
    let source = include_str!("../parse.rs");
    let begin = source.find("fn read_happening").unwrap();
    let end = source.find("fn duration").unwrap();
    // The words that the parser matches stand in its arms, as the first text of each.
    let arms = source[begin..end].lines().filter_map(|line| {
        let arm = line.trim().strip_prefix("[\"")?;
        Some(arm.split_once('"').unwrap().0)
    });
    let mut count = 0;
    for word in arms.chain(["kafka", "collector", "openstack", "kubernetes"]) {
        assert!(words.contains(&word), "the page does not show `{word}`");
        count += 1;
    }
    assert!(count >= 18, "the parser's arms were not found");
}

#[test]
fn every_word_of_the_head_and_of_a_pool_is_on_the_page() {
    for line in shown("Head") {
        let text = format!("{line}\n");
        parse(&text).unwrap_or_else(|why| panic!("{line}: {why}"));
    }
    for pair in shown("Pools") {
        let text = format!("pool workers {pair}\n");
        parse(&text).unwrap_or_else(|why| panic!("{pair}: {why}"));
    }
    for word in [
        "min",
        "max",
        "surge",
        "kubernetes",
        "stabilization",
        "build_timeout",
    ] {
        assert!(PAGE.contains(&format!("| `{word}=")), "{word}");
    }
}
