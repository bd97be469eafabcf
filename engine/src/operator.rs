//! Operators' wishes: through planner and guard like any other proposal, journaled with who
//! and why.

use crate::decision::{Ask, Direction, Evidence, Origin, Proposal, Reason, Rung, Witness};
use crate::engine::{Answer, Engine};
use crate::event::{OperatorRequest, Target, Wish};
use crate::journal::Record;
use crate::names::PoolName;
use crate::time::Now;

/// Answers kept, so that a request that is sent again is told the same: as many as the journal
/// keeps keys.
const ANSWERS_KEPT: usize = 256;

impl Engine {
    /// Takes in a wish. The answer is put out under the request's key.
    pub(crate) fn operator(&mut self, now: Now, request: OperatorRequest) {
        if self.state.wishes.contains(&request.key) {
            let first = self.answered.iter().find(|(key, _)| *key == request.key);
            let answer = first.map_or_else(
                || Answer::Granted("this request was taken before".to_owned()),
                |(_, answer)| answer.clone(),
            );
            self.out.answers.push((request.key, answer));
            return;
        }
        if let Some(unknown) = self.unknown_target(&request.wish) {
            self.answer(&request.key, Answer::Refused(Reason::Unknown, unknown));
            return;
        }
        // What has to be decided on is taken in once it is decided: were its key journaled first
        // and the program killed in between, whoever sends it again would be told that it was
        // granted, and nothing would come of it.
        let decided = matches!(
            request.wish,
            Wish::Scale { .. } | Wish::Replace { .. } | Wish::Adopt { .. }
        );
        if !decided {
            self.take_in(now, &request);
        }
        match &request.wish {
            Wish::Scale { pool, size } => {
                let ask = Ask::Resize {
                    pool: pool.clone(),
                    to: i64::from(*size),
                    direction: Direction::Either,
                };
                self.ask(now, &request, ask);
            }
            Wish::Replace { node } => {
                let ask = Ask::Heal {
                    node: node.clone(),
                    ladder: vec![Rung::Replace],
                    witness: Witness::Operator,
                };
                self.ask(now, &request, ask);
            }
            Wish::Cancel { operation } => {
                let answer = self.cancel(now, *operation, &request.who);
                self.answer(&request.key, answer);
            }
            Wish::Adopt { target } => {
                let answer = self.adopt(now, target, &request.who);
                self.answer(&request.key, answer);
                self.take_in(now, &request);
            }
            Wish::Pause { pool } => self.done(&request.key, format!("paused {}", scope(pool))),
            Wish::Resume { pool } => {
                self.lift_unread(now, pool.as_ref());
                let text = self.resumed(pool);
                self.done(&request.key, text);
            }
            Wish::Protect { node, on: true } => {
                self.done(&request.key, format!("{node} is protected"));
            }
            Wish::Protect { node, on: false } => {
                self.done(&request.key, format!("{node} is no longer protected"));
            }
            Wish::Maintenance { target, length } => {
                let name = match target {
                    Target::Node(node) => node.as_str(),
                    Target::Pool(pool) => pool.as_str(),
                };
                let text = if length.is_zero() {
                    format!("the maintenance of {name} is over")
                } else {
                    format!("{name} is left alone until {}", now.wall.plus(*length))
                };
                self.done(&request.key, text);
            }
        }
    }

    fn take_in(&mut self, now: Now, request: &OperatorRequest) {
        self.emit(Record::Wish {
            at: now,
            key: request.key.clone(),
            who: request.who.clone(),
            why: request.why.clone(),
            wish: request.wish.clone(),
        });
    }

    fn ask(&mut self, now: Now, request: &OperatorRequest, ask: Ask) {
        let proposal = Proposal {
            origin: Origin::Operator(request.who.clone()),
            ask,
            why: request.why.clone(),
            evidence: Evidence::default(),
            since: None,
            entered: None,
        };
        // An answer is owed at once; the wish itself stands until it is granted or expires.
        self.owed = Some((request.key.clone(), proposal.clone()));
        let until = now.mono.plus(self.world.settings.limits.decision_expiry);
        self.rules.ask(proposal, until);
        self.decide(now);
        if let Some((key, _)) = self.owed.take() {
            let text = "taken: nothing had to be done".to_owned();
            self.answer(&key, Answer::Granted(text));
        }
        self.take_in(now, request);
    }

    /// The proposal was granted: if an operator waits for it, this is the answer.
    pub(crate) fn answer_granted(&mut self, proposal: &Proposal, text: &str) {
        if let Some((key, _)) = self.owed.take_if(|(_, owed)| same(owed, proposal)) {
            self.answer(&key, Answer::Granted(text.to_owned()));
        }
    }

    /// The proposal was refused: if an operator waits for it, this is the answer, and the wish
    /// does not stand any longer: what an operator was told is what happens.
    pub(crate) fn answer_refused(&mut self, proposal: &Proposal, reason: Reason, detail: &str) {
        if let Some((key, owed)) = self.owed.take_if(|(_, owed)| same(owed, proposal)) {
            self.rules.answered(&owed);
            self.answer(&key, Answer::Refused(reason, detail.to_owned()));
        }
    }

    fn done(&mut self, key: &str, text: String) {
        self.answer(key, Answer::Granted(text));
    }

    fn answer(&mut self, key: &str, answer: Answer) {
        if self.answered.len() == ANSWERS_KEPT {
            self.answered.pop_front();
        }
        self.answered.push_back((key.to_owned(), answer.clone()));
        self.out.answers.push((key.to_owned(), answer));
    }

    fn unknown_target(&self, wish: &Wish) -> Option<String> {
        let no_pool = |pool: &PoolName| {
            let known: Vec<_> = self
                .world
                .settings
                .pools
                .keys()
                .map(PoolName::as_str)
                .collect();
            (!self.world.settings.pools.contains_key(pool))
                .then(|| format!("there is no pool `{pool}`; there are: {}", known.join(", ")))
        };
        let no_node = |node: &crate::names::NodeName| {
            self.world
                .cluster
                .find(node.as_str())
                .is_none()
                .then(|| format!("there is no node `{node}` in the inventory"))
        };
        match wish {
            Wish::Pause { pool } | Wish::Resume { pool } => pool.as_ref().and_then(no_pool),
            Wish::Scale { pool, .. } => no_pool(pool),
            Wish::Replace { node } | Wish::Protect { node, on: true } => no_node(node),
            Wish::Adopt { target } | Wish::Maintenance { target, .. } => match target {
                Target::Pool(pool) => no_pool(pool),
                Target::Node(node) => no_node(node),
            },
            // Taking a protection off must work for a node that is gone.
            Wish::Protect { on: false, .. } | Wish::Cancel { .. } => None,
        }
    }
}

fn same(owed: &Proposal, other: &Proposal) -> bool {
    owed.origin == other.origin && owed.why == other.why
}

fn scope(pool: &Option<PoolName>) -> String {
    pool.as_ref()
        .map_or_else(|| "everything".to_owned(), ToString::to_string)
}
