//! [`Engine::step`]: the walk of a sample, in order.
//!
//! Everything the engine knows came as an input; everything it wants leaves in an [`Output`].
//! It holds no clock and does no I/O: the same inputs give the same bytes out.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use crate::action::Action;
use crate::cluster::{Change, Cluster, PoolSlot};
use crate::decision::{Proposal, Reason};
use crate::event::{Batch, Input};
use crate::guard::{Brakes, Facts, Suspects};
use crate::join::{Joined, Joins};
use crate::journal::{Record, State};
use crate::names::{NodeName, PoolName};
use crate::notice::Notice;
use crate::planner::{Needs, Outlooks};
use crate::policy::{PolicyError, PolicySet};
use crate::rules::{Deadline, Rules, Watch};
use crate::samples::Places;
use crate::settings::{PoolSettings, Settings};
use crate::signals::{Calm, InFlight, Sight};
use crate::sweep::Sweep;
use crate::time::{Monotonic, Now};
use crate::window::{NodeSlot, SnapshotError, Windows};

mod ahead;
mod attention;
mod braking;
mod inputs;
mod pausing;
mod recent;
mod telling;

pub(crate) use ahead::AHEAD;
use attention::Attention;
use inputs::Touched;
use recent::Recent;

/// How often everything that depends on the passing of time is looked at.
///
/// A second: holds, cooldowns and deadlines are minutes, and a pause must bite within a second.
const TICK: Duration = Duration::from_secs(1);

/// What a step wants done.
#[derive(Debug, Default)]
pub struct Output {
    /// To be written to the journal, in this order, before anything else happens.
    pub records: Vec<Record>,
    /// To be carried out once the records are synced.
    pub actions: Vec<Action>,
    /// What asks for a human.
    pub notices: Vec<Notice>,
    /// Answers to operators' requests, by their key.
    pub answers: Vec<(String, Answer)>,
    /// Scripts that failed.
    pub failures: Vec<PolicyError>,
    /// When to step again at the latest.
    pub wake_at: Option<Monotonic>,
}

/// What became of an operator's request.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// It took effect, or is under way: this was done.
    Granted(String),
    /// It was not granted.
    Refused(Reason, String),
}

/// Counters of the engine's own work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Records taken in.
    pub records: u64,
    /// Records that named nothing in the inventory.
    pub unknown: u64,
    /// Samples too old for the lateness bound.
    pub late: u64,
    /// Samples too far ahead of the clock.
    pub future: u64,
    /// Samples of a node, metric and time that was in already.
    pub duplicates: u64,
    /// Samples that came faster than once a second.
    pub crowded: u64,
    /// Samples that are no finite number.
    pub refused: u64,
    /// How often a body of a policy was entered.
    pub bodies: u64,
}

/// What rules and guard look at. Apart from the rules, which change while they look.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) settings: Arc<Settings>,
    pub(crate) cluster: Cluster,
    pub(crate) windows: Windows,
    pub(crate) brakes: Brakes,
    pub(crate) calm: Calm,
    pub(crate) suspects: Suspects,
    pub(crate) in_flight: Vec<InFlight>,
}

impl World {
    pub(crate) fn sight(&self, now: Now) -> Sight<'_> {
        Sight {
            now,
            cluster: &self.cluster,
            windows: &self.windows,
            settings: &self.settings,
            flowing_since: self.brakes.flowing_since(&self.settings),
            calm: &self.calm,
            suspects: &self.suspects,
            in_flight: &self.in_flight,
        }
    }

    /// Those who may be ill, and what that follows from.
    fn suspects(&mut self) -> (&mut Suspects, Facts<'_>) {
        let facts = Facts {
            cluster: &self.cluster,
            windows: &self.windows,
            lease_grace: self.settings.limits.lease_grace,
        };
        (&mut self.suspects, facts)
    }

    /// Something is known of a node that may make it a suspect sooner.
    pub(crate) fn watch(&mut self, slot: NodeSlot) {
        let (suspects, facts) = self.suspects();
        suspects.watch(slot, facts);
    }
}

/// The engine.
pub struct Engine {
    pub(crate) world: World,
    pub(crate) state: State,
    pub(crate) joins: Joins,
    pub(crate) joined: Vec<Joined>,
    pub(crate) rules: Rules,
    pub(crate) needs: Vec<Needs>,
    pub(crate) outlooks: Outlooks,
    pub(crate) out: Output,
    pub(crate) recent: Recent,
    pub(crate) counters: Counters,
    pub(crate) answered: VecDeque<(String, Answer)>,
    pub(crate) owed: Option<(String, Proposal)>,
    pub(crate) sweep: Sweep,
    attention: Attention,
    pub(crate) quiet: std::collections::BTreeMap<PoolName, Monotonic>,
    kept: std::collections::BTreeMap<NodeName, NodeSlot>,
    /// By pool slot.
    pools: Vec<(PoolName, Arc<PoolSettings>)>,
    now: Now,
    watch: Watch,
    version: String,
    next_tick: Monotonic,
    replan: bool,
    flowed: Option<Now>,
    /// Whether a sample of the record at hand went to a window.
    pub(crate) pushed: bool,
    pub(crate) places: Places,
    touched: Touched,
    /// Of the records of the batch at hand.
    slots: Vec<Option<NodeSlot>>,
    touched_pools: Vec<bool>,
    changes: Vec<Change>,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine")
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}

impl Engine {
    /// An engine that begins at `now` with what the journal says of the time before.
    ///
    /// `journal` is a number drawn once when the journal was made. The first step puts out the
    /// record of the new epoch.
    pub fn new(
        settings: Settings,
        policies: Arc<PolicySet>,
        records: impl IntoIterator<Item = Record>,
        journal: u32,
        version: &str,
        now: Now,
    ) -> Self {
        let settings = Arc::new(settings);
        let mut state = State::default();
        for record in records {
            state.apply(&record);
        }
        let pools: Vec<_> = settings.pools.keys().cloned().collect();
        let by_slot = settings.pools.iter();
        let by_slot = by_slot.map(|(name, pool)| (name.clone(), Arc::new(pool.clone())));
        let by_slot = by_slot.collect();
        let mut engine = Self {
            world: World {
                cluster: Cluster::new(&settings),
                windows: Windows::new(policies.plan(), settings.lateness),
                brakes: Brakes::new(now),
                calm: Calm::default(),
                suspects: Suspects::default(),
                in_flight: vec![InFlight::default(); pools.len()],
                settings,
            },
            joins: Joins::default(),
            joined: Vec::new(),
            rules: Rules::new(policies, &pools),
            needs: pools.iter().map(|_| Needs::default()).collect(),
            outlooks: Outlooks::default(),
            touched_pools: vec![false; pools.len()],
            out: Output::default(),
            recent: Recent::default(),
            counters: Counters::default(),
            answered: VecDeque::new(),
            owed: None,
            sweep: Sweep::default(),
            attention: Attention::default(),
            quiet: std::collections::BTreeMap::new(),
            kept: std::collections::BTreeMap::new(),
            pools: by_slot,
            now,
            watch: Watch::never(),
            version: version.to_owned(),
            next_tick: now.mono,
            replan: false,
            flowed: None,
            pushed: false,
            places: Places::default(),
            touched: Touched::default(),
            slots: Vec::new(),
            changes: Vec::new(),
            state,
        };
        let owned = engine.state.owned.keys().cloned();
        engine.world.cluster.expect(owned);
        let epoch = engine.state.epoch + 1;
        engine.emit(Record::Epoch {
            epoch,
            journal,
            at: now,
            version: engine.version.clone(),
        });
        engine.note_policies(now);
        engine.resume(now);
        engine.tell_what_holds(now);
        engine
    }

    /// Ends scripts that take too long. Without one only their limit of operations does.
    pub fn set_deadline(&mut self, deadline: Arc<dyn Deadline>) {
        self.watch = Watch::new(deadline);
    }

    /// Takes one input in at `now` and says what is to be done.
    pub fn step(&mut self, now: Now, input: Input) -> Output {
        self.begin_step(now);
        match input {
            Input::Batch(batch) => self.batches(now, [&batch]),
            Input::Observation(observation) => self.observation(now, observation),
            Input::Alert(alert) => self.alert(now, &alert),
            Input::Source(report) => {
                let settings = Arc::clone(&self.world.settings);
                self.world.brakes.report(now, &settings, report);
                // What waits for a source to be heard again does not wait for the tick.
                self.replan |= !self.rules.is_quiet();
            }
            Input::Operator(request) => self.operator(now, request),
            Input::Pause(report) => self.pause_report(now, report),
            Input::Outcome(key, result) => self.outcome(now, key, result),
            Input::Policies(policies) => self.policies(now, policies),
            Input::JournalHealth(well) => self.journal_health(now, well),
            Input::Tick => {}
        }
        self.end_step(now)
    }

    /// Takes in the batches that wait together, in one look, and without copying them: what a
    /// connector reads into is used again.
    pub fn step_batches<'a>(
        &mut self,
        now: Now,
        batches: impl IntoIterator<Item = &'a Batch>,
    ) -> Output {
        self.begin_step(now);
        self.batches(now, batches);
        self.end_step(now)
    }

    fn begin_step(&mut self, now: Now) {
        self.now = now;
        self.watch_clock(now);
        let (suspects, facts) = self.world.suspects();
        suspects.advance(now, facts);
    }

    /// What is due by now, and what follows from what came in.
    fn end_step(&mut self, now: Now) -> Output {
        if now.mono >= self.next_tick {
            self.tick(now);
        } else {
            if self.rules.wake_at().is_some_and(|at| at <= now.mono) {
                let sight = self.world.sight(now);
                self.rules.timers(sight, &self.watch);
            }
            self.decide_on_fresh(now);
        }
        self.out.failures = self.rules.take_failures();
        self.counters.bodies = self.rules.bodies();
        self.out.wake_at = Some(match self.rules.wake_at() {
            Some(at) => at.min(self.next_tick),
            None => self.next_tick,
        });
        std::mem::take(&mut self.out)
    }

    /// All durable state as one record, for the head of a compacted journal.
    pub fn snapshot(&self) -> Record {
        Record::Snapshot {
            state: Box::new(self.state.clone()),
        }
    }

    /// The durable state.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Counters of the engine's own work.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Bytes that the windows of all nodes take in memory.
    pub fn windows_bytes(&self) -> usize {
        self.world.windows.bytes()
    }

    /// The windows of all nodes as bytes, to be kept beside the positions that they hold; with
    /// them, and the length of it at the end, what the joins have learnt.
    pub fn windows_snapshot(&self) -> Vec<u8> {
        let cluster = &self.world.cluster;
        let name = |slot| cluster.member(slot).map(|member| member.name.as_str());
        let mut bytes = self.world.windows.snapshot(name);
        let joins = self.joins.snapshot(cluster.members().map(|(slot, _)| slot));
        bytes.extend(&joins);
        bytes.extend((joins.len() as u64).to_le_bytes());
        bytes
    }

    /// Takes the windows of an earlier run. Before anything is observed: each name gets its
    /// windows back when it is seen again.
    ///
    /// # Errors
    ///
    /// Returns why the bytes are no such snapshot; the windows are then empty as before.
    pub fn restore_windows(&mut self, bytes: &[u8]) -> Result<usize, SnapshotError> {
        let plan = self.rules.policies().plan().clone();
        let lateness = self.world.settings.lateness;
        let parts = bytes.split_last_chunk().and_then(|(bytes, length)| {
            let joins = usize::try_from(u64::from_le_bytes(*length)).ok()?;
            bytes.split_at_checked(bytes.len().checked_sub(joins)?)
        });
        let (windows, joins) = parts.ok_or(SnapshotError::Damaged(bytes.len()))?;
        let (windows, names) = Windows::restore(&plan, lateness, windows)?;
        let slots = (0..).map(NodeSlot).take(names.len());
        let newest = slots.filter_map(|slot| windows.last_heard(slot)).max();
        let gap = newest.map(|newest| self.now.wall.since(newest));
        if gap.is_some_and(|gap| gap <= self.world.settings.limits.source_timeout) {
            self.world.brakes.windows_kept();
        }
        self.joins = Joins::restore(joins)?;
        self.world.windows = windows;
        self.places.forget();
        self.kept = (0..)
            .map(NodeSlot)
            .zip(&names)
            .map(|(slot, name)| (NodeName::new(name), slot))
            .collect();
        Ok(names.len())
    }

    /// The widest window that a policy reads, and the lateness bound: what lies further back
    /// reaches no window.
    pub fn refill_length(&self) -> Duration {
        let plan = self.rules.policies().plan();
        let widest = plan.metrics.iter().flat_map(|(_, windows)| windows).max();
        widest.copied().unwrap_or_default() + self.world.settings.lateness
    }

    fn tick(&mut self, now: Now) {
        self.next_tick = now.mono.plus(TICK);
        self.update_brakes(now);
        let sight = self.world.sight(now);
        self.rules.timers(sight, &self.watch);
        for slot in 0..self.pool_count() {
            let sight = self.world.sight(now);
            self.rules.look_at_pool(sight, PoolSlot(slot), &self.watch);
        }
        self.decide(now);
        self.sweep(now);
        self.drive(now);
        self.tell_what_holds(now);
    }

    pub(crate) fn decide(&mut self, now: Now) {
        self.replan = false;
        self.rules.take_fresh();
        self.count_in_flight();
        self.plan(now);
    }

    /// Decides on what was proposed in this step; on everything that stands, if it may come out
    /// otherwise by what came in.
    fn decide_on_fresh(&mut self, now: Now) {
        let fresh = self.rules.take_fresh();
        if self.replan || fresh.is_of_all() {
            self.decide(now);
        } else if !fresh.is_nothing() {
            self.count_in_flight();
            self.plan_fresh(now, &fresh);
        }
    }

    pub(crate) fn sight(&self, now: Now) -> Sight<'_> {
        self.world.sight(now)
    }

    /// The world has changed: everything that stands is decided on again in this step.
    pub(crate) fn replan(&mut self) {
        self.replan = true;
    }

    /// When this step is.
    pub(crate) fn now(&self) -> Now {
        self.now
    }

    pub(crate) fn pool_count(&self) -> u16 {
        u16::try_from(self.world.settings.pools.len()).unwrap_or(u16::MAX)
    }

    pub(crate) fn pool_at(&self, slot: PoolSlot) -> Option<(&PoolName, &PoolSettings)> {
        let (name, settings) = self.pools.get(usize::from(slot.0))?;
        Some((name, settings))
    }

    pub(crate) fn pool_of(&self, slot: PoolSlot) -> Option<(PoolName, Arc<PoolSettings>)> {
        self.pools.get(usize::from(slot.0)).cloned()
    }
}
