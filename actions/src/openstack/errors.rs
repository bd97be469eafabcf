//! What an answer of OpenStack means, named by what must be done about it.
//!
//! The rows are those that a real Keystone, Nova and Neutron gave. Everything that is not
//! clearly a refusal of a mutating call counts as unknown: it may have happened.

use std::time::Duration;

use reqwest::StatusCode;
use reqwest::header::{HeaderMap, RETRY_AFTER};
use rhizome_engine::action::{Failure, FailureKind};
use secrecy::SecretString;
use serde_json::Value;

use crate::redact::redact;

/// The longest wait that is taken from the other side: what asks for more is not obeyed
/// blindly, as the engine looks again by itself.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(300);
/// Headers in which a service tells its id of a request. Nova writes both, with one id.
const REQUEST_IDS: [&str; 2] = ["x-openstack-request-id", "x-compute-request-id"];
/// Longest of these ids: `req-` and a UUID.
const LONGEST_REQUEST_ID: usize = 40;

/// Whether a call changes something, which decides what a lost answer means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    /// It only looks.
    Looks,
    /// It changes something.
    Changes,
}

impl Effect {
    /// What it means when nobody can say whether the call was carried out.
    pub(super) fn lost(self) -> FailureKind {
        match self {
            Self::Looks => FailureKind::Retry { after: None },
            Self::Changes => FailureKind::Unknown,
        }
    }
}

/// An answer that is not a success.
pub(super) struct Refusal<'a> {
    pub(super) status: StatusCode,
    pub(super) headers: &'a HeaderMap,
    pub(super) body: &'a str,
}

impl Refusal<'_> {
    /// The failure it stands for; `known` secrets are taken out of its words.
    pub(super) fn failure(&self, call: &str, effect: Effect, known: &[&SecretString]) -> Failure {
        let (class, message) = self.message();
        let kind = self.kind(effect, &class, &message);
        let said = redact(&message, known);
        let advice = match (self.status.as_u16(), kind) {
            (406, _) => "; this release of Nova is older than the ones we speak to (Stein and up)",
            (404, FailureKind::Retry { .. }) => {
                "; this does not come from Nova, so it proves nothing"
            }
            (403, FailureKind::Refused) => "; give our user the role that this call needs",
            _ => "",
        };
        Failure::new(kind, format!("{call}: {}: {said}{advice}", self.answered()))
    }

    /// The status, and the id by which the cloud's operators find the request in their logs.
    pub(super) fn answered(&self) -> String {
        let status = self.status.as_u16();
        match request_id(self.headers) {
            Some(id) => format!("answered {status} (request {id})"),
            None => format!("answered {status}"),
        }
    }

    fn kind(&self, effect: Effect, class: &str, message: &str) -> FailureKind {
        match self.status.as_u16() {
            403 if is_quota(message) => FailureKind::NoCapacity,
            // Nova's own 404 names its class. One without it comes from a proxy or from a wrong
            // address, and must never be taken for "the server is gone".
            404 if class == "itemNotFound" => FailureKind::NotFound,
            404 if class == "NeutronError" && self.body.contains("NotFound") => {
                FailureKind::NotFound
            }
            404 | 408 => FailureKind::Retry { after: None },
            409 => conflict(message),
            413 | 429 if is_quota(message) => FailureKind::NoCapacity,
            413 if class != "overLimit" && self.retry_after().is_none() => FailureKind::Refused,
            413 | 429 => FailureKind::Retry {
                after: self.retry_after(),
            },
            501 => FailureKind::Refused,
            500..=599 => match effect.lost() {
                FailureKind::Retry { .. } => FailureKind::Retry {
                    after: self.retry_after(),
                },
                unknown => unknown,
            },
            // Told twice that our token is bad, with a new one: Nova and Keystone disagree.
            401 => FailureKind::Retry { after: None },
            _ => FailureKind::Refused,
        }
    }

    /// The class of the error and its text, out of any of the services' envelopes.
    fn message(&self) -> (String, String) {
        let json: Option<Value> = serde_json::from_str(self.body).ok();
        let envelope = json
            .as_ref()
            .and_then(Value::as_object)
            .and_then(|object| object.iter().next());
        match envelope {
            Some((class, inner)) => {
                let text = inner
                    .get("message")
                    .and_then(Value::as_str)
                    .unwrap_or(self.body);
                (class.clone(), text.trim().to_owned())
            }
            None => (String::new(), self.body.trim().to_owned()),
        }
    }

    /// How long to wait: the header in seconds, else `retryAfter` in the body.
    fn retry_after(&self) -> Option<Duration> {
        let header = self
            .headers
            .get(RETRY_AFTER)
            .and_then(|value| value.to_str().ok())
            .and_then(|text| text.trim().parse::<u64>().ok());
        let body = || {
            let json: Value = serde_json::from_str(self.body).ok()?;
            let inner = json
                .as_object()?
                .values()
                .next()?
                .get("retryAfter")?
                .clone();
            inner
                .as_u64()
                .or_else(|| inner.as_str().and_then(|text| text.parse().ok()))
        };
        header
            .or_else(body)
            .map(|seconds| Duration::from_secs(seconds).min(LONGEST_RETRY_AFTER))
    }
}

/// The id that the service gave the request, if it is one: whatever else a header may hold is
/// not passed on.
pub(super) fn request_id(headers: &HeaderMap) -> Option<&str> {
    let id = REQUEST_IDS
        .iter()
        .find_map(|name| headers.get(*name)?.to_str().ok())?;
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
    (id.starts_with("req-") && id.len() <= LONGEST_REQUEST_ID && id.chars().all(plain))
        .then_some(id)
}

/// A quota and a policy refusal are one status and one class; only the words differ.
fn is_quota(message: &str) -> bool {
    let message = message.to_ascii_lowercase();
    message.contains("quota") || message.contains("maximum number of ports exceeded")
}

/// 409 says "not now" or "never", by its words.
fn conflict(message: &str) -> FailureKind {
    const NEVER: [&str; 7] = [
        "is locked",
        "multiple ",
        "is still in use",
        "vm_state error",
        // Of what never had a host: neither a reboot nor a rebuild will ever help it.
        "is in an invalid state for",
        "vm_state deleted",
        "vm_state soft-delete",
    ];
    // A network that is full is no reason to wait: another may take its place.
    let full = message
        .to_ascii_lowercase()
        .contains("no more ip addresses");
    if full || is_quota(message) {
        FailureKind::NoCapacity
    } else if NEVER
        .iter()
        .any(|words| message.to_ascii_lowercase().contains(words))
    {
        FailureKind::Refused
    } else {
        FailureKind::Retry { after: None }
    }
}

/// What an answer that never came means.
pub(super) fn transport(
    call: &str,
    effect: Effect,
    error: reqwest::Error,
    known: &[&SecretString],
) -> Failure {
    let kind = if error.is_builder() {
        FailureKind::Refused
    } else if error.is_connect() {
        // No connection, so not a byte of the request was sent.
        FailureKind::Retry { after: None }
    } else {
        effect.lost()
    };
    // The address may hold a token of some proxy: only its path matters, and `call` names it.
    let error = error.without_url();
    let mut text = error.to_string();
    let mut source = std::error::Error::source(&error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    Failure::new(kind, format!("{call}: no answer: {}", redact(&text, known)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind_of(status: u16, body: &str, retry_after: Option<&str>, effect: Effect) -> FailureKind {
        let mut headers = HeaderMap::new();
        if let Some(value) = retry_after {
            headers.insert(RETRY_AFTER, value.parse().unwrap());
        }
        Refusal {
            status: StatusCode::from_u16(status).unwrap(),
            headers: &headers,
            body,
        }
        .failure("test", effect, &[])
        .kind
    }

    #[test]
    fn each_answer_of_a_real_nova_has_its_row() {
        use FailureKind::{NoCapacity, NotFound, Refused, Retry, Unknown};
        let retry = Retry { after: None };
        let after = |seconds| Retry {
            after: Some(Duration::from_secs(seconds)),
        };
        let rows: &[(&str, u16, &str, Option<&str>, FailureKind)] = &[
            (
                "quota of instances",
                403,
                r#"{"forbidden":{"code":403,"message":"Quota exceeded for instances: Requested 1, but already used 2 of 2 instances"}}"#,
                None,
                NoCapacity,
            ),
            (
                "quota of ports",
                403,
                r#"{"forbidden":{"code":403,"message":"Maximum number of ports exceeded"}}"#,
                None,
                NoCapacity,
            ),
            (
                "policy",
                403,
                r#"{"forbidden":{"code":403,"message":"Policy doesn't allow os_compute_api:os-services:list to be performed."}}"#,
                None,
                Refused,
            ),
            (
                "gone",
                404,
                r#"{"itemNotFound":{"code":404,"message":"Instance x could not be found."}}"#,
                None,
                NotFound,
            ),
            ("a proxy's 404", 404, "<html>not found</html>", None, retry),
            (
                "unknown image",
                400,
                r#"{"badRequest":{"code":400,"message":"Can not find requested image"}}"#,
                None,
                Refused,
            ),
            (
                "two security groups",
                409,
                r#"{"conflictingRequest":{"code":409,"message":"Multiple security_group matches found for name 'nodes', use an ID to be more specific."}}"#,
                None,
                Refused,
            ),
            (
                "port in use",
                409,
                r#"{"conflictingRequest":{"code":409,"message":"Port x is still in use."}}"#,
                None,
                Refused,
            ),
            (
                "locked",
                409,
                r#"{"conflictingRequest":{"code":409,"message":"Instance x is locked"}}"#,
                None,
                Refused,
            ),
            (
                "busy",
                409,
                r#"{"conflictingRequest":{"code":409,"message":"Cannot 'reboot' instance x while it is in task_state rebooting_hard"}}"#,
                None,
                retry,
            ),
            (
                "building",
                409,
                r#"{"conflictingRequest":{"code":409,"message":"Cannot 'stop' instance x while it is in vm_state building"}}"#,
                None,
                retry,
            ),
            (
                "never built",
                409,
                r#"{"conflictingRequest":{"code":409,"message":"Cannot 'rebuild' instance x while it is in vm_state error"}}"#,
                None,
                Refused,
            ),
            (
                "never had a host",
                409,
                r#"{"conflictingRequest":{"code":409,"message":"Instance x is in an invalid state for 'rebuild'"}}"#,
                None,
                Refused,
            ),
            (
                "a port that is gone",
                404,
                r#"{"NeutronError":{"type":"PortNotFound","message":"Port x could not be found.","detail":""}}"#,
                None,
                NotFound,
            ),
            (
                "a network that is full",
                409,
                r#"{"NeutronError":{"type":"IpAddressGenerationFailure","message":"No more IP addresses available on network x.","detail":""}}"#,
                None,
                NoCapacity,
            ),
            (
                "neutron's quota",
                409,
                r#"{"NeutronError":{"type":"OverQuota","message":"Quota exceeded for resources: ['port'].","detail":""}}"#,
                None,
                NoCapacity,
            ),
            (
                "microversion",
                406,
                r#"{"computeFault":{"code":406,"message":"Version 2.999 is not supported by the API."}}"#,
                None,
                Refused,
            ),
            (
                "rate limit, old",
                413,
                r#"{"overLimit":{"code":413,"message":"limited","retryAfter":"7"}}"#,
                None,
                after(7),
            ),
            ("rate limit", 429, "slow down", Some("2"), after(2)),
            ("rate limit without a time", 429, "slow down", None, retry),
            (
                "a wait without end",
                429,
                "slow down",
                Some("99999999"),
                after(300),
            ),
            ("too large", 413, "entity too large", None, Refused),
            (
                "401 twice",
                401,
                r#"{"error":{"code":401,"title":"Unauthorized","message":"no"}}"#,
                None,
                retry,
            ),
            (
                "fault",
                500,
                r#"{"computeFault":{"code":500,"message":"Unexpected API Error."}}"#,
                None,
                Unknown,
            ),
            ("keystone gone", 503, "", None, Unknown),
            ("gateway", 504, "<html>", Some("9"), Unknown),
            (
                "not implemented",
                501,
                r#"{"notImplemented":{"code":501,"message":"no"}}"#,
                None,
                Refused,
            ),
            ("redirect", 302, "", None, Refused),
        ];
        for (name, status, body, header, kind) in rows {
            assert_eq!(
                kind_of(*status, body, *header, Effect::Changes),
                *kind,
                "{name}"
            );
        }
        assert_eq!(kind_of(503, "", Some("9"), Effect::Looks), after(9));
        assert_eq!(kind_of(500, "", None, Effect::Looks), retry);
    }

    #[test]
    fn a_request_id_is_told_if_it_has_the_form_of_one() {
        let uuid = "req-8c6a1d0e-93b2-4a3e-9e0e-2f1f0b6a2c11";
        for (name, value, told) in [
            ("x-openstack-request-id", uuid, Some(uuid)),
            ("x-compute-request-id", uuid, Some(uuid)),
            ("x-openstack-request-id", "gAAAAABqTheToken", None),
            ("x-openstack-request-id", "req-a token=b", None),
            ("x-openstack-request-id", &format!("{uuid}0"), None),
            ("x-trans-id", uuid, None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(name, value.parse().unwrap());
            assert_eq!(request_id(&headers), told, "{name}: {value}");
        }
    }

    #[test]
    fn an_echo_of_the_request_is_not_passed_on() {
        let headers = HeaderMap::new();
        let secret: SecretString = "bm90IGEgc2VjcmV0".to_owned().into();
        let failure = Refusal {
            status: StatusCode::BAD_REQUEST,
            headers: &headers,
            body: r#"{"badRequest":{"code":400,"message":"Invalid input for field/attribute server. Value: {'user_data': 'bm90IGEgc2VjcmV0', 'adminPass': 'hunter2'}."}}"#,
        }
        .failure("create_server", Effect::Changes, &[&secret]);
        assert_eq!(failure.kind, FailureKind::Refused);
        assert!(!failure.message.contains("bm90"), "{failure}");
        assert!(!failure.message.contains("hunter2"), "{failure}");
        assert!(failure.message.contains("Invalid input"), "{failure}");
    }
}
