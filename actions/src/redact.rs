//! Takes secrets out of what the other side says.
//!
//! Nova repeats the whole request in its error messages (seen: the `server` object, the whole
//! `user_data`), so no answer may reach a log, the journal or a screen but through here. It
//! errs on the side of taking out too much.

use secrecy::{ExposeSecret, SecretString};

/// What stands in the place of a secret.
const REDACTED: &str = "[redacted]";
/// Words after which a value is a secret, compared in lower case.
const SECRET_KEYS: [&str; 8] = [
    "adminpass",
    "user_data",
    "userdata",
    "password",
    "token-secret",
    "secret",
    "x-auth-token",
    "x-subject-token",
];
/// Longest run of letters and digits that is shown: a UUID has 36, a Keystone token 180.
const LONGEST_RUN: usize = 40;
/// How much of a text is looked at: what is shown ends long before.
const LONGEST_READ: usize = 16 * 1024;
/// Longest text that is passed on: enough for any message of Nova or Kubernetes.
const LONGEST_TEXT: usize = 600;

/// `text` without secrets, on one line and of bounded length.
///
/// Taken out are the `known` secrets, the values of keys that name secrets, whatever has the
/// form of a bootstrap token, and every long run of base64 characters.
pub(crate) fn redact(text: &str, known: &[&SecretString]) -> String {
    let mut text = text.to_owned();
    for secret in known {
        let secret = secret.expose_secret();
        if !secret.is_empty() {
            text = text.replace(secret, REDACTED);
        }
    }
    let text: String = text.chars().take(LONGEST_READ).collect();
    let text = redact_runs(&redact_keys(&text));
    let mut line: String = text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(LONGEST_TEXT)
        .collect();
    line.truncate(line.trim_end().len());
    line
}

/// Takes out the value after each key that names a secret, quoted or bare.
fn redact_keys(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(found) = next_key(rest) {
        let (before, after) = rest.split_at(found);
        out.push_str(before);
        let value = after.trim_start_matches(['"', '\'', '\\', ' ', ':', '=']);
        // Python writes `u'...'` for a text.
        let value = value.strip_prefix("u'").unwrap_or(value);
        let lead = after.len() - value.len();
        if !after.get(..lead).unwrap_or_default().contains([':', '=']) {
            rest = after;
            continue;
        }
        out.push_str(after.get(..lead).unwrap_or_default());
        out.push_str(REDACTED);
        let end = value
            .find(['"', '\'', ',', '}', ' ', '\\', '\n'])
            .unwrap_or(value.len());
        rest = value.get(end..).unwrap_or_default();
    }
    out.push_str(rest);
    out
}

/// Where the first key that names a secret ends.
fn next_key(text: &str) -> Option<usize> {
    let lower = text.to_ascii_lowercase();
    SECRET_KEYS
        .iter()
        .filter_map(|key| lower.find(key).map(|start| start + key.len()))
        .min()
}

/// Takes out long runs of base64 characters and bootstrap tokens.
fn redact_runs(text: &str) -> String {
    let in_run = |c: char| c.is_ascii_alphanumeric() || "+/_-.".contains(c);
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while !rest.is_empty() {
        let length = rest.find(|c| !in_run(c)).unwrap_or(rest.len());
        let (run, after) = rest.split_at(length);
        out.push_str(&redact_run(run));
        let gap = after.find(in_run).unwrap_or(after.len());
        let (between, after) = after.split_at(gap);
        out.push_str(between);
        rest = after;
    }
    out
}

fn redact_run(run: &str) -> String {
    let secret = |part: &str| {
        // A path such as `/v2.1/servers/<uuid>` has short parts; base64 has not.
        part.split('/').any(|piece| piece.len() >= LONGEST_RUN) || part.len() >= 4 * LONGEST_RUN
    };
    let parts: Vec<&str> = run.split('.').collect();
    let token = parts
        .windows(2)
        .any(|pair| matches!(pair, [id, secret] if is_token(id, secret)));
    if token || parts.iter().any(|part| secret(part)) {
        REDACTED.to_owned()
    } else {
        run.to_owned()
    }
}

fn is_token(id: &str, secret: &str) -> bool {
    let lower = |text: &str| {
        text.chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit())
    };
    id.len() == 6 && secret.len() == 16 && lower(id) && lower(secret)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn echoes_of_a_request_lose_their_secrets() {
        for (text, secret) in [
            (
                r#"Invalid input for field server: {"adminPass": "Xy7pQ", "name": "w"}"#,
                "Xy7pQ",
            ),
            ("{'user_data': u'JSUl', 'name': 'w'} is not valid", "JSUl"),
            ("{'user_data': 'a b%%'} is not valid", "'a"),
            (
                "token 07401b.f395accd246ae52d was refused",
                "f395accd246ae52d",
            ),
            ("X-Auth-Token: gAAAAABo", "gAAAAABo"),
            ("password=hunter2 refused", "hunter2"),
        ] {
            let shown = redact(text, &[]);
            assert!(!shown.contains(secret), "{shown}");
            assert!(shown.contains(REDACTED), "{shown}");
        }
    }

    #[test]
    fn what_an_operator_needs_stays() {
        for text in [
            "Instance 8c6a1d0e-93b2-4a3e-9e0e-2f1f0b6a2c11 could not be found.",
            "Quota exceeded for instances: Requested 1, but already used 2 of 2 instances",
            "no route to http://127.0.0.1:8774/v2.1/servers/8c6a1d0e-93b2-4a3e-9e0e-2f1f0b6a2c11",
            "The disruption budget bb needs 2 healthy pods and has 2 currently",
            "secrets \"bootstrap-token-07401b\" already exists",
        ] {
            assert_eq!(redact(text, &[]), text);
        }
    }

    #[test]
    fn control_characters_and_length_are_bounded() {
        let shown = redact(&"a\n\u{1b}[31m ".repeat(500), &[]);
        assert!(shown.chars().count() <= LONGEST_TEXT);
        assert!(!shown.chars().any(char::is_control));
    }

    proptest! {
        #[test]
        fn a_known_secret_never_comes_through(
            before in "[ -~]{0,20}", secret in "[A-Za-z0-9+/=]{8,90}", after in "[ -~]{0,20}"
        ) {
            let known: SecretString = secret.clone().into();
            let shown = redact(&format!("{before}{secret}{after}"), &[&known]);
            prop_assert!(!shown.contains(&secret));
        }
    }
}
