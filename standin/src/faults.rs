//! Faults on request: rules that meet requests before they are answered, and switches.
//!
//! A rule matches a service, a method and a path, lets some requests pass, meets some, and is
//! used up. The first rule that matches meets the request. Faults change what a client sees
//! or when the world changes, never the rules by which it changes.

use std::time::Duration;

use hyper::Method;
use serde_json::{Value, json};

use crate::http::{Answer, Api, Request};
use crate::world::World;

/// An answer as a rule gives it.
#[derive(Debug, Clone, PartialEq)]
pub struct Refusal {
    /// The status.
    pub status: u16,
    /// Headers.
    pub headers: Vec<(&'static str, String)>,
    /// The body; none for an empty one.
    pub body: Option<Value>,
    /// A body that is no JSON, in place of `body`.
    pub text: Option<String>,
}

/// What happens to a request that a rule meets.
#[derive(Debug, Clone)]
pub enum Fault {
    /// It is not done, and this is answered.
    Refuse(Refusal),
    /// It waits this long, and is then done and answered as usual.
    Delay(Duration),
    /// The token that it shows is withdrawn at Keystone, and this much later (whoever has seen the
    /// token may remember it for a while) it is carried out as usual.
    Withdrawn(Duration),
    /// It is not done, and the connection is closed without an answer.
    DropBefore,
    /// It is done, and the connection is closed without an answer.
    DropAfter,
    /// It is done, and this is answered all the same.
    DoneBut(Refusal),
    /// It is done this much later; at once the connection is closed (none) or this answered.
    DoLate(Duration, Option<Refusal>),
    /// It is not done and never answered; the client's patience ends it.
    Hang,
    /// It is done and never answered.
    HangDone,
    /// A list comes back with only its first so many items, as if whole.
    PartialList(usize),
    /// It is answered from the world as it was when the rule was added.
    Stale,
    /// The body comes in pieces of so many bytes, with a pause before each.
    SlowBody(usize, Duration),
    /// The connection is closed after half of the body.
    CutBody,
    /// The server that it creates stays in BUILD for ever.
    BuildForever,
    /// The server that it creates is ACTIVE and has no address, its ports unbound: seen when
    /// another create that named them failed. Nobody hears of its guest.
    NoAddress,
    /// The server that it creates goes to ERROR, with this message.
    BuildFails(&'static str),
    /// The server that it deletes stays there, its task `deleting`, for ever.
    DeleteStuck,
    /// The server that it deletes or acts on stays in that task for ever, as if its host died.
    HostDead,
}

impl Fault {
    /// Its name in the ledger.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Refuse(_) => "refuse",
            Self::Delay(_) => "delay",
            Self::Withdrawn(_) => "withdrawn",
            Self::DropBefore => "drop_before",
            Self::DropAfter => "drop_after",
            Self::DoneBut(_) => "done_but",
            Self::DoLate(..) => "do_late",
            Self::Hang => "hang",
            Self::HangDone => "hang_done",
            Self::PartialList(_) => "partial_list",
            Self::Stale => "stale",
            Self::SlowBody(..) => "slow_body",
            Self::CutBody => "cut_body",
            Self::BuildForever => "build_forever",
            Self::NoAddress => "no_address",
            Self::BuildFails(_) => "build_fails",
            Self::DeleteStuck => "delete_stuck",
            Self::HostDead => "host_dead",
        }
    }

    /// Whether it concerns the way to a service alone, so that it can be played in front of a real
    /// one. The others need a world that does as they say.
    pub(crate) fn is_of_the_wire(&self) -> bool {
        !matches!(
            self,
            Self::Stale
                | Self::BuildForever
                | Self::NoAddress
                | Self::BuildFails(_)
                | Self::DeleteStuck
                | Self::HostDead
        )
    }
}

/// Nova's text when no host takes a server, with its blank at the end.
pub const NO_VALID_HOST: &str = "No valid host was found. ";

/// A rule: which requests it meets and how.
#[derive(Debug, Clone)]
pub struct Rule {
    api: Option<Api>,
    method: Option<Method>,
    path: String,
    skip: u32,
    times: u32,
    fault: Fault,
}

impl Rule {
    /// A rule that meets each request whose path matches `glob`, on either service.
    ///
    /// `*` stands for any run of characters but `/`, `**` for any run at all.
    pub fn new(glob: &str, fault: Fault) -> Self {
        Self {
            api: None,
            method: None,
            path: glob.to_owned(),
            skip: 0,
            times: u32::MAX,
            fault,
        }
    }

    /// Only requests to this service.
    #[must_use]
    pub fn on(mut self, api: Api) -> Self {
        self.api = Some(api);
        self
    }

    /// Only requests with this method, by its name; an unknown one meets nothing.
    #[must_use]
    pub fn method(mut self, method: &str) -> Self {
        self.method = Method::from_bytes(method.as_bytes()).ok();
        self
    }

    /// Lets the first so many pass.
    #[must_use]
    pub fn skip(mut self, skip: u32) -> Self {
        self.skip = skip;
        self
    }

    /// Meets so many, and is then used up.
    #[must_use]
    pub fn times(mut self, times: u32) -> Self {
        self.times = times;
        self
    }

    pub(crate) fn fault(&self) -> &Fault {
        &self.fault
    }

    fn matches(&self, request: &Request) -> bool {
        self.api.is_none_or(|api| api == request.api)
            && self
                .method
                .as_ref()
                .is_none_or(|method| *method == request.method)
            && glob_matches(&self.path, &request.path)
    }
}

/// The handle of a rule, to take it away again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct RuleId(u64);

/// What a fault needs when it meets a request.
#[derive(Debug, Clone)]
pub(crate) struct Met {
    pub(crate) fault: Fault,
    pub(crate) snapshot: Option<Box<World>>,
}

/// The rules and the switches.
#[derive(Debug, Default)]
pub struct Faults {
    rules: Vec<(RuleId, Rule, Option<Box<World>>)>,
    next: u64,
    /// Keystone closes every connection; Nova goes on for tokens it has seen.
    pub keystone_down: bool,
    /// Nova closes every connection.
    pub nova_down: bool,
    /// The API server closes every connection, open watches included.
    pub kube_down: bool,
    /// Watches stay open and say nothing.
    pub watches_silent: bool,
}

impl Faults {
    /// Adds a rule; for a [`Fault::Stale`], `world` is what is then seen.
    pub(crate) fn add(&mut self, rule: Rule, world: &World) -> RuleId {
        let id = RuleId(self.next);
        self.next += 1;
        let snapshot = matches!(rule.fault, Fault::Stale).then(|| Box::new(world.clone()));
        self.rules.push((id, rule, snapshot));
        id
    }

    /// The switches, to see whether one was turned.
    pub(crate) fn switches(&self) -> [bool; 4] {
        [
            self.keystone_down,
            self.nova_down,
            self.kube_down,
            self.watches_silent,
        ]
    }

    /// Takes a rule away.
    pub fn remove(&mut self, id: RuleId) {
        self.rules.retain(|(other, ..)| *other != id);
    }

    /// Takes all rules away and turns all switches off.
    pub fn clear(&mut self) {
        *self = Self {
            next: self.next,
            ..Self::default()
        };
    }

    /// The fault that meets this request, if any; counts it.
    pub(crate) fn meet(&mut self, request: &Request) -> Option<Met> {
        let down = match request.api {
            Api::Kubernetes => self.kube_down,
            Api::OpenStack if request.path.starts_with("/compute") => self.nova_down,
            Api::OpenStack => self.keystone_down,
        };
        if down {
            return Some(Met {
                fault: Fault::DropBefore,
                snapshot: None,
            });
        }
        let (_, rule, snapshot) = self
            .rules
            .iter_mut()
            .find(|(_, rule, _)| rule.times > 0 && rule.matches(request))?;
        if rule.skip > 0 {
            rule.skip -= 1;
            return None;
        }
        if rule.times != u32::MAX {
            rule.times -= 1;
        }
        Some(Met {
            fault: rule.fault.clone(),
            snapshot: snapshot.clone(),
        })
    }
}

impl Refusal {
    /// A refusal with a JSON body.
    pub fn json(status: u16, body: Value) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: Some(body),
            text: None,
        }
    }

    /// Nova's envelope: one key that names the class, then code and message.
    pub fn nova(status: u16, message: &str) -> Self {
        Self::json(status, crate::nova::envelope(status, message))
    }

    /// Nova's 401: the token is not accepted.
    pub fn nova_unauthorized() -> Self {
        Self::json(401, crate::nova::unauthorized_body())
    }

    /// Nova's 429 with its `Retry-After` in seconds.
    pub fn nova_too_many(retry_after: u32) -> Self {
        let mut refusal = Self::json(
            429,
            json!({"overLimit": {"code": 429, "message": "This request was rate-limited.",
                "retryAfter": retry_after.to_string()}}),
        );
        refusal
            .headers
            .push(("retry-after", retry_after.to_string()));
        refusal
    }

    /// Nova's 403 when a quota is used up.
    pub fn quota_exceeded() -> Self {
        Self::nova(
            403,
            "Quota exceeded for instances: Requested 1, but already used 2 of 2 instances",
        )
    }

    /// The API server's Status object.
    pub fn kubernetes(status: u16, reason: &str, message: &str) -> Self {
        Self::json(status, crate::kube::status::body(status, reason, message))
    }

    /// The API server's flow control: 429, plain text, `Retry-After`.
    pub fn flow_control(retry_after: u32) -> Self {
        Self {
            status: 429,
            headers: vec![("retry-after", retry_after.to_string())],
            body: None,
            text: Some("Too many requests, please try again later.\n".to_owned()),
        }
    }

    pub(crate) fn answer(self) -> Answer {
        let mut answer = match (self.text, self.body) {
            (Some(text), _) => Answer::text(self.status, text),
            (None, Some(body)) => Answer::json(self.status, body),
            (None, None) => Answer::empty(self.status),
        };
        let headers = self.headers.into_iter();
        answer.headers = headers.map(|(name, value)| (name.into(), value)).collect();
        answer
    }
}

/// Whether `text` matches `glob`: `*` for any run but `/`, `**` for any run.
fn glob_matches(glob: &str, text: &str) -> bool {
    if let Some(rest) = glob.strip_prefix("**") {
        return (0..=text.len())
            .filter_map(|at| text.get(at..))
            .any(|tail| glob_matches(rest, tail));
    }
    if let Some(rest) = glob.strip_prefix('*') {
        let end = text.find('/').unwrap_or(text.len());
        return (0..=end)
            .filter_map(|at| text.get(at..))
            .any(|tail| glob_matches(rest, tail));
    }
    match (glob.chars().next(), text.chars().next()) {
        (None, None) => true,
        (Some(wanted), Some(found)) if wanted == found => glob_matches(
            glob.get(wanted.len_utf8()..).unwrap_or_default(),
            text.get(found.len_utf8()..).unwrap_or_default(),
        ),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs_match_as_they_say() {
        for (glob, text, matches) in [
            ("/compute/v2.1/servers", "/compute/v2.1/servers", true),
            ("/compute/v2.1/servers", "/compute/v2.1/servers/1", false),
            ("/compute/v2.1/servers/*", "/compute/v2.1/servers/1", true),
            (
                "/compute/v2.1/servers/*",
                "/compute/v2.1/servers/1/action",
                false,
            ),
            ("/compute/**", "/compute/v2.1/servers/1/action", true),
            ("**/eviction", "/api/v1/namespaces/d/pods/p/eviction", true),
            ("**", "", true),
            ("*", "/", false),
        ] {
            assert_eq!(glob_matches(glob, text), matches, "{glob} {text}");
        }
    }
}
