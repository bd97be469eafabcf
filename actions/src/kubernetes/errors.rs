//! What an answer of the API server means, named by what must be done about it.

use std::time::Duration;

use http::StatusCode;
use kube::client::AuthError;
use kube::config::KubeconfigError;
use kube::core::Status;
use rhizome_engine::action::{Failure, FailureKind};
use secrecy::SecretString;

use crate::redact::redact;

/// The longest wait that is taken from the other side.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(60);

/// An answer, read whole.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) retry_after: Option<Duration>,
    /// The server's clock, as HTTP writes it.
    pub(super) date: Option<String>,
    pub(super) text: String,
}

/// What an eviction was told. Decided on the status and the causes, never on the wording,
/// but for the two budgets, which have no other sign.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Eviction {
    /// The pod is on its way out.
    Accepted,
    /// It, or the one of its uid, is gone already.
    Gone,
    /// A disruption budget allows none now; what it says of itself.
    Budget(String, Option<Duration>),
    /// The API server has too much to do.
    Load(Option<Duration>),
    /// Two budgets match: the API cannot decide, and so neither can we.
    TwoBudgets,
    /// The pod's namespace is being deleted, which takes the pod along.
    NamespaceEnds,
    /// Anything else.
    Other,
}

impl Answer {
    /// The `Status` object, if the answer is one.
    pub(super) fn as_status(&self) -> Option<Status> {
        serde_json::from_str(&self.text).ok()
    }

    /// Success: a 2xx that is not a `Status` of a failure.
    pub(super) fn is_success(&self) -> bool {
        self.status.is_success() && !self.as_status().is_some_and(|status| status.is_failure())
    }

    /// How long the server asks to wait.
    pub(super) fn wait(&self) -> Option<Duration> {
        let body = || {
            let seconds = self.as_status()?.details?.retry_after_seconds;
            (seconds > 0).then(|| Duration::from_secs(u64::from(seconds)))
        };
        self.retry_after
            .or_else(body)
            .map(|wait| wait.min(LONGEST_RETRY_AFTER))
    }

    /// What a node, token or list call's failure means. `changes` says whether it was to
    /// change something, and so whether a lost answer is unknown.
    pub(super) fn failure(&self, call: &str, changes: bool, known: &[&SecretString]) -> Failure {
        let kind = match self.status.as_u16() {
            404 => FailureKind::NotFound,
            // A wrong uid in the preconditions, or a change that came in between.
            409 => FailureKind::Retry { after: None },
            429 => FailureKind::Retry { after: self.wait() },
            500..=599 if changes => FailureKind::Unknown,
            408 | 500..=599 => FailureKind::Retry { after: self.wait() },
            _ => FailureKind::Refused,
        };
        let advice = match self.status.as_u16() {
            401 => "; check the token or certificate that we use",
            403 => "; give our account this right (see the RBAC manifest)",
            _ => "",
        };
        let said = self
            .as_status()
            .map_or_else(|| self.text.clone(), |status| status.message);
        Failure::new(
            kind,
            format!(
                "{call}: answered {}: {}{advice}",
                self.status.as_u16(),
                redact(&said, known)
            ),
        )
    }

    /// What an eviction was told.
    pub(super) fn eviction(&self) -> Eviction {
        let status = self.as_status();
        let cause = |reason: &str| {
            status
                .as_ref()?
                .details
                .as_ref()?
                .causes
                .iter()
                .find(|cause| cause.reason == reason)
                .map(|cause| redact(&cause.message, &[]))
        };
        let said_two = status
            .as_ref()
            .is_some_and(|status| status.message.contains("more than one PodDisruptionBudget"));
        match self.status.as_u16() {
            _ if said_two => Eviction::TwoBudgets,
            200..=299 if self.is_success() => Eviction::Accepted,
            // 409: the uid in the preconditions is not that of the pod of this name any more.
            404 | 409 => Eviction::Gone,
            429 => match cause("DisruptionBudget") {
                Some(budget) => Eviction::Budget(budget, self.wait()),
                None => Eviction::Load(self.wait()),
            },
            403 if cause("NamespaceTerminating").is_some() => Eviction::NamespaceEnds,
            _ => Eviction::Other,
        }
    }
}

/// What an answer that never came means.
pub(super) fn transport(call: &str, changes: bool, error: &kube::Error) -> Failure {
    let kind = if never_sent(error) || !changes {
        FailureKind::Retry { after: None }
    } else {
        FailureKind::Unknown
    };
    Failure::new(kind, format!("{call}: no answer: {}", told(error)))
}

/// What may be told of an error of kube's and its causes.
pub(super) fn told(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = String::new();
    let mut next = Some(error);
    while let Some(cause) = next {
        if let Some(words) = in_our_words(cause) {
            return words;
        }
        let lead = if text.is_empty() { "" } else { ": " };
        text = format!("{text}{lead}{cause}");
        next = cause.source();
    }
    redact(&text, &[])
}

/// What stands for an error whose own words quote what it could not use: a YAML parser shows
/// the lines around the place, and a credential plugin that failed may have written its token.
fn in_our_words(error: &(dyn std::error::Error + 'static)) -> Option<String> {
    if let Some(KubeconfigError::Parse(error)) = error.downcast_ref() {
        let place = error
            .location()
            .map(|at| format!(" (line {}, column {})", at.line(), at.column()));
        return Some(format!("it is no kubeconfig{}", place.unwrap_or_default()));
    }
    match error.downcast_ref::<AuthError>()? {
        AuthError::AuthExecRun { out, .. } => Some(format!(
            "the credential plugin failed ({}): run it by hand to see why",
            out.status
        )),
        AuthError::AuthExecParse(_) => {
            Some("the credential plugin wrote no `ExecCredential`".to_owned())
        }
        _ => None,
    }
}

/// Whether there was no connection, so that not a byte was sent.
fn never_sent(error: &kube::Error) -> bool {
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(cause) = source {
        if cause
            .downcast_ref::<hyper_util::client::legacy::Error>()
            .is_some_and(hyper_util::client::legacy::Error::is_connect)
        {
            return true;
        }
        source = cause.source();
    }
    matches!(error, kube::Error::Auth(_))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, retry_after: Option<u64>, text: &str) -> Answer {
        Answer {
            status: StatusCode::from_u16(status).unwrap(),
            retry_after: retry_after.map(Duration::from_secs),
            date: None,
            text: text.to_owned(),
        }
    }

    #[test]
    fn each_answer_to_an_eviction_has_its_row() {
        let budget = "The disruption budget bb needs 2 healthy pods and has 2 currently";
        let stale = "The disruption budget ss is still being processed by the server.";
        let two = "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.";
        let full = |cause: &str, seconds: u32| {
            format!(
                r#"{{"kind":"Status","status":"Failure","reason":"TooManyRequests","code":429,"message":"Cannot evict pod as it would violate the pod's disruption budget.","details":{{"retryAfterSeconds":{seconds},"causes":[{{"reason":"DisruptionBudget","message":"{cause}"}}]}}}}"#
            )
        };
        let seconds = |n| Some(Duration::from_secs(n));
        let rows = [
            ("done", 201, None, r#"{"kind":"Status","status":"Success","code":201}"#.to_owned(), Eviction::Accepted),
            ("exhausted", 429, None, full(budget, 0), Eviction::Budget(budget.to_owned(), None)),
            ("stale", 429, Some(10), full(stale, 10), Eviction::Budget(stale.to_owned(), seconds(10))),
            ("flow control", 429, Some(2), "Too many requests, please try again later.\n".to_owned(), Eviction::Load(seconds(2))),
            ("two budgets", 500, None, format!(r#"{{"kind":"Status","status":"Failure","code":500,"message":"{two}"}}"#), Eviction::TwoBudgets),
            ("two budgets in a 201", 201, None, format!(r#"{{"kind":"Status","status":"Failure","code":500,"message":"{two}"}}"#), Eviction::TwoBudgets),
            ("a failure in a 201", 201, None, r#"{"kind":"Status","status":"Failure","code":500,"message":"no"}"#.to_owned(), Eviction::Other),
            ("gone", 404, None, r#"{"kind":"Status","status":"Failure","code":404}"#.to_owned(), Eviction::Gone),
            ("another uid", 409, None, r#"{"kind":"Status","status":"Failure","code":409}"#.to_owned(), Eviction::Gone),
            ("namespace ends", 403, None, r#"{"kind":"Status","status":"Failure","code":403,"details":{"causes":[{"reason":"NamespaceTerminating"}]}}"#.to_owned(), Eviction::NamespaceEnds),
            ("no right", 403, None, r#"{"kind":"Status","status":"Failure","code":403}"#.to_owned(), Eviction::Other),
            ("fault", 500, None, "oops".to_owned(), Eviction::Other),
        ];
        for (name, status, header, text, wanted) in rows {
            assert_eq!(answer(status, header, &text).eviction(), wanted, "{name}");
        }
    }

    #[test]
    fn each_other_answer_has_its_row() {
        use FailureKind::{NotFound, Refused, Retry, Unknown};
        let retry = Retry { after: None };
        let one = Retry {
            after: Some(Duration::from_secs(1)),
        };
        let rows = [
            (400, None, Refused, Refused),
            (401, None, Refused, Refused),
            (403, None, Refused, Refused),
            (404, None, NotFound, NotFound),
            (409, None, retry, retry),
            (422, None, Refused, Refused),
            (429, Some(1), one, one),
            (500, None, Unknown, retry),
            (503, Some(1), Unknown, one),
            (504, None, Unknown, retry),
        ];
        for (status, header, changing, looking) in rows {
            let answer = answer(status, header, "");
            assert_eq!(answer.failure("x", true, &[]).kind, changing, "{status}");
            assert_eq!(answer.failure("x", false, &[]).kind, looking, "{status}");
        }
    }
}
