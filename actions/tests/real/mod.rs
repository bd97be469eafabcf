//! The real services: what they answer, what the stand-in answers to the same, and our client
//! on them.
//!
//! `openstack.txt` is what a real Keystone, Nova and Neutron answered to the suite of
//! `contract.rs`. One test plays the suite to the stand-in and one to the real services; both
//! must give this very text, so neither can drift from the other. `UPDATE_EXPECT=1` writes it
//! anew, from the real services only.

mod client;
mod contract;
mod servers;
mod target;

use std::path::Path;

/// What the real services answered.
const ANSWERS: &str = "tests/real/openstack.txt";

#[tokio::test]
async fn the_stand_in_answers_as_the_real_services_did() {
    let expected = std::fs::read_to_string(path()).unwrap();
    assert_same("the stand-in", &expected, &contract::on_standin().await);
}

#[tokio::test]
async fn the_real_services_answer_as_they_did() {
    let Some(openstack) = servers::openstack() else {
        return;
    };
    let answers = contract::on_real(openstack).await;
    if std::env::var("UPDATE_EXPECT").is_ok_and(|value| value == "1") {
        std::fs::write(path(), &answers).unwrap();
    }
    let expected = std::fs::read_to_string(path()).unwrap();
    assert_same("the real services", &expected, &answers);
}

fn path() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(ANSWERS)
}

/// Compares exchange by exchange, so that differences are told and not a wall of text.
fn assert_same(who: &str, expected: &str, got: &str) {
    let exchanges = |text: &str| -> Vec<String> {
        let rest = text.strip_prefix("== ").unwrap_or(text);
        rest.split("\n== ")
            .map(|part| part.trim_end().to_owned())
            .collect()
    };
    let (expected, got) = (exchanges(expected), exchanges(got));
    let title = |exchange: &String| exchange.lines().next().unwrap_or_default().to_owned();
    let titles = |all: &[String]| all.iter().map(title).collect::<Vec<_>>();
    assert_eq!(
        titles(&expected),
        titles(&got),
        "{who} was asked something else"
    );
    let differences: Vec<String> = expected
        .iter()
        .zip(&got)
        .filter(|(expected, got)| expected != got)
        .map(|(expected, got)| {
            let only = |these: &str, those: &str, sign: char| -> String {
                let those: Vec<&str> = those.lines().collect();
                let own = these.lines().filter(|line| !those.contains(line));
                own.map(|line| format!("\n  {sign} {line}")).collect()
            };
            format!(
                "{}{}{}",
                title(expected),
                only(expected, got, '-'),
                only(got, expected, '+')
            )
        })
        .collect();
    assert!(
        differences.is_empty(),
        "{} of {} answers of {who} differ:\n{}",
        differences.len(),
        expected.len(),
        differences.join("\n")
    );
}
