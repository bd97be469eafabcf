//! Runs the engine through a scenario, second by second of virtual time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rhizome_engine::action::Action;
use rhizome_engine::event::{
    Alert, Batch, Form, Input, OperatorRequest, SourceName, SourceReport, Target,
};
use rhizome_engine::journal::{Record, State};
use rhizome_engine::names::{NodeName, OperationId, PoolName};
use rhizome_engine::policy::{PolicyError, PolicySet, SourceFile};
use rhizome_engine::remediation::{Ending, OperationKind, Phase};
use rhizome_engine::settings::{Limits, PoolSettings, Settings};
use rhizome_engine::time::{Monotonic, Now, Timestamp, format_duration};
use rhizome_engine::{Engine, Output};

use super::model::{Fact, Fate, Model};
use super::parse::{Happening, Scenario};

/// The first second of every scenario: 2026-01-01T00:00:00Z.
const BEGIN: Timestamp = Timestamp(1_767_225_600_000);

/// How often the world is listed, leases are renewed and sources report.
const LISTING: u64 = 10;

/// How often the ports are looked at.
const PORTS: u64 = 120;

/// The name of the cluster in every scenario.
const CLUSTER: &str = "scenario";

/// Why a scenario cannot be played.
#[derive(Debug, thiserror::Error)]
pub enum PlayError {
    /// Its policies do not load.
    #[error("the policies do not load: {}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Policies(Vec<PolicyError>),
    /// It names a pool that it does not define.
    #[error("there is no pool `{0}`: define it with `pool {0} min=1 max=5`")]
    Pool(PoolName),
}

/// A scenario being played, second by second, for those who want to look or to interfere.
pub struct Rehearsal<'a> {
    scenario: &'a Scenario,
    pools: Pools,
    /// The journal's own number: another one when it was lost.
    number: u32,
    policies: Arc<PolicySet>,
    engine: Engine,
    model: Model,
    journal: Vec<Record>,
    lines: Vec<String>,
    end: Duration,
    events: usize,
    heard: BTreeMap<SourceName, bool>,
    held_back: Vec<Batch>,
    wishes: u32,
    next: u64,
    fates: Option<Fates>,
    acted: Vec<(Timestamp, Action)>,
    cut: Option<Cut>,
    unanswered: Vec<OperatorRequest>,
}

/// The pools that are configured.
type Pools = BTreeMap<PoolName, PoolSettings>;

/// Says what becomes of each action.
type Fates = Box<dyn FnMut(&Action) -> Fate>;

/// Where the program is killed.
#[derive(Debug, Clone, Copy)]
struct Cut {
    records: usize,
    done: bool,
    fell: bool,
}

impl<'a> Rehearsal<'a> {
    /// At the first second of `scenario`; nothing has happened yet.
    ///
    /// # Errors
    ///
    /// Returns why it cannot be played at all.
    pub fn new(scenario: &'a Scenario, policies: &[SourceFile]) -> Result<Self, PlayError> {
        let policies = PolicySet::load(policies).map_err(PlayError::Policies)?;
        Self::with(scenario, Arc::new(policies))
    }

    /// The same with policies that are loaded already.
    ///
    /// # Errors
    ///
    /// Returns why it cannot be played at all.
    pub fn with(scenario: &'a Scenario, policies: Arc<PolicySet>) -> Result<Self, PlayError> {
        for pool in scenario.nodes.keys() {
            if !scenario.pools.contains_key(pool) {
                return Err(PlayError::Pool(pool.clone()));
            }
        }
        Ok(Self::begin(scenario, policies))
    }

    /// Plays the next second. False if there is none.
    pub fn second(&mut self) -> bool {
        let second = self.next;
        if second > self.end.as_secs() {
            return false;
        }
        self.next += 1;
        self.play(second);
        true
    }

    /// Lets `fates` say what becomes of each action from now on.
    pub fn set_fates(&mut self, fates: impl FnMut(&Action) -> Fate + 'static) {
        self.fates = Some(Box::new(fates));
    }

    /// Kills the program just when the journal holds `records` records. Of what it has sent in
    /// that moment all is done, or nothing is; no answer comes.
    pub fn cut_at(&mut self, records: usize, done: bool) {
        let fell = false;
        self.cut = Some(Cut {
            records,
            done,
            fell,
        });
    }

    /// Whether it was killed there.
    pub fn is_cut(&self) -> bool {
        self.cut.is_some_and(|cut| cut.fell)
    }

    /// Starts the program again on these records.
    pub fn start_again(&mut self, records: Vec<Record>) {
        self.cut = None;
        self.journal = records;
        let now = at(self.next);
        self.engine = engine(&self.pools, &self.policies, &self.journal, self.number, now);
        self.report(now);
        // Whoever was told nothing asks again.
        for request in std::mem::take(&mut self.unanswered) {
            self.step(now, Input::Operator(request));
        }
    }

    /// The journal so far.
    pub fn journal(&self) -> &[Record] {
        &self.journal
    }

    /// The engine.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// How much time passes in it.
    pub fn length(&self) -> Duration {
        self.end
    }

    /// The lines so far: one for each decision, refusal, ending, brake and wish.
    pub fn lines(&self) -> &[String] {
        &self.lines
    }

    /// The machines, as they really are.
    pub fn machines(&self) -> Vec<Fact> {
        self.model.machines().collect()
    }

    /// Those for whose machines there are ports, and no machine of theirs is there.
    pub fn ports_left(&self) -> Vec<OperationId> {
        self.model.ports_left()
    }

    /// The inputs that cannot be heard just now.
    pub fn unheard(&self) -> Vec<SourceName> {
        let unheard = self.heard.iter().filter(|(_, heard)| !**heard);
        unheard.map(|(source, _)| *source).collect()
    }

    /// The actions since the last call, with their times.
    pub fn take_actions(&mut self) -> Vec<(Timestamp, Action)> {
        std::mem::take(&mut self.acted)
    }

    fn begin(scenario: &'a Scenario, policies: Arc<PolicySet>) -> Self {
        let kubernetes = scenario
            .pools
            .iter()
            .map(|(name, pool)| (name.clone(), pool.kubernetes))
            .collect();
        let mut model = Model::new(CLUSTER, kubernetes);
        let mut state = State {
            journal: 1,
            next_operation: 1,
            ..State::default()
        };
        for (pool, names) in &scenario.nodes {
            for name in names {
                let id = OperationId {
                    journal: 1,
                    number: state.next_operation,
                };
                state.next_operation += 1;
                let vm = model.found(BEGIN, pool, name, id);
                state.owned.insert(vm, id);
            }
        }
        for (node, pods) in &scenario.pods {
            model.run(node, pods);
        }
        let journal = vec![Record::Snapshot {
            state: Box::new(state),
        }];
        let engine = engine(&scenario.pools, &policies, &journal, 1, at(0));
        let longest = scenario.series.iter().map(|series| series.values.len());
        let longest = u32::try_from(longest.max().unwrap_or_default()).unwrap_or(u32::MAX);
        let last = scenario.events.last().map_or(Duration::ZERO, |(at, _)| *at);
        Self {
            end: last.max(scenario.every * longest) + scenario.run_on,
            heard: [
                SourceName::Kafka,
                SourceName::Openstack,
                SourceName::Kubernetes,
            ]
            .map(|source| (source, true))
            .into(),
            pools: scenario.pools.clone(),
            number: 1,
            scenario,
            policies,
            engine,
            model,
            journal,
            lines: Vec::new(),
            events: 0,
            held_back: Vec::new(),
            wishes: 0,
            next: 0,
            fates: None,
            acted: Vec::new(),
            cut: None,
            unanswered: Vec::new(),
        }
    }

    fn play(&mut self, second: u64) {
        let now = at(second);
        while let Some((when, happening)) = self.scenario.events.get(self.events)
            && when.as_secs() <= second
        {
            self.events += 1;
            self.happen(now, &happening.clone());
        }
        if second.is_multiple_of(LISTING) {
            self.report(now);
        }
        for (key, result) in self.model.advance(now.wall) {
            self.step(now, Input::Outcome(key, result));
        }
        self.look(now, second);
        if second.is_multiple_of(self.scenario.every.as_secs().max(1)) {
            self.speak(now, second / self.scenario.every.as_secs().max(1));
        }
        self.step(now, Input::Tick);
    }

    fn look(&mut self, now: Now, second: u64) {
        let listing = second.is_multiple_of(LISTING);
        let heard = |source| self.heard.get(&source).copied().unwrap_or_default();
        let (cloud, cluster) = (heard(SourceName::Openstack), heard(SourceName::Kubernetes));
        let mut observed = self.model.observe(now.wall, listing);
        if listing {
            observed.extend(self.model.leases());
        }
        if second.is_multiple_of(PORTS) {
            observed.push(self.model.ports());
        }
        for observation in observed {
            use rhizome_engine::event::Observation;
            let of_cloud = matches!(
                observation,
                Observation::Servers { .. } | Observation::Ports(_)
            );
            if if of_cloud { cloud } else { cluster } {
                self.step(now, Input::Observation(observation));
            }
        }
    }

    fn report(&mut self, now: Now) {
        for (source, flowing) in self.heard.clone() {
            let report = SourceReport {
                source,
                flowing,
                lag: Duration::ZERO,
                refilled: true,
                trouble: if flowing { "" } else { "it is down" }.to_owned(),
            };
            self.step(now, Input::Source(report));
        }
    }

    fn speak(&mut self, now: Now, place: u64) {
        let mut batch = Batch::new(SourceName::Kafka, now.wall);
        for (name, pool) in self.model.speaking() {
            batch.push_record(name.as_str(), now.wall, Some(self.scenario.every));
            for series in &self.scenario.series {
                let its = match &series.of {
                    Target::Node(node) => node == name,
                    Target::Pool(other) => *other == pool,
                };
                let place = usize::try_from(place).unwrap_or(usize::MAX);
                if its && let Some(Some(value)) = series.values.get(place) {
                    batch.push_sample(&series.metric, "", Form::Value, *value);
                }
            }
        }
        if self.heard.get(&SourceName::Kafka) == Some(&true) {
            for late in std::mem::take(&mut self.held_back) {
                self.step(now, Input::Batch(late));
            }
            self.step(now, Input::Batch(batch));
        } else {
            self.held_back.push(batch);
        }
    }

    fn happen(&mut self, now: Now, happening: &Happening) {
        match happening {
            Happening::Die(name) => self.machine(now, name, super::model::Machine::die),
            Happening::Break(name) => self.machine(now, name, super::model::Machine::break_down),
            Happening::AgentDies(name) => {
                self.machine(now, name, super::model::Machine::agent_dies)
            }
            Happening::Back(name) => self.machine(now, name, super::model::Machine::come_back),
            Happening::Stop(name) => self.machine(now, name, super::model::Machine::stop),
            Happening::Source(source, flowing) => {
                self.heard.insert(*source, *flowing);
                self.report(now);
            }
            Happening::Unschedulable(count) => self.model.unschedulable = *count,
            Happening::Builds(so) => self.model.builds = *so,
            Happening::EmptyList(empty) => self.model.empty_list = *empty,
            Happening::Alert {
                name,
                labels,
                firing,
            } => {
                let mut labels = labels.clone();
                labels.insert("alertname".to_owned(), name.clone());
                let fingerprint = format!("{labels:?}");
                self.step(
                    now,
                    Input::Alert(Alert {
                        name: name.clone(),
                        firing: *firing,
                        labels,
                        summary: name.clone(),
                        fingerprint,
                        starts_at: now.wall,
                    }),
                );
            }
            Happening::Wish(wish) => {
                self.wishes += 1;
                let request = OperatorRequest {
                    key: format!("wish-{}", self.wishes),
                    who: "operator".to_owned(),
                    why: "asked".to_owned(),
                    wish: wish.clone(),
                };
                self.step(now, Input::Operator(request.clone()));
                if self.is_cut() {
                    self.unanswered.push(request);
                }
            }
            Happening::Delete(name) => self.machine(now, name, super::model::Machine::delete),
            Happening::Hide(name, hidden) => self.machine(
                now,
                name,
                if *hidden {
                    super::model::Machine::hide
                } else {
                    super::model::Machine::show
                },
            ),
            Happening::Leftover(pool, name) => {
                // Of the first operation, so of one that is over.
                let operation = OperationId {
                    journal: self.number,
                    number: 1,
                };
                self.model.left_over(now.wall, pool, name, operation);
            }
            Happening::PartialList(partial) => self.model.partial_list = *partial,
            Happening::LoseJournal => {
                self.journal.clear();
                self.number += 1;
                self.restart(now);
            }
            Happening::Restart => self.restart(now),
            Happening::RestartWithout(pool) => {
                self.pools.remove(pool);
                self.restart(now);
            }
        }
    }

    fn restart(&mut self, now: Now) {
        self.engine = engine(&self.pools, &self.policies, &self.journal, self.number, now);
        self.report(now);
        self.step(now, Input::Tick);
    }

    fn machine(&mut self, now: Now, name: &NodeName, change: fn(&mut super::model::Machine)) {
        match self.model.machine_mut(name) {
            Some(machine) => change(machine),
            None => {
                let time = format_duration(now.wall.since(BEGIN));
                self.lines
                    .push(format!("{time} error there is no machine `{name}`"));
            }
        }
    }

    fn step(&mut self, now: Now, input: Input) {
        if self.is_cut() {
            // Nobody is there to be told.
            return;
        }
        let output = self.engine.step(now, input);
        self.take(now, output);
    }

    fn take(&mut self, now: Now, mut output: Output) {
        self.fall(&mut output);
        let time = format_duration(now.wall.since(BEGIN));
        for record in &output.records {
            if let Some(line) = line_of(record) {
                self.lines.push(format!("{time} {line}"));
            }
        }
        for failure in &output.failures {
            self.lines.push(format!("{time} error {failure}"));
        }
        self.journal.extend(output.records);
        for action in output.actions {
            let fate = self
                .fates
                .as_mut()
                .map_or(Fate::Done, |fates| fates(&action));
            self.model.act(now.wall, &action, fate);
            self.acted.push((now.wall, action));
        }
        if self.is_cut() {
            self.model.forget_answers();
        }
    }

    /// If this is where the program is killed: what it wrote in time, and what it had sent.
    fn fall(&mut self, output: &mut Output) {
        let have = self.journal.len();
        let Some(cut) = &mut self.cut else { return };
        if cut.fell || have + output.records.len() < cut.records {
            return;
        }
        cut.fell = true;
        output.records.truncate(cut.records.saturating_sub(have));
        let records = &output.records;
        let done = cut.done;
        output.actions.retain(|action| {
            let intent = |record: &Record| matches!(record, Record::Intent { action: sent, .. } if sent.key == action.key);
            done && records.iter().any(intent)
        });
    }
}

fn engine(
    pools: &Pools,
    policies: &Arc<PolicySet>,
    journal: &[Record],
    number: u32,
    now: Now,
) -> Engine {
    let settings = Settings {
        cluster: CLUSTER.to_owned(),
        pools: pools.clone(),
        limits: Limits::default(),
        lateness: Duration::from_secs(600),
        heartbeat_sources: vec![SourceName::Kafka],
        pause_sources: Vec::new(),
    };
    Engine::new(
        settings,
        Arc::clone(policies),
        journal.iter().cloned(),
        number,
        "scenario",
        now,
    )
}

fn at(second: u64) -> Now {
    Now {
        wall: BEGIN,
        mono: Monotonic::BEGIN,
    }
    .plus(Duration::from_secs(second))
}

/// A record as a line, if it is one that a scenario tells.
fn line_of(record: &Record) -> Option<String> {
    match record {
        Record::Decision { decision } => Some(format!(
            "decide {} [{}] {}",
            decision.what, decision.origin, decision.why
        )),
        Record::Refusal { refusal } => Some(format!(
            "refuse {}: {} [{}] {}",
            refusal.what, refusal.reason, refusal.origin, refusal.detail
        )),
        Record::Operation { operation } => {
            let Phase::Over { ending } = &operation.phase else {
                return None;
            };
            let kind = match operation.kind {
                OperationKind::Add => "add",
                OperationKind::Remove => "remove",
                OperationKind::Heal(rung) => rung.as_str(),
                OperationKind::Sweep(_) => "sweep",
            };
            let ending = match ending {
                Ending::Done => "done".to_owned(),
                Ending::Failed(why) => format!("failed: {why}"),
                Ending::Cancelled(why) => format!("cancelled: {why}"),
                Ending::Dry => "dry run".to_owned(),
            };
            let name = operation
                .node()
                .map(ToString::to_string)
                .unwrap_or_default();
            Some(format!("end {kind} {name}: {ending}"))
        }
        Record::Brake { brake, on, .. } => {
            let name = serde_json::to_string(brake).unwrap_or_default();
            let name: String = name.chars().filter(|c| !"{}\"".contains(*c)).collect();
            let switch = if *on { "on" } else { "off" };
            Some(format!("brake {name} {switch}"))
        }
        Record::Wish { wish, .. } => {
            let wish = serde_json::to_string(wish).unwrap_or_default();
            Some(format!("wish {wish}"))
        }
        _ => None,
    }
}
