//! The gate: the last look before every mutating call.
//!
//! The guard (engine) decides, seconds or minutes before; the gate is asked at the moment of
//! the call, on the thread that makes it. No call goes round it: an executor needs the
//! [`Pass`] that only a gate gives. It decides nothing: it lets through or holds back, and
//! what is held back goes to the engine as a failure of kind `Gate`, with nothing sent.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use dashmap::{DashMap, DashSet};
use rhizome_actions::{Gate, Pass};
use rhizome_engine::action::{Action, ActionKind, Failure, FailureKind};
use rhizome_engine::event::{PauseSource, StandingPause, Wish};
use rhizome_engine::journal::{Brake, Domain, Record, State};
use rhizome_engine::names::{OperationId, PoolName, VmId};
use rhizome_engine::remediation::{Operation, Phase};
use rhizome_engine::settings::Limits;
use rhizome_engine::time::{Clock, Monotonic};

/// The window of the cap on one pool's removals.
const POOL_WINDOW: Duration = Duration::from_secs(60);

/// The window of the cap on all removals.
const CLUSTER_WINDOW: Duration = Duration::from_secs(600);

/// What the gate knows, shared by every action of the program.
pub struct ProgramGate {
    clock: Arc<dyn Clock>,
    /// Set in a dry run: a second lock behind the executor that calls nothing.
    dry: bool,
    paused_all: AtomicBool,
    paused: DashSet<PoolName>,
    /// Pauses by a file or a ConfigMap.
    standing: DashMap<PauseSource, StandingPause>,
    /// Operations that were called off and have not turned round yet.
    recalled: DashSet<OperationId>,
    /// Pools in a storm.
    stormy: DashSet<PoolName>,
    /// Zones and hypervisors in a storm.
    stormy_domains: DashSet<Domain>,
    /// What the old machine of each operation under way stands on, where that is known.
    stand_on: DashMap<OperationId, Vec<Domain>>,
    journal_well: AtomicBool,
    stopping: AtomicBool,
    held: AtomicU64,
    velocity: Mutex<Velocity>,
}

#[derive(Default)]
struct Velocity {
    per_minute_pool: u32,
    per_ten_minutes: u32,
    /// Removals that were let through, oldest first; each VM counts once.
    removals: VecDeque<(PoolName, Option<VmId>, Monotonic)>,
}

/// The gate for one execution of one action.
///
/// The expiry is held against its first call only: a drain that began in time may go on
/// evicting for minutes, and every other condition is looked at before each call.
struct ActionGate {
    program: Arc<ProgramGate>,
    begun: AtomicBool,
}

/// Why a call is held back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Hold {
    DryRun,
    Stopping,
    Journal,
    Paused,
    PoolPaused,
    Standing,
    Recalled,
    Storm,
    DomainStorm,
    Expired,
    PoolVelocity,
    Velocity,
}

impl ProgramGate {
    /// A gate that is open but for a journal that is not known to be well yet.
    pub fn new(clock: Arc<dyn Clock>, limits: &Limits, dry: bool) -> Arc<Self> {
        Arc::new(Self {
            clock,
            dry,
            paused_all: AtomicBool::new(false),
            paused: DashSet::new(),
            standing: DashMap::new(),
            recalled: DashSet::new(),
            stormy: DashSet::new(),
            stormy_domains: DashSet::new(),
            stand_on: DashMap::new(),
            journal_well: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
            held: AtomicU64::new(0),
            velocity: Mutex::new(Velocity {
                per_minute_pool: limits.removals_per_minute_pool,
                per_ten_minutes: limits.removals_per_ten_minutes,
                removals: VecDeque::new(),
            }),
        })
    }

    /// The gate for one execution of one action.
    pub fn for_action(self: &Arc<Self>) -> Arc<dyn Gate> {
        Arc::new(ActionGate {
            program: Arc::clone(self),
            begun: AtomicBool::new(false),
        })
    }

    /// Takes over what holds calls back, and the removals, from the state that the journal adds up
    /// to.
    ///
    /// `state` must have begun its epoch on this run's clock.
    pub fn restore(&self, state: &State) {
        self.take_over(state);
        let mut velocity = self.velocity();
        velocity.removals = state
            .removals
            .iter()
            .map(|removal| (removal.pool.clone(), removal.vm.clone(), removal.at.mono))
            .collect();
    }

    /// Follows what was journaled: an operator's pause or its end, an operation that is called
    /// off, a storm, and what of it a compacted journal begins with.
    pub fn follow(&self, record: &Record) {
        match record {
            Record::Wish {
                wish: Wish::Pause { pool },
                ..
            } => self.set_paused(pool.as_ref(), true),
            Record::Wish {
                wish: Wish::Resume { pool },
                ..
            } => self.set_paused(pool.as_ref(), false),
            Record::Pause { source, pause, .. } => self.set_standing(*source, pause.clone()),
            Record::Operation { operation } => self.follow_operation(operation),
            Record::Brake { brake, on, .. } => self.follow_brake(brake, *on),
            Record::Snapshot { state } => self.take_over(state),
            _ => {}
        }
    }

    fn take_over(&self, state: &State) {
        for pool in &state.paused {
            self.set_paused(pool.as_ref(), true);
        }
        for (source, (_, pause)) in &state.standing {
            // What was read at this start already goes before what an earlier one knew.
            self.standing
                .entry(*source)
                .or_insert_with(|| pause.clone());
        }
        for operation in state.operations.values() {
            self.follow_operation(operation);
        }
        for brake in state.brakes.keys() {
            self.follow_brake(brake, true);
        }
    }

    /// Holds back every call of what a file or a ConfigMap pauses, from now on; or no longer.
    pub fn set_standing(&self, source: PauseSource, pause: Option<StandingPause>) {
        match pause {
            Some(pause) => {
                self.standing.insert(source, pause);
            }
            None => {
                self.standing.remove(&source);
            }
        }
    }

    fn follow_operation(&self, operation: &Operation) {
        if operation.is_recalled() {
            self.recalled.insert(operation.id);
        } else {
            self.recalled.remove(&operation.id);
        }
        let over = matches!(operation.phase, Phase::Over { .. });
        let stands_on = operation.old.as_ref().map(|old| &old.stands_on);
        match stands_on.filter(|on| !on.is_empty() && !over) {
            Some(on) => {
                self.stand_on.insert(operation.id, on.clone());
            }
            None => {
                self.stand_on.remove(&operation.id);
            }
        }
    }

    /// Of the brakes, those that overtake a drain under way are followed: a storm in its pool, or
    /// of what its node stands on.
    fn follow_brake(&self, brake: &Brake, on: bool) {
        match (brake, on) {
            (Brake::Storm(pool), true) => {
                self.stormy.insert(pool.clone());
            }
            (Brake::Storm(pool), false) => {
                self.stormy.remove(pool);
            }
            (Brake::Domain(domain), true) => {
                self.stormy_domains.insert(domain.clone());
            }
            (Brake::Domain(domain), false) => {
                self.stormy_domains.remove(domain);
            }
            (Brake::Blind(_) | Brake::Inventory(_) | Brake::Clock | Brake::Pause(_), _) => {}
        }
    }

    /// Holds back every call of a pool, or of all, from now on; or no longer.
    ///
    /// The end of a pause of everything ends the pauses of single pools too, as in the engine.
    pub fn set_paused(&self, pool: Option<&PoolName>, paused: bool) {
        match (pool, paused) {
            (None, true) => self.paused_all.store(true, Ordering::SeqCst),
            (None, false) => {
                self.paused_all.store(false, Ordering::SeqCst);
                self.paused.clear();
            }
            (Some(pool), true) => {
                self.paused.insert(pool.clone());
            }
            (Some(pool), false) => {
                self.paused.remove(pool);
            }
        }
    }

    /// Holds back every call while the journal cannot be written.
    pub fn set_journal_well(&self, well: bool) {
        self.journal_well.store(well, Ordering::SeqCst);
    }

    /// Holds back every call from now on: the program ends.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::SeqCst);
    }

    /// How many calls were held back.
    pub fn held(&self) -> u64 {
        self.held.load(Ordering::Relaxed)
    }

    fn stands(&self, pool: &PoolName) -> bool {
        self.standing.iter().any(|one| one.covers(pool))
    }

    fn velocity(&self) -> std::sync::MutexGuard<'_, Velocity> {
        self.velocity.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn look(&self, action: &Action, begun: bool) -> Result<(), Hold> {
        let now = self.clock.now();
        let is = |flag: &AtomicBool| flag.load(Ordering::SeqCst);
        let holds = [
            (self.dry, Hold::DryRun),
            (is(&self.stopping), Hold::Stopping),
            (!is(&self.journal_well), Hold::Journal),
            (is(&self.paused_all), Hold::Paused),
            (self.paused.contains(&action.pool), Hold::PoolPaused),
            (self.stands(&action.pool), Hold::Standing),
            (!begun && now.wall > action.expires, Hold::Expired),
        ];
        if let Some((_, hold)) = holds.into_iter().find(|(holds, _)| *holds) {
            return Err(hold);
        }
        // What is made of several calls in a row is not left half done: it is undone when it ends.
        if !begun || takes_long(&action.kind) {
            self.goes_on(action)?;
        }
        if let ActionKind::DeleteServer { vm } = &action.kind {
            return self.velocity().take(&action.pool, &vm.id, now.mono);
        }
        Ok(())
    }

    /// Whether an action under way is still wanted: it was not called off meanwhile, by an
    /// operator or by a word against its node, and no storm has begun that holds evictions back.
    fn goes_on(&self, action: &Action) -> Result<(), Hold> {
        if self.recalled.contains(&action.key.operation) {
            return Err(Hold::Recalled);
        }
        if !matches!(action.kind, ActionKind::Drain { .. }) {
            return Ok(());
        }
        if self.stormy.contains(&action.pool) {
            return Err(Hold::Storm);
        }
        let stands_on = self.stand_on.get(&action.key.operation);
        let in_storm = |domain: &Domain| self.stormy_domains.contains(domain);
        if stands_on.is_some_and(|domains| domains.iter().any(in_storm)) {
            return Err(Hold::DomainStorm);
        }
        Ok(())
    }

    /// What is held back, as the executor and the engine are told.
    fn hold(&self, action: &Action, call: &'static str, hold: Hold) -> Failure {
        self.held.fetch_add(1, Ordering::Relaxed);
        tracing::info!(
            call,
            action = action.kind.name(),
            key = %action.key,
            pool = %action.pool,
            reason = hold.words(),
            "the gate held a call back"
        );
        let message = format!("`{call}` was not sent: {}", hold.words());
        Failure::new(FailureKind::Gate, message)
    }
}

/// Whether the action goes on for minutes, call after call, and may end between any two of them.
fn takes_long(kind: &ActionKind) -> bool {
    matches!(
        kind,
        ActionKind::Drain { .. } | ActionKind::ApproveJoin { .. }
    )
}

impl Velocity {
    /// Counts a removal, or says that it would be one too many.
    fn take(&mut self, pool: &PoolName, vm: &VmId, now: Monotonic) -> Result<(), Hold> {
        self.removals
            .retain(|(_, _, at)| now.since(*at) < CLUSTER_WINDOW);
        // A delete that is tried again is one removal.
        if self
            .removals
            .iter()
            .any(|(_, made, _)| made.as_ref() == Some(vm))
        {
            return Ok(());
        }
        let in_pool = self
            .removals
            .iter()
            .filter(|(of, _, at)| of == pool && now.since(*at) < POOL_WINDOW);
        if count(in_pool.count()) >= self.per_minute_pool {
            return Err(Hold::PoolVelocity);
        }
        if count(self.removals.len()) >= self.per_ten_minutes {
            return Err(Hold::Velocity);
        }
        self.removals
            .push_back((pool.clone(), Some(vm.clone()), now));
        Ok(())
    }
}

fn count(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

impl Gate for ActionGate {
    fn pass(&self, action: &Action, call: &'static str) -> Result<Pass, Failure> {
        match self.program.look(action, self.begun.load(Ordering::SeqCst)) {
            Ok(()) => {
                self.begun.store(true, Ordering::SeqCst);
                Ok(Pass::granted())
            }
            Err(hold) => Err(self.program.hold(action, call, hold)),
        }
    }

    fn goes_on(&self, action: &Action) -> Result<(), Failure> {
        let may = self.program.goes_on(action);
        may.map_err(|hold| self.program.hold(action, action.kind.name(), hold))
    }
}

impl Hold {
    fn words(self) -> &'static str {
        match self {
            Self::DryRun => "this is a dry run",
            Self::Stopping => "the program is stopping",
            Self::Journal => "the journal cannot be written",
            Self::Paused => "everything is paused by an operator",
            Self::PoolPaused => "the pool is paused by an operator",
            Self::Standing => "a file or a ConfigMap pauses it",
            Self::Recalled => "its operation was called off",
            Self::Storm => "too many are silent or ill in the pool",
            Self::DomainStorm => "too many are silent or ill in its zone or on its hypervisor",
            Self::Expired => "its decision is too old",
            Self::PoolVelocity => "the pool had its removals of this minute",
            Self::Velocity => "the cluster had its removals of these ten minutes",
        }
    }
}

#[cfg(test)]
mod tests;
