//! The record of every request that came, and of what truly happened in cloud and cluster.
//!
//! Requests say what was asked and answered; facts say what became of the world, whoever did
//! it. The checker and the tests read both. Nothing is changed afterwards but the outcome of
//! a request, which is filled in when it is known.

use rhizome_engine::names::OperationId;
use rhizome_engine::time::Timestamp;

use crate::http::Api;

/// Requests kept. A simulated day of one engine makes some tens of thousands; the bound
/// keeps a demo that is left running from growing for ever.
const MAX_REQUESTS: usize = 500_000;

/// Facts kept, for the same reason.
const MAX_FACTS: usize = 500_000;

/// Everything that was asked and everything that happened, in its order.
#[derive(Debug, Clone, Default)]
pub struct Ledger {
    /// The requests by arrival.
    pub requests: Vec<Entry>,
    /// What happened, by time.
    pub facts: Vec<(Timestamp, Fact)>,
    /// Requests and facts that no longer fitted.
    pub lost: u64,
}

/// One request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its number, from 0.
    pub number: usize,
    /// When it arrived.
    pub at: Timestamp,
    /// Where it arrived.
    pub api: Api,
    /// Its method.
    pub method: String,
    /// Its path, without the query.
    pub path: String,
    /// Its query, as it came.
    pub query: String,
    /// The client, as it calls itself.
    pub user_agent: String,
    /// Whether it asks for a change. Logging in, asking for one's own rights and dry runs do
    /// not.
    pub mutates: bool,
    /// The operation whose mark it carries, or that the server it names carries.
    pub operation: Option<OperationId>,
    /// Whether the server that it names carried Rhizome's mark when it arrived, and no wish to
    /// be left alone; none if it names none that there was.
    pub ours: Option<bool>,
    /// The status that was answered; none if no answer was given (yet).
    pub status: Option<u16>,
    /// Whether what it asks for was done.
    pub effect: Effect,
    /// The fault that met it, by its name.
    pub fault: Option<&'static str>,
}

/// Whether what a request asks for was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// It was not, or it asks for no change.
    None,
    /// It was, when it arrived.
    Done,
    /// It will be later, whatever was answered.
    Pending,
    /// It was, later than it arrived.
    DoneLate(Timestamp),
}

/// Something that happened in cloud or cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fact {
    /// A server came to be.
    ServerCreated {
        /// Its id.
        id: String,
        /// The pool in its marks.
        pool: Option<String>,
        /// The operation in its marks.
        operation: Option<OperationId>,
    },
    /// A server became ACTIVE after its build.
    ServerBuilt {
        /// Its id.
        id: String,
    },
    /// A server went to ERROR.
    ServerFailed {
        /// Its id.
        id: String,
    },
    /// A server's power went off: stopped, or its guest crashed and Nova saw it.
    ServerOff {
        /// Its id.
        id: String,
    },
    /// A server is gone.
    ServerGone {
        /// Its id.
        id: String,
    },
    /// A guest made its Node object, or took over one of the same name.
    NodeJoined {
        /// The node.
        node: String,
        /// The server whose guest it is.
        server: String,
        /// The operation in that server's marks.
        operation: Option<OperationId>,
        /// True if a Node of that name was there already.
        took_over: bool,
    },
    /// A guest could not join.
    JoinFailed {
        /// The node that it would have been.
        node: String,
        /// The server whose guest it is.
        server: String,
        /// Why not.
        reason: &'static str,
    },
    /// A node's condition Ready became True.
    NodeReady {
        /// The node.
        node: String,
    },
    /// A node's condition Ready became False or Unknown.
    NodeUnready {
        /// The node.
        node: String,
    },
    /// A Node object was deleted.
    NodeDeleted {
        /// The node.
        node: String,
        /// The server in its provider id.
        server: Option<String>,
        /// What that server was then.
        fate: Fate,
    },
    /// A node was said to be out of service.
    OutOfService {
        /// The node.
        node: String,
        /// What its server was then.
        fate: Fate,
    },
    /// A node was cordoned (true) or uncordoned.
    Cordoned {
        /// The node.
        node: String,
        /// Whether it is now.
        cordoned: bool,
    },
    /// A pod was evicted through the eviction API.
    Evicted {
        /// Namespace and name.
        pod: String,
        /// The node it ran on.
        node: String,
    },
    /// A guest fell ill or was cured.
    Guest {
        /// The server.
        server: String,
        /// What of it.
        what: &'static str,
    },
}

/// What became of the server behind a Node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// No such server (any more), or none named.
    Gone,
    /// It is there and its power is off.
    Off,
    /// It is there and may run.
    Running,
}

impl Ledger {
    /// Notes that a request arrived; gives its number.
    pub(crate) fn arrive(&mut self, entry: Entry) -> usize {
        let number = self.requests.len();
        if number >= MAX_REQUESTS {
            self.lost += 1;
            return usize::MAX;
        }
        self.requests.push(Entry { number, ..entry });
        number
    }

    /// The request of that number, to fill in what became of it.
    pub(crate) fn entry(&mut self, number: usize) -> Option<&mut Entry> {
        self.requests.get_mut(number)
    }

    /// Notes something that happened.
    pub(crate) fn note(&mut self, at: Timestamp, fact: Fact) {
        if self.facts.len() >= MAX_FACTS {
            self.lost += 1;
            return;
        }
        self.facts.push((at, fact));
    }

    /// The requests that asked for a change, whatever was answered.
    pub fn mutations(&self) -> impl Iterator<Item = &Entry> {
        self.requests.iter().filter(|entry| entry.mutates)
    }

    /// The requests that asked for a server for this operation.
    pub fn creates_of(&self, operation: OperationId) -> impl Iterator<Item = &Entry> {
        self.mutations().filter(move |entry| {
            entry.operation == Some(operation) && entry.is("POST", "/compute/v2.1/servers")
        })
    }

    /// The servers that came to be for this operation.
    pub fn servers_of(&self, operation: OperationId) -> impl Iterator<Item = &str> {
        self.facts.iter().filter_map(move |(_, fact)| match fact {
            Fact::ServerCreated {
                id,
                operation: Some(of),
                ..
            } if *of == operation => Some(id.as_str()),
            _ => None,
        })
    }
}

impl Entry {
    /// Whether it has this method and exactly this path.
    pub fn is(&self, method: &str, path: &str) -> bool {
        self.method == method && self.path == path
    }

    /// The server that its path names, if it is a request on one.
    pub fn server(&self) -> Option<&str> {
        let rest = self.path.strip_prefix("/compute/v2.1/servers/")?;
        let id = rest.split('/').next()?;
        (id != "detail" && !id.is_empty()).then_some(id)
    }

    /// Whether what it asks for was done, then or later.
    pub fn was_done(&self) -> bool {
        matches!(self.effect, Effect::Done | Effect::DoneLate(_))
    }
}

/// The first operation id in a text, wherever it stands.
pub(crate) fn operation_in(text: &str) -> Option<OperationId> {
    text.match_indices("op-").find_map(|(start, _)| {
        let rest = text.get(start..)?;
        let end = rest
            .find(|c: char| !(c.is_ascii_alphanumeric() || c == '-'))
            .unwrap_or(rest.len());
        rest.get(..end)?.parse().ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operation_is_found_wherever_it_stands() {
        let id = OperationId {
            journal: 0x0a1b_2c3d,
            number: 17,
        };
        for text in [
            "op-0a1b2c3d-17",
            r#"{"metadata":{"rhizome-operation":"op-0a1b2c3d-17"}}"#,
            "drop-op-x op-0a1b2c3d-17.",
        ] {
            assert_eq!(operation_in(text), Some(id), "{text}");
        }
        assert_eq!(operation_in("top-level op-1"), None);
    }
}
