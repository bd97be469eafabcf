//! The engine's thread: input, step, journal, and only then action and acknowledgement.
//!
//! ```text
//! receive -> step -> append and sync -> acknowledge, answer, act
//!                          |
//!                          +-- failed: nothing is acted on; what was to be is told to the
//!                              engine as held back, and a whole new journal is tried
//! ```
//!
//! INVARIANT: no action leaves this thread before [`Journal::append`] has returned for the
//! record of its intent.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rhizome_connectors::delivery::ReceiveError;
use rhizome_connectors::{Ack, Delivery, Outlet, Position};
use rhizome_engine::action::{Action, Failure, FailureKind};
use rhizome_engine::decision::Reason;
use rhizome_engine::event::{Batch, Input, OperatorRequest};
use rhizome_engine::journal::Record;
use rhizome_engine::notice::Notice;
use rhizome_engine::time::{Clock, Monotonic, Now};
use rhizome_engine::{Answer, Deadline, Engine, Output};
use tokio::sync::{mpsc, oneshot};
use tracing::{error, info, warn};

use crate::gate::ProgramGate;
use crate::handle::{CALLS_WAITING, Call, Calls};
use crate::journal::Journal;
use crate::windows::{Held, Keeper};

/// Scripts run on this thread: the limits on them are made for this much stack.
pub const STACK_BYTES: usize = 16 << 20;

/// A script is ended after this long on the wall. The limit on operations is part of its
/// answer; this is the net under operations that are slow.
const SCRIPT_DEADLINE: Duration = Duration::from_millis(50);

/// Deliveries that are stepped before their records are synced together. One sync costs up to
/// a few milliseconds; what waits meanwhile is taken in one go.
const DELIVERIES_PER_SYNC: usize = 32;

/// Records that are looked at in one step at most, unless one delivery has more. Whoever acts on the
/// first of them waits for the last: so many take a few milliseconds.
const RECORDS_PER_STEP: usize = 2_000;

/// A failed journal is tried again this often, on the wall.
const JOURNAL_RETRY: Duration = Duration::from_secs(5);

/// The windows are written this often: what a restart then has to read again.
const WINDOWS_EVERY: Duration = Duration::from_secs(60);

/// The longest wait for input, so that a stop is seen soon.
const WAIT_MAX: Duration = Duration::from_millis(200);

/// Someone who is told of each journaled record: log, metrics, the demo's screen.
pub type Told = Box<dyn FnMut(&Record) + Send>;

/// Everything the thread owns.
pub struct Core {
    /// The engine.
    pub engine: Engine,
    /// The journal.
    pub journal: Journal,
    /// Where input comes from.
    pub outlet: Outlet,
    /// Where questions come from.
    pub calls: Calls,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Follows what is journaled: pauses take effect with their record.
    pub gate: Arc<ProgramGate>,
    /// Where actions go.
    pub actions: mpsc::UnboundedSender<Action>,
    /// Where notices go.
    pub notices: mpsc::UnboundedSender<Notice>,
    /// Where each journaled record goes to be told: log, metrics, the demo's screen.
    pub told: Vec<Told>,
    /// Where the windows are kept; nowhere in the demo and in tests.
    pub windows: Option<Keeper>,
}

impl Core {
    /// Runs until it is told to stop or every sender of input is gone.
    pub fn run(self, stop: &Stop) {
        let mut thread = Thread::new(self);
        thread.first();
        let mut more = true;
        while more && !stop.now.load(Ordering::Acquire) {
            more = thread.turn(stop);
        }
        thread.last();
    }
}

/// How the thread is told to stop.
#[derive(Debug, Default)]
pub struct Stop {
    /// Only outcomes are taken in from now on. Inputs that end with the program are no reason
    /// to close a brake that would then hold after the next start.
    pub draining: AtomicBool,
    /// The end.
    pub now: AtomicBool,
}

struct Thread {
    core: Core,
    wake_at: Monotonic,
    waiting: Waiting,
    positions: Held,
    failed_at: Option<Monotonic>,
    windows_at: Monotonic,
    acks: Vec<Ack>,
    /// Taken from the channel and not stepped yet.
    batches: Vec<Batch>,
    output: Output,
}

impl Thread {
    fn new(mut core: Core) -> Self {
        core.engine
            .set_deadline(Arc::new(WallDeadline::new(Arc::clone(&core.clock))));
        let now = core.clock.now().mono;
        Self {
            core,
            wake_at: now,
            waiting: Waiting::default(),
            positions: BTreeMap::new(),
            failed_at: None,
            windows_at: now,
            acks: Vec::new(),
            batches: Vec::new(),
            output: Output::default(),
        }
    }

    /// The epoch is journaled before anything else, and the gate told of what holds.
    fn first(&mut self) {
        self.core.gate.restore(self.core.engine.state());
        match self.core.journal.health() {
            Ok(()) => self.core.gate.set_journal_well(true),
            Err(error) => self.journal_failed(&error.to_string()),
        }
        self.step(Input::Tick);
        self.finish();
    }

    /// One turn; false when no more input can come.
    fn turn(&mut self, stop: &Stop) -> bool {
        let draining = stop.draining.load(Ordering::Acquire);
        let now = self.core.clock.now();
        let left = self.core.clock.real(self.wake_at.since(now.mono));
        match self.core.outlet.receive(left.min(WAIT_MAX)) {
            Ok(delivery) => {
                self.deliver(delivery, draining);
                for _ in 1..DELIVERIES_PER_SYNC {
                    // What is to be done waits for nothing more than its sync.
                    if !self.output.actions.is_empty() {
                        break;
                    }
                    let Ok(delivery) = self.core.outlet.try_receive() else {
                        break;
                    };
                    self.deliver(delivery, draining);
                }
                self.step_batches();
            }
            Err(ReceiveError::Timeout) => {}
            Err(ReceiveError::Stopped) => return false,
        }
        let now = self.core.clock.now();
        if now.mono >= self.wake_at && !draining {
            self.step(Input::Tick);
        }
        self.finish();
        self.mend_journal(now);
        self.answer_calls();
        self.keep_windows(now);
        true
    }

    fn last(&mut self) {
        self.finish();
        if let Some(keeper) = self.core.windows.take() {
            let windows = self.core.engine.windows_snapshot();
            if let Err(error) = keeper.last(&windows, &self.positions) {
                warn!(%error, "the windows could not be kept: a restart reads them again");
            }
        }
        info!("the engine has stopped");
    }

    fn deliver(&mut self, Delivery { input, ack }: Delivery, draining: bool) {
        if draining && !matches!(input, Input::Outcome(..)) {
            return;
        }
        match input {
            Input::Batch(batch) => {
                let waiting: usize = self.batches.iter().map(Batch::len).sum();
                if waiting + batch.len() > RECORDS_PER_STEP {
                    self.step_batches();
                    self.finish_actions();
                }
                self.acks.extend(ack);
                self.batches.push(batch);
            }
            // In the order in which they came.
            input => {
                self.step_batches();
                self.finish_actions();
                self.acks.extend(ack);
                self.step(input);
            }
        }
    }

    /// Lets out what the deliveries before want done: that does not wait for the one in hand, whose
    /// ack is not taken in yet.
    fn finish_actions(&mut self) {
        if !self.output.actions.is_empty() {
            self.finish();
        }
    }

    /// Takes in the batches that wait together: what they touch is looked at once.
    fn step_batches(&mut self) {
        if self.batches.is_empty() {
            return;
        }
        let now = self.core.clock.now();
        let output = self.core.engine.step_batches(now, &self.batches);
        for batch in self.batches.drain(..) {
            self.core.outlet.give_back(batch);
        }
        self.take(output);
    }

    fn step(&mut self, input: Input) {
        let output = self.core.engine.step(self.core.clock.now(), input);
        self.take(output);
    }

    fn take(&mut self, output: Output) {
        if let Some(at) = output.wake_at {
            self.wake_at = at;
        }
        self.output.records.extend(output.records);
        self.output.actions.extend(output.actions);
        self.output.notices.extend(output.notices);
        self.output.answers.extend(output.answers);
        self.output.failures.extend(output.failures);
    }

    /// Makes durable what the steps since the last time came to, and then lets it out.
    fn finish(&mut self) {
        for failure in self.output.failures.drain(..) {
            warn!(file = %failure.file, line = failure.line, column = failure.column,
                error = %failure.message, "a policy failed and proposes nothing");
        }
        let output = std::mem::take(&mut self.output);
        let durable = self.write(&output.records);
        for record in &output.records {
            self.core.gate.follow(record);
        }
        // Once its intent is on the disk an action waits for nothing more, no log line either.
        if durable {
            for action in output.actions {
                let _ = self.core.actions.send(action);
            }
            self.acknowledge();
        } else {
            // Acks that are dropped are harmless: the records are read again. Actions whose
            // intent is not on the disk never happen.
            self.acks.clear();
            for action in output.actions {
                self.hold_back(&action);
            }
        }
        for (key, answer) in output.answers {
            let answer = if durable { answer } else { not_kept(answer) };
            self.waiting.answer(&key, &answer);
        }
        for notice in output.notices {
            let _ = self.core.notices.send(notice);
        }
        for record in &output.records {
            for told in &mut self.core.told {
                told(record);
            }
        }
    }

    /// Says that what was delivered is decided on and kept.
    fn acknowledge(&mut self) {
        for ack in self.acks.drain(..) {
            for Position {
                topic,
                partition,
                next,
            } in &ack.positions
            {
                self.positions
                    .insert((Arc::clone(topic), *partition), *next);
            }
            ack.done();
        }
    }

    fn write(&mut self, records: &[Record]) -> bool {
        if self.failed_at.is_some() {
            // What is not written now stands in the snapshot that mends the journal.
            return false;
        }
        match self.core.journal.append(records) {
            Ok(()) => true,
            Err(error) => {
                self.journal_failed(&error.to_string());
                false
            }
        }
    }

    fn hold_back(&mut self, action: &Action) {
        let held = Failure::new(FailureKind::Gate, "the journal cannot be written");
        self.step(Input::Outcome(action.key, Err(held)));
    }

    fn journal_failed(&mut self, why: &str) {
        error!(
            error = why,
            "the journal cannot be written: nothing is acted on until it can"
        );
        self.failed_at = Some(self.core.clock.now().mono);
        self.core.gate.set_journal_well(false);
        self.step(Input::JournalHealth(false));
    }

    /// Compacts the journal when it has grown, and tries to mend it while it has failed.
    fn mend_journal(&mut self, now: Now) {
        let retry = self
            .failed_at
            .is_some_and(|failed| self.core.clock.real(now.mono.since(failed)) >= JOURNAL_RETRY);
        let grown = self.failed_at.is_none() && self.core.journal.wants_compaction();
        if !retry && !grown {
            return;
        }
        match self.core.journal.compact(&self.core.engine.snapshot()) {
            Ok(()) => {
                if self.failed_at.take().is_some() {
                    info!("the journal can be written again");
                    self.core.gate.set_journal_well(true);
                    self.step(Input::JournalHealth(true));
                    self.finish();
                }
            }
            Err(error) if retry => {
                warn!(%error, "the journal still cannot be written");
                self.failed_at = Some(now.mono);
            }
            Err(error) => match self.core.journal.health() {
                Ok(()) => warn!(%error, "the journal could not be compacted and goes on as it is"),
                Err(_) => self.journal_failed(&error.to_string()),
            },
        }
    }

    fn keep_windows(&mut self, now: Now) {
        if now.mono.since(self.windows_at) >= WINDOWS_EVERY {
            self.windows_at = now.mono;
            if let Some(keeper) = &self.core.windows {
                keeper.keep(self.core.engine.windows_snapshot(), self.positions.clone());
            }
        }
    }

    /// What is told here is on the disk, but while the journal has failed, which a status says.
    /// Wishes that wait together are synced together; what comes meanwhile waits for the next turn.
    fn answer_calls(&mut self) {
        for _ in 0..CALLS_WAITING {
            let Ok(call) = self.core.calls.try_recv() else {
                break;
            };
            if !matches!(call, Call::Operator(..)) {
                self.finish();
            }
            let now = self.core.clock.now();
            match call {
                Call::Status(reply) => {
                    let _ = reply.send(Box::new(self.core.engine.status(now)));
                }
                Call::Overview(reply) => {
                    let _ = reply.send(self.core.engine.overview(now));
                }
                Call::Why(target, reply) => {
                    let _ = reply.send(self.core.engine.why(now, &target));
                }
                Call::Counters(reply) => {
                    let _ = reply.send(self.core.engine.counters());
                }
                Call::Operator(request, reply) => self.wish(request, reply),
            }
        }
        self.finish();
    }

    fn wish(&mut self, request: OperatorRequest, reply: oneshot::Sender<Answer>) {
        // Answered after the sync of what it led to: an answer is a promise.
        self.waiting.wait(&request.key, reply);
        self.step(Input::Operator(request));
    }
}

/// Who waits for an answer, by the key of the request. A client that sends one again while the
/// first still waits has both answered alike.
#[derive(Default)]
struct Waiting(BTreeMap<String, Vec<oneshot::Sender<Answer>>>);

impl Waiting {
    fn wait(&mut self, key: &str, reply: oneshot::Sender<Answer>) {
        self.0.entry(key.to_owned()).or_default().push(reply);
    }

    fn answer(&mut self, key: &str, answer: &Answer) {
        for reply in self.0.remove(key).unwrap_or_default() {
            // Whoever asked may have gone away; the wish stands all the same.
            let _ = reply.send(answer.clone());
        }
    }
}

/// What was granted is in force and not on the disk: a restart would forget it, and whoever
/// asked has to know.
fn not_kept(answer: Answer) -> Answer {
    match answer {
        Answer::Granted(text) => Answer::Refused(
            Reason::JournalFailed,
            format!("the journal cannot be written: until a restart only, {text}"),
        ),
        refused @ Answer::Refused(..) => refused,
    }
}

/// Ends scripts by the program's clock, taken in real time.
struct WallDeadline {
    clock: Arc<dyn Clock>,
    began: std::sync::atomic::AtomicU64,
}

impl WallDeadline {
    fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            clock,
            began: std::sync::atomic::AtomicU64::new(0),
        }
    }
}

impl Deadline for WallDeadline {
    fn begin(&self) {
        self.began.store(self.clock.now().mono.0, Ordering::Relaxed);
    }

    fn passed(&self) -> bool {
        let began = Monotonic(self.began.load(Ordering::Relaxed));
        let passed = self.clock.now().mono.since(began);
        self.clock.real(passed) >= SCRIPT_DEADLINE
    }
}

#[cfg(test)]
mod tests;
