use super::*;
use crate::decision::{Ask, Evidence, Origin};
use crate::names::{NodeName, PoolName};

fn at(seconds: u64) -> Timestamp {
    Timestamp::default().plus(Duration::from_secs(1_000_000 + seconds))
}

fn refused(at: Timestamp) -> Refusal {
    Refusal {
        at,
        pool: PoolName::new("workers"),
        node: Some(NodeName::new("w1")),
        what: String::new(),
        origin: Origin::Bounds,
        reason: Reason::OneWitness,
        detail: String::new(),
        evidence: Evidence::default(),
    }
}

fn asked(since: Option<u64>, entered: Option<u64>) -> Proposal {
    Proposal {
        origin: Origin::Bounds,
        ask: Ask::Sweep {
            node: NodeName::new("w1"),
            vm: None,
        },
        why: String::new(),
        evidence: Evidence::default(),
        since: since.map(at),
        entered: entered.map(at),
    }
}

#[test]
fn what_is_told_again() {
    // Told at 100. Rows: asked for since, its body entered, now, and whether it is told again.
    let rows = [
        (None, None, 9_000, false),
        (Some(100), Some(9_000), 9_000, false),
        (Some(101), Some(101), 110, false),
        (Some(101), Some(159), 161, false),
        (Some(101), Some(160), 161, true),
        (Some(170), Some(170), 170, true),
        // An alert is looked at with each tick.
        (Some(110), None, 159, false),
        (Some(110), None, 160, true),
        // The clock was put back since it fired: it is not told each second.
        (Some(900), None, 170, false),
    ];
    let told = Told::after(None, &refused(at(100)));
    for (since, entered, now, again) in rows {
        let asked = asked(since, entered);
        let covers = told.covers(Reason::OneWitness, Some(&asked), at(now));
        assert_eq!(covers, !again, "{since:?} {entered:?} {now}");
        assert!(!told.covers(Reason::NotOwned, Some(&asked), at(now)));
    }
}

#[test]
fn what_was_told_before_the_clock_was_put_back_is_told_once_more() {
    let told = Told::after(None, &refused(at(5_000)));
    let stands = asked(Some(4_000), None);
    assert!(!told.covers(Reason::OneWitness, Some(&stands), at(100)));
    let told = Told::after(Some(told), &refused(at(100)));
    for now in 101..3_000 {
        assert!(
            told.covers(Reason::OneWitness, Some(&stands), at(now)),
            "{now}"
        );
    }
}

#[test]
fn the_more_often_the_more_rarely_and_from_the_beginning_after_a_quiet_time() {
    let mut told: Option<Told> = None;
    let mut minutes = Vec::new();
    // Asked for anew with each second, for six hours.
    for second in 0..6 * 3600 {
        let asked = asked(Some(second), Some(second));
        if told.is_none_or(|told| !told.covers(Reason::OneWitness, Some(&asked), at(second))) {
            told = Some(Told::after(told, &refused(at(second))));
            minutes.push(second / 60);
        }
    }
    assert_eq!(minutes, [0, 1, 3, 7, 15, 31, 63, 123, 183, 243, 303]);
    let later = 6 * 3600 + TOLD_FORGOTTEN.as_secs();
    assert_eq!(Told::after(told, &refused(at(later))).times, 1);
}

#[test]
fn by_an_earlier_versions_snapshot_it_was_told_long_ago() {
    let told: Told = serde_json::from_str(r#""one_witness""#).unwrap();
    let fresh = asked(Some(10), Some(10));
    assert!(told.covers(Reason::OneWitness, None, at(10)));
    assert!(!told.covers(Reason::OneWitness, Some(&fresh), at(10)));
    let told = Told::after(None, &refused(at(10)));
    let again: Told = serde_json::from_str(&serde_json::to_string(&told).unwrap()).unwrap();
    assert_eq!(told, again);
}
