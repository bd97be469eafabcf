//! Proposals that are made once and stand: those of alerts and of operators.

use std::sync::Arc;
use std::time::Duration;

use super::{Asking, Rules, Watch};
use crate::decision::Proposal;
use crate::event::Alert;
use crate::policy::{RuleKind, Signal, SignalReader, Subject};
use crate::signals::Sight;
use crate::time::Monotonic;

/// Most proposals of alerts that wait to be granted. An alert storm fills it, and what does not
/// fit is dropped; as a witness the alert counts all the same.
const ASKED_MAX: usize = 1_000;

/// What an alert proposes stands while it fires, for a second witness may come later than the
/// alert, which is told once. No longer than this, for the end of an alert may get lost:
/// Alertmanager's own default until it repeats one.
const ALERT_STANDS: Duration = Duration::from_secs(4 * 3600);

/// A proposal that is made once and stands until it is granted or too old.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) proposal: Arc<Proposal>,
    pub(super) until: Monotonic,
    /// The fingerprint of the alert that asks; an operator's wish has none.
    alert: Option<String>,
}

impl Rules {
    /// Runs the rules of an alert that fires.
    pub(crate) fn alert(&mut self, sight: Sight<'_>, alert: &Alert, watch: &Watch) {
        let policies = Arc::clone(&self.policies);
        for (place, rule) in policies.rules().iter().enumerate() {
            if !matches!(&rule.kind, RuleKind::OnAlert(name) if *name == alert.name) {
                continue;
            }
            let subject = Subject::Alert(alert.clone());
            let asking = Asking::once(sight.now.wall);
            for proposal in self.propose(place, &subject, &mut NoSignals, watch, asking) {
                self.stand(Asked {
                    proposal: Arc::new(proposal),
                    until: sight.now.mono.plus(ALERT_STANDS),
                    alert: Some(alert.fingerprint.clone()),
                });
            }
        }
    }

    /// An alert fires no longer: nothing is done on its word any more.
    pub(crate) fn alert_over(&mut self, alert: &Alert) {
        self.asked
            .retain(|asked| asked.alert.as_ref() != Some(&alert.fingerprint));
    }

    /// Takes in a proposal that stands until it is granted or `until`.
    pub(crate) fn ask(&mut self, proposal: Proposal, until: Monotonic) {
        self.stand(Asked {
            proposal: Arc::new(proposal),
            until,
            alert: None,
        });
    }

    fn stand(&mut self, new: Asked) {
        let proposal = Arc::clone(&new.proposal);
        self.answered(&proposal);
        if self.asked.len() < ASKED_MAX {
            self.fresh.of_all();
            self.asked.push(new);
        }
    }

    /// The proposal was granted, or will never be: it need not be asked again.
    pub(crate) fn answered(&mut self, proposal: &Proposal) {
        let same = |asked: &Asked| {
            asked.proposal.origin == proposal.origin && asked.proposal.ask == proposal.ask
        };
        self.asked.retain(|asked| !same(asked));
    }
}

/// An alert's body reads no signals of its own.
struct NoSignals;

impl SignalReader for NoSignals {
    fn read(&mut self, _index: u32, _signal: &Signal) -> crate::window::Reading {
        crate::window::Reading::default()
    }
}
