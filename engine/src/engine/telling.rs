//! What leaves: records for the journal, refusals, notices, and what is kept for `why`.

use super::Engine;
use crate::decision::{Evidence, Proposal, Reason, Refusal};
use crate::guard::Refused;
use crate::journal::Record;
use crate::names::{NodeName, PoolName};
use crate::notice::{Notice, NoticeKind};
use crate::time::Now;

impl Engine {
    /// Changes the durable state and puts the record out to be written.
    pub(crate) fn emit(&mut self, record: Record) {
        self.state.apply(&record);
        self.unsettle(&record);
        match &record {
            Record::Decision { decision } => self.recent.decided(decision),
            Record::Refusal { refusal } => self.recent.refused(refusal),
            _ => {}
        }
        self.out.records.push(record);
    }

    /// Notes a refusal; it is journaled when it is new, has another reason than before, or is one of what was
    /// given up meanwhile and is asked for anew.
    pub(crate) fn refuse(
        &mut self,
        now: Now,
        pool: &PoolName,
        node: Option<&NodeName>,
        proposal: &Proposal,
        why: Refused,
    ) {
        self.refuse_seen(now, pool, node, proposal, why, || proposal.evidence.clone());
    }

    /// The same, with what was seen beyond what the proposal saw.
    pub(crate) fn refuse_seen(
        &mut self,
        now: Now,
        pool: &PoolName,
        node: Option<&NodeName>,
        proposal: &Proposal,
        (reason, detail): Refused,
        evidence: impl FnOnce() -> Evidence,
    ) {
        self.answer_refused(proposal, reason, &detail);
        if let (Reason::LadderExhausted, Some(node)) = (reason, node) {
            self.attention.ladder(now, pool, node, &detail);
        }
        let what = crate::story::asked(&proposal.ask);
        let key = Refusal::key_of(pool, node, &proposal.origin, &what);
        let told = self.state.refused.get(&key);
        if told.is_some_and(|told| told.covers(reason, Some(proposal), now.wall)) {
            return;
        }
        let refusal = Refusal {
            at: now.wall,
            pool: pool.clone(),
            node: node.cloned(),
            what,
            origin: proposal.origin.clone(),
            reason,
            detail,
            evidence: evidence(),
        };
        self.emit(Record::Refusal { refusal });
    }

    pub(crate) fn notice(
        &mut self,
        now: Now,
        kind: NoticeKind,
        on: bool,
        pool: Option<PoolName>,
        text: String,
    ) {
        self.out.notices.push(Notice {
            at: now.wall,
            kind,
            on,
            pool,
            subject: None,
            text,
        });
    }
}
