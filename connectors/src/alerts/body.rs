//! Bodies to alerts. Fields that are not known are read over; a bad alert costs itself.

use std::collections::BTreeMap;

use rhizome_engine::event::Alert;
use rhizome_engine::time::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

/// Alerts of one post. A group has one for each node at most; the rest is rejected.
pub(super) const MAX_ALERTS: usize = 1_000;

/// Labels of one alert.
const MAX_LABELS: usize = 64;

/// Bytes of a label's name or value. Prometheus' own are far shorter.
const MAX_LABEL: usize = 1_024;

/// Characters of a summary that are kept.
const MAX_SUMMARY: usize = 500;

/// What a body says.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Body {
    /// Its alerts.
    pub alerts: Vec<Alert>,
    /// What could not be read.
    pub rejected: Vec<BadAlert>,
    /// How many alerts the sender left out.
    pub truncated: u64,
}

/// An alert that could not be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BadAlert {
    /// Its place in the body, from 0.
    pub index: usize,
    /// Why.
    pub reason: String,
}

/// A body that is none of these.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadBody {
    /// Not JSON, or not of this shape.
    #[error("{what}: {detail}")]
    Shape {
        /// What was expected.
        what: &'static str,
        /// What is wrong.
        detail: String,
    },
}

#[derive(Deserialize)]
struct Webhook {
    alerts: Vec<Value>,
    #[serde(default, rename = "truncatedAlerts")]
    truncated: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire {
    status: Option<String>,
    labels: BTreeMap<String, String>,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
    starts_at: Option<jiff::Timestamp>,
    ends_at: Option<jiff::Timestamp>,
    fingerprint: Option<String>,
}

/// Reads what Alertmanager's or Grafana's webhook sends.
///
/// # Errors
///
/// Returns [`BadBody`] if it is no such thing at all.
pub fn read_webhook(bytes: &[u8]) -> Result<Body, BadBody> {
    let what = "a webhook is a JSON object with `alerts`, as Alertmanager's version 4 sends it";
    let webhook: Webhook = parse(bytes, what)?;
    Ok(read_all(
        webhook.alerts,
        webhook.truncated,
        |wire| match wire.status.as_deref() {
            Some("firing") => Ok(true),
            Some("resolved") => Ok(false),
            _ => Err("`status` is neither `firing` nor `resolved`".to_owned()),
        },
    ))
}

/// Reads what Prometheus sends to an Alertmanager; `now` tells what has ended.
///
/// # Errors
///
/// Returns [`BadBody`] if it is no such thing at all.
pub fn read_api_v2(bytes: &[u8], now: Timestamp) -> Result<Body, BadBody> {
    let what = "alerts are a JSON array, as Prometheus sends it";
    let alerts: Vec<Value> = parse(bytes, what)?;
    Ok(read_all(alerts, 0, |wire| {
        // No end, or the year 1, is an alert that has not ended.
        Ok(wire.ends_at.is_none_or(|end| {
            let end = end.as_millisecond();
            end <= 0 || end > now.millis()
        }))
    }))
}

fn parse<'a, T: Deserialize<'a>>(bytes: &'a [u8], what: &'static str) -> Result<T, BadBody> {
    serde_json::from_slice(bytes).map_err(|error| BadBody::Shape {
        what,
        detail: error.to_string(),
    })
}

fn read_all(
    values: Vec<Value>,
    truncated: u64,
    firing: impl Fn(&Wire) -> Result<bool, String>,
) -> Body {
    let mut body = Body {
        truncated: truncated + values.len().saturating_sub(MAX_ALERTS) as u64,
        ..Body::default()
    };
    for (index, value) in values.into_iter().take(MAX_ALERTS).enumerate() {
        let read = Wire::deserialize(value)
            .map_err(|error| error.to_string())
            .and_then(|wire| {
                let firing = firing(&wire)?;
                wire.read(firing)
            });
        match read {
            Ok(alert) => body.alerts.push(alert),
            Err(reason) => body.rejected.push(BadAlert { index, reason }),
        }
    }
    body
}

impl Wire {
    fn read(self, firing: bool) -> Result<Alert, String> {
        if self.labels.len() > MAX_LABELS {
            return Err(format!("more than {MAX_LABELS} labels"));
        }
        let long = |text: &String| text.len() > MAX_LABEL || text.chars().any(char::is_control);
        if self
            .labels
            .iter()
            .any(|(name, value)| long(name) || long(value))
        {
            return Err(format!(
                "a label is longer than {MAX_LABEL} bytes or has control characters"
            ));
        }
        let name = self.labels.get("alertname").filter(|name| !name.is_empty());
        let name = name.ok_or("the label `alertname` is missing")?.clone();
        let starts_at = self.starts_at.ok_or("`startsAt` is missing")?;
        let summary = ["summary", "description"]
            .iter()
            .find_map(|key| self.annotations.get(*key))
            .map(|text| plain(text))
            .unwrap_or_default();
        let fingerprint = match self.fingerprint {
            Some(given) if !given.is_empty() => given,
            _ => fingerprint(&self.labels),
        };
        Ok(Alert {
            name,
            firing,
            labels: self.labels,
            summary,
            fingerprint,
            starts_at: Timestamp(starts_at.as_millisecond()),
        })
    }
}

/// Text for people: what would move a terminal's cursor becomes a space.
fn plain(text: &str) -> String {
    let kept = text.chars().take(MAX_SUMMARY);
    kept.map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// A fingerprint of the label set, for senders that give none. Not Alertmanager's hash: it
/// only has to be the same for the same labels.
fn fingerprint(labels: &BTreeMap<String, String>) -> String {
    let mut hash = Sha256::new();
    for (name, value) in labels {
        for text in [name, value] {
            hash.update((text.len() as u64).to_le_bytes());
            hash.update(text);
        }
    }
    let hash: [u8; 32] = hash.finalize().into();
    hash.iter()
        .take(8)
        .fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
}
