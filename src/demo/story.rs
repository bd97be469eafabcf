//! The story: what happens outside of Rhizome, and whether what came of it is as it should be.
//!
//! A chapter begins something, waits for what must follow, and gives up when that takes too
//! long. It judges by the records of the journal alone.

use std::time::Duration;

use rhizome_engine::decision::Origin;
use rhizome_engine::event::SourceName;
use rhizome_engine::journal::{Brake, Record};
use rhizome_engine::remediation::{Ending, Operation, OperationKind, Phase};
use rhizome_engine::time::{Now, format_duration};

use super::stage::Stage;

/// Cores that the work keeps busy at first: two nodes of four cores are at 0.4.
const CALM: f64 = 3.2;
/// Two nodes are at 0.9 by this.
const BUSY: f64 = 7.2;
/// Three nodes are at 0.2 by this, two at 0.3.
const IDLE: f64 = 2.4;

/// No chapter takes longer than this; most take five minutes.
const CHAPTER_MAX: Duration = Duration::from_secs(20 * 60);
/// The windows fill up before anything happens.
const CALM_LENGTH: Duration = Duration::from_secs(3 * 60);
/// How long the broker stalls: longer than the guard's bound on lag, and than `silent("60s")`.
const STALL: Duration = Duration::from_secs(120);
/// How long after it nothing must have been harmed.
const AFTERMATH: Duration = Duration::from_secs(120);

/// A chapter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Chapter {
    Build,
    Calm,
    Rise,
    Fall,
    Death,
    Stall,
    Recovery,
    Over,
}

/// What the screen shows of the story.
pub(super) struct View {
    /// Since the beginning, on the demo's clock.
    pub(super) time: Duration,
    /// What is going on.
    pub(super) title: &'static str,
}

/// The story so far.
pub(super) struct Story {
    began: Now,
    chapter: Chapter,
    since: Now,
    stalled: bool,
    harmed: bool,
    added: u32,
    removed: u32,
    replaced: u32,
    witnesses: usize,
    heard_again: bool,
    aborted: bool,
    failure: Option<String>,
    lines: Vec<String>,
}

impl Story {
    pub(super) fn new(now: Now) -> Self {
        Self {
            began: now,
            chapter: Chapter::Build,
            since: now,
            stalled: false,
            harmed: false,
            added: 0,
            removed: 0,
            replaced: 0,
            witnesses: 0,
            heard_again: false,
            aborted: false,
            failure: None,
            lines: Vec::new(),
        }
    }

    pub(super) fn is_over(&self) -> bool {
        self.chapter == Chapter::Over || self.failure.is_some() || self.aborted
    }

    /// Whether everything followed that must, and nothing that must not.
    pub(super) fn came_out(&self) -> bool {
        self.chapter == Chapter::Over && self.failure.is_none() && !self.aborted
    }

    pub(super) fn abort(&mut self) {
        self.aborted = true;
    }

    pub(super) fn view(&self, now: Now) -> View {
        View {
            time: now.mono.since(self.began.mono),
            title: match self.chapter {
                Chapter::Build => "the pool is empty: two nodes are built to reach its minimum",
                Chapter::Calm => "all is calm: the windows fill up",
                Chapter::Rise => "the load rises: a node is added and joins",
                Chapter::Fall => "the load falls: a node is drained and removed",
                Chapter::Death => {
                    "a node's plug is pulled: it is replaced when two witnesses agree"
                }
                Chapter::Stall => "the broker stalls: silence proves nothing now",
                Chapter::Recovery => "the broker is back: sight returns, and nothing was harmed",
                Chapter::Over => "the end",
            },
        }
    }

    /// Takes in a record of the journal and says what to show of it.
    pub(super) fn hear(&mut self, now: Now, record: &Record) -> Vec<String> {
        let line = match record {
            Record::Decision { decision } => {
                self.witnesses = decision.evidence.witnesses.len().max(self.witnesses);
                let mut line = format!("decided  {}", decision.what);
                if !matches!(decision.origin, Origin::Bounds) {
                    line.push_str(&format!(": {} [{}]", decision.why, decision.origin));
                }
                if !decision.evidence.witnesses.is_empty() {
                    let names = decision.evidence.witnesses.iter().map(|one| one.as_str());
                    let names = names.collect::<Vec<_>>().join(" and ");
                    line.push_str(&format!("; {names} agree"));
                }
                let saw = crate::tell::values(&decision.evidence);
                if !saw.is_empty() {
                    line.push_str(&format!(" ({saw})"));
                }
                Some(line)
            }
            Record::Refusal { refusal } => Some(format!(
                "refused  {}: {}: {}",
                refusal.what, refusal.reason, refusal.detail
            )),
            Record::Operation { operation } => self.ended(operation),
            Record::Intent { action, .. } => {
                if self.stalled && action.kind.destroys() {
                    self.harmed = true;
                }
                None
            }
            Record::Brake {
                brake, on, detail, ..
            } => {
                if *brake == Brake::Blind(SourceName::Kafka) && self.stalled && !*on {
                    self.heard_again = true;
                }
                let switch = if *on { "brake on " } else { "brake off" };
                Some(format!("{switch} {detail}"))
            }
            _ => None,
        };
        line.into_iter().map(|line| self.line(now, &line)).collect()
    }

    /// Moves the story on: what happens now, outside of Rhizome.
    pub(super) async fn turn(&mut self, now: Now, stage: &mut Stage) -> Vec<String> {
        let passed = now.mono.since(self.since.mono);
        match self.chapter {
            Chapter::Build if self.added >= 2 => {
                stage.set_demand(CALM);
                self.next(now, Chapter::Calm, "both nodes have joined")
            }
            Chapter::Calm if passed >= CALM_LENGTH => {
                stage.set_demand(BUSY);
                self.added = 0;
                self.next(now, Chapter::Rise, "the load rises to 7.2 cores")
            }
            Chapter::Rise if self.added >= 1 => {
                stage.set_demand(IDLE);
                self.removed = 0;
                self.next(now, Chapter::Fall, "the load falls to 2.4 cores")
            }
            Chapter::Fall if self.removed >= 1 => {
                self.witnesses = 0;
                match stage.kill_one() {
                    Some(node) => {
                        let what = format!("the plug of {node} is pulled");
                        self.next(now, Chapter::Death, &what)
                    }
                    None => self.fail(now, "there is no node whose plug could be pulled"),
                }
            }
            Chapter::Death if self.replaced >= 1 => {
                if self.witnesses < 2 {
                    return self.fail(now, "the node was replaced on the word of one witness");
                }
                stage.stall(true);
                self.stalled = true;
                self.next(now, Chapter::Stall, "the broker stalls")
            }
            Chapter::Stall if passed >= STALL => {
                stage.stall(false);
                self.next(now, Chapter::Recovery, "the broker goes on")
            }
            Chapter::Stall | Chapter::Recovery if self.harmed => {
                self.fail(now, "something was taken away while nothing could be heard")
            }
            Chapter::Recovery if passed >= AFTERMATH && self.heard_again => {
                self.next(now, Chapter::Over, "nothing was harmed")
            }
            _ if passed > CHAPTER_MAX => {
                let title = self.view(now).title;
                self.fail(now, &format!("this did not happen in time: {title}"))
            }
            _ => Vec::new(),
        }
    }

    /// What to show at the end: every decision and refusal with its reason, and how it went.
    pub(super) fn summary(&self) -> Vec<String> {
        let mut lines = vec!["What was decided and refused, and why:".to_owned()];
        lines.extend(self.lines.iter().map(|line| format!("  {line}")));
        lines.push(match &self.failure {
            Some(failure) => format!("The story did not come out: {failure}."),
            None if self.came_out() => "The story came out: a node added, a node removed, a dead \
                node replaced on two witnesses' word, and a stall in which nothing was harmed."
                .to_owned(),
            None => "The demo was ended before the story was over.".to_owned(),
        });
        lines
    }

    fn ended(&mut self, operation: &Operation) -> Option<String> {
        let Phase::Over { ending } = &operation.phase else {
            return None;
        };
        let node = operation
            .node()
            .map(ToString::to_string)
            .unwrap_or_default();
        let verb = match operation.kind {
            OperationKind::Add => "added",
            OperationKind::Remove => "removed",
            OperationKind::Heal(_) => "healed",
            OperationKind::Sweep(_) => "swept",
        };
        match ending {
            Ending::Done => {
                match operation.kind {
                    OperationKind::Add => self.added += 1,
                    OperationKind::Remove => self.removed += 1,
                    OperationKind::Heal(_) => self.replaced += 1,
                    OperationKind::Sweep(_) => {}
                }
                Some(format!("{verb:<8} {node}"))
            }
            Ending::Failed(why) | Ending::Cancelled(why) => Some(format!("given up {node}: {why}")),
            Ending::Dry => None,
        }
    }

    fn next(&mut self, now: Now, chapter: Chapter, what: &str) -> Vec<String> {
        self.chapter = chapter;
        self.since = now;
        vec![self.line(now, &format!("-------- {what}"))]
    }

    fn fail(&mut self, now: Now, why: &str) -> Vec<String> {
        self.failure = Some(why.to_owned());
        vec![self.line(now, &format!("-------- {why}"))]
    }

    fn line(&mut self, now: Now, what: &str) -> String {
        let time = now.mono.since(self.began.mono);
        let time = Duration::from_secs(time.as_secs());
        let line = format!("{:>8}  {what}", format_duration(time));
        self.lines.push(line.clone());
        line
    }
}
