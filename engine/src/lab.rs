//! A small world for the engine's own tests: nodes that speak, sources that report, and time
//! that is stepped by the second. Nothing here answers actions unless it is told to.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::action::{Action, Done, Failure, FailureKind, mark};
use crate::decision::{Reason, Refusal};
use crate::engine::{Answer, Engine, Output};
use crate::event::{
    Alert, Batch, Form, Input, Labels, NodeView, Observation, OperatorRequest, PauseReport,
    PauseSource, Ready, Requests, ServerStatus, ServerView, SourceName, SourceReport,
    StandingPause, Wish,
};
use crate::journal::{Record, State};
use crate::names::{NodeName, OperationId, PoolName, VmId};
use crate::notice::Notice;
use crate::policy::{PolicySet, SourceFile};
use crate::settings::{Limits, PoolSettings, Settings};
use crate::time::{Monotonic, Now, Timestamp};

/// The first second: 2026-01-01T00:00:00Z.
pub(crate) const BEGIN: Now = Now {
    wall: Timestamp(1_767_225_600_000),
    mono: Monotonic::BEGIN,
};

/// How often nodes speak, sources report and everything is listed.
const EVERY: u64 = 10;

/// Scales by cpu and heals by silence.
pub(crate) const POLICY: &str = r#"
scale_up("workers").when(mean("cpu", "1m") > 0.75).for_at_least("10s").cooldown("3m")
    .then(|pool| pool.add(1, "busy"));
scale_down("workers").when(mean("cpu", "1m") < 0.2 and covered("cpu", "1m")).cooldown("10m");
heal("workers").when(silent("60s")).ladder(["reboot", "replace"]);
"#;

/// A machine of the lab.
#[derive(Debug, Clone)]
pub(crate) struct LabNode {
    pub(crate) name: String,
    pub(crate) pool: PoolName,
    pub(crate) agent: bool,
    pub(crate) kubelet: bool,
    pub(crate) status: ServerStatus,
    /// What is under way on its VM.
    pub(crate) task: Option<&'static str>,
    pub(crate) ours: bool,
    pub(crate) listed: bool,
    /// The operation in its mark.
    pub(crate) made_by: Option<OperationId>,
    /// Whether the cluster has a node of it.
    pub(crate) node: bool,
    /// How old it was at the first second.
    pub(crate) age: Duration,
    pub(crate) control_plane: bool,
    pub(crate) marked_protected: bool,
    pub(crate) zone: Option<String>,
    pub(crate) cpu: Option<f64>,
    /// How far its own clock is ahead, in seconds: its leases carry that clock's time.
    pub(crate) ahead: i64,
    renewed: Timestamp,
}

/// The engine and the world around it.
pub(crate) struct Lab {
    pub(crate) engine: Engine,
    pub(crate) nodes: Vec<LabNode>,
    pub(crate) now: Now,
    pub(crate) journal: Vec<Record>,
    pub(crate) records: Vec<Record>,
    pub(crate) actions: Vec<Action>,
    pub(crate) answers: Vec<(String, Answer)>,
    /// Sources that report; false: that they cannot be heard.
    pub(crate) sources: BTreeMap<SourceName, bool>,
    pub(crate) lag: Duration,
    /// Whether an agent outside the pool speaks, too.
    pub(crate) bystander: bool,
    /// Whether each action is answered as accepted.
    pub(crate) obedient: bool,
    /// How every action fails instead.
    pub(crate) fail: Option<FailureKind>,
    /// Whether scripts may fail.
    pub(crate) forgiving: bool,
    pub(crate) failures: Vec<String>,
    pub(crate) notices: Vec<Notice>,
    settings: Settings,
    policies: Arc<PolicySet>,
    second: u64,
    wishes: u32,
}

/// How a lab is set up.
pub(crate) struct Plan {
    pub(crate) policy: &'static str,
    pub(crate) pool: PoolSettings,
    /// Pools beside it, set up alike and empty.
    pub(crate) others: Vec<&'static str>,
    pub(crate) limits: Limits,
    pub(crate) nodes: usize,
    /// Told by the journal of the time before, at the first second.
    pub(crate) before: Vec<Record>,
    /// Nodes, by place, whose VMs the journal does not know.
    pub(crate) foreign: Vec<usize>,
    /// What the agents' records come by.
    pub(crate) agents_by: SourceName,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            policy: POLICY,
            pool: PoolSettings {
                min: 2,
                max: 8,
                ..PoolSettings::default()
            },
            others: Vec::new(),
            limits: Limits::default(),
            nodes: 6,
            before: Vec::new(),
            foreign: Vec::new(),
            agents_by: SourceName::Kafka,
        }
    }
}

/// Runs a test on a thread with the stack that the engine's thread has.
pub(crate) fn on_engine_stack<T: Send + 'static>(act: impl FnOnce() -> T + Send + 'static) -> T {
    let thread = std::thread::Builder::new().stack_size(16 << 20).spawn(act);
    match thread.unwrap().join() {
        Ok(value) => value,
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

pub(crate) fn policies(text: &str) -> Arc<PolicySet> {
    let file = SourceFile {
        name: "test.rhai".to_owned(),
        text: text.to_owned(),
    };
    Arc::new(PolicySet::load(&[file]).unwrap())
}

pub(crate) fn pool() -> PoolName {
    PoolName::new("workers")
}

impl Lab {
    pub(crate) fn new(plan: Plan) -> Self {
        let policies = policies(plan.policy);
        let others = plan.others.into_iter().map(PoolName::new);
        let pools = others.chain([pool()]);
        let settings = Settings {
            cluster: "lab".to_owned(),
            pools: pools.map(|name| (name, plan.pool.clone())).collect(),
            limits: plan.limits,
            lateness: Duration::from_secs(600),
            heartbeat_sources: vec![plan.agents_by],
            pause_sources: vec![PauseSource::File],
        };
        let nodes: Vec<_> = (1..=plan.nodes)
            .map(|number| LabNode {
                name: format!("w{number}"),
                pool: pool(),
                agent: true,
                kubelet: true,
                status: ServerStatus::Active,
                task: None,
                ours: true,
                listed: true,
                made_by: None,
                node: true,
                age: Duration::from_secs(86_400),
                control_plane: false,
                marked_protected: false,
                zone: None,
                cpu: Some(0.5),
                ahead: 0,
                renewed: BEGIN.wall,
            })
            .collect();
        let mut state = State {
            journal: 1,
            next_operation: 1,
            ..State::default()
        };
        for (place, node) in nodes.iter().enumerate() {
            let id = operation(state.next_operation);
            state.next_operation += 1;
            if !plan.foreign.contains(&place) {
                state.owned.insert(vm(&node.name), id);
            }
        }
        let mut journal = vec![Record::Snapshot {
            state: Box::new(state),
        }];
        journal.extend(plan.before);
        let engine = Engine::new(
            settings.clone(),
            Arc::clone(&policies),
            journal.clone(),
            1,
            "lab",
            BEGIN,
        );
        let sources = [
            plan.agents_by,
            SourceName::Openstack,
            SourceName::Kubernetes,
        ];
        Self {
            engine,
            nodes,
            now: BEGIN,
            journal,
            records: Vec::new(),
            actions: Vec::new(),
            answers: Vec::new(),
            sources: sources.map(|source| (source, true)).into(),
            lag: Duration::ZERO,
            bystander: false,
            obedient: false,
            fail: None,
            forgiving: false,
            failures: Vec::new(),
            notices: Vec::new(),
            settings,
            policies,
            second: 0,
            wishes: 0,
        }
    }

    /// What the reader of the pause file found, as soon as the engine is told.
    pub(crate) fn pause_file(&mut self, seen: Result<Option<StandingPause>, &str>) {
        self.step(Input::Pause(PauseReport {
            source: PauseSource::File,
            seen: seen.map_err(str::to_owned),
        }));
    }

    /// Started again on an empty journal.
    pub(crate) fn lose_the_journal(&mut self) {
        self.journal.clear();
        self.restart();
    }

    /// The same, with the pool taken out of the configuration.
    pub(crate) fn restart_without_the_pool(&mut self) {
        self.settings.pools.clear();
        self.restart();
    }

    /// The same, with the pause file taken out of the configuration.
    pub(crate) fn restart_without_the_pause_file(&mut self) {
        self.settings.pause_sources.clear();
        self.restart();
    }

    /// Killed and started again on what the journal holds.
    pub(crate) fn restart(&mut self) {
        self.engine = Engine::new(
            self.settings.clone(),
            Arc::clone(&self.policies),
            self.journal.clone(),
            1,
            "lab",
            self.now,
        );
    }

    pub(crate) fn node(&mut self, name: &str) -> &mut LabNode {
        self.nodes
            .iter_mut()
            .find(|node| node.name == name)
            .unwrap()
    }

    /// Agent and kubelet fall silent.
    pub(crate) fn die(&mut self, name: &str) {
        let node = self.node(name);
        node.agent = false;
        node.kubelet = false;
    }

    pub(crate) fn cpu(&mut self, value: Option<f64>) {
        for node in &mut self.nodes {
            node.cpu = value;
        }
    }

    pub(crate) fn run(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.one_second();
        }
    }

    fn one_second(&mut self) {
        if self.second.is_multiple_of(EVERY) {
            self.round();
        }
        if self.obedient || self.fail.is_some() {
            for action in std::mem::take(&mut self.actions) {
                let result = match self.fail {
                    Some(kind) => Err(Failure::new(kind, "the test says so")),
                    None => Ok(Done::Accepted),
                };
                self.step(Input::Outcome(action.key, result));
            }
        }
        self.step(Input::Tick);
        self.second += 1;
        self.now = self.now.plus(Duration::from_secs(1));
    }

    /// What comes every ten seconds: reports, listings, records.
    pub(crate) fn round(&mut self) {
        self.report();
        self.list();
        self.speak();
    }

    fn report(&mut self) {
        for (source, flowing) in self.sources.clone() {
            self.step(Input::Source(SourceReport {
                source,
                flowing,
                lag: self.lag,
                refilled: source != SourceName::Collector,
                trouble: String::new(),
            }));
        }
    }

    /// Lists everything now.
    pub(crate) fn list(&mut self) {
        self.list_asked(self.now.wall);
    }

    /// What is now comes as the answer to what was asked at `wall`.
    pub(crate) fn list_asked(&mut self, wall: Timestamp) {
        for node in &mut self.nodes {
            if node.kubelet {
                node.renewed = wall;
            }
        }
        let shown = self.nodes.iter().filter(|node| node.listed);
        let servers = shown.map(server).collect();
        let nodes = self.nodes.iter().filter(|node| node.node);
        let nodes = nodes.map(|node| node_view(node, wall));
        let nodes = nodes.collect();
        self.step(Input::Observation(Observation::Servers {
            at: wall,
            complete: true,
            servers,
        }));
        self.step(Input::Observation(Observation::Nodes { at: wall, nodes }));
        for node in self.nodes.clone() {
            self.step(Input::Observation(Observation::Lease {
                node: NodeName::new(&node.name),
                renewed: Timestamp(node.renewed.0 + node.ahead * 1000),
            }));
        }
    }

    fn speak(&mut self) {
        let by = self.settings.heartbeat_sources[0];
        let mut batch = Batch::new(by, self.now.wall);
        for node in self.nodes.iter().filter(|node| node.agent) {
            let interval = Some(Duration::from_secs(EVERY));
            batch.push_record(&node.name, self.now.wall, interval);
            if let Some(cpu) = node.cpu {
                batch.push_sample("cpu", "", Form::Value, cpu);
            }
        }
        if self.bystander {
            batch.push_record("elsewhere", self.now.wall, None);
        }
        self.step(Input::Batch(batch));
    }

    pub(crate) fn wish(&mut self, wish: Wish) -> Answer {
        self.wishes += 1;
        let key = format!("wish-{}", self.wishes);
        self.wish_as(&key, wish)
    }

    pub(crate) fn wish_as(&mut self, key: &str, wish: Wish) -> Answer {
        self.step(Input::Operator(OperatorRequest {
            key: key.to_owned(),
            who: "ann".to_owned(),
            why: format!("asked as {key}"),
            wish,
        }));
        self.answers.last().unwrap().1.clone()
    }

    pub(crate) fn alert(&mut self, name: &str, node: &str, firing: bool) {
        let labels = [("alertname", name), ("node", node)];
        self.step(Input::Alert(Alert {
            name: name.to_owned(),
            firing,
            labels: labels
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .into(),
            summary: "as the alert says".to_owned(),
            fingerprint: format!("{name}/{node}"),
            starts_at: self.now.wall,
        }));
    }

    pub(crate) fn step(&mut self, input: Input) -> Option<Monotonic> {
        let output = self.engine.step(self.now, input);
        self.take(output)
    }

    fn take(&mut self, output: Output) -> Option<Monotonic> {
        assert!(
            self.forgiving || output.failures.is_empty(),
            "{:?}",
            output.failures
        );
        self.failures
            .extend(output.failures.into_iter().map(|failure| failure.message));
        self.journal.extend(output.records.iter().cloned());
        self.records.extend(output.records);
        self.actions.extend(output.actions);
        self.answers.extend(output.answers);
        self.notices.extend(output.notices);
        output.wake_at
    }

    pub(crate) fn refusals(&self) -> Vec<&Refusal> {
        let refusals = self.records.iter().filter_map(|record| match record {
            Record::Refusal { refusal } => Some(refusal),
            _ => None,
        });
        refusals.collect()
    }

    /// The reasons of all refusals, journaled or answered.
    pub(crate) fn reasons(&self) -> Vec<Reason> {
        let journaled = self.refusals().into_iter().map(|refusal| refusal.reason);
        let answered = self.answers.iter().filter_map(|(_, answer)| match answer {
            Answer::Refused(reason, _) => Some(*reason),
            Answer::Granted(_) => None,
        });
        journaled.chain(answered).collect()
    }

    /// What was decided, in words.
    pub(crate) fn decided(&self) -> Vec<&str> {
        let decisions = self.records.iter().filter_map(|record| match record {
            Record::Decision { decision } => Some(decision.what.as_str()),
            _ => None,
        });
        decisions.collect()
    }
}

pub(crate) fn operation(number: u64) -> OperationId {
    OperationId { journal: 1, number }
}

pub(crate) fn vm(node: &str) -> VmId {
    VmId::new(format!("vm-{node}"))
}

fn server(node: &LabNode) -> ServerView {
    let mut metadata = Labels::default();
    if node.ours {
        let marks = [
            (mark::OWNER, mark::OWNER_VALUE),
            (mark::CLUSTER, "lab"),
            (mark::POOL, node.pool.as_str()),
        ];
        metadata.extend(marks);
    }
    if let Some(operation) = node.made_by {
        metadata.extend([(mark::OPERATION, operation.to_string())]);
    }
    if node.marked_protected {
        metadata.extend([(mark::DO_NOT_TOUCH, "")]);
    }
    ServerView {
        id: vm(&node.name),
        name: node.name.clone(),
        status: node.status.clone(),
        task_state: node.task.map(str::to_owned),
        created: BEGIN.wall.minus(node.age),
        metadata,
        addresses: vec!["10.0.0.1".to_owned()],
        fault: None,
        zone: node.zone.clone(),
        host_id: None,
    }
}

fn node_view(node: &LabNode, now: Timestamp) -> NodeView {
    let dead = now.since(node.renewed) > Duration::from_secs(50);
    NodeView {
        name: NodeName::new(&node.name),
        uid: format!("uid-{}", node.name),
        vm: Some(vm(&node.name)),
        labels: [(mark::POOL, node.pool.as_str())].into_iter().collect(),
        annotations: Labels::default(),
        created: BEGIN.wall.minus(Duration::from_secs(86_400)),
        ready: if dead { Ready::Unknown } else { Ready::True },
        ready_since: if dead { node.renewed } else { BEGIN.wall },
        unschedulable: false,
        control_plane: node.control_plane,
        taints: Vec::new(),
        allocatable: Requests {
            cpu_millis: 4_000,
            memory_bytes: 8 << 30,
            pods: 110,
        },
    }
}

/// A row for one reason: what brings it about, and the same without it.
pub(crate) struct Row {
    pub(crate) reason: Reason,
    pub(crate) name: &'static str,
    pub(crate) plan: fn(&mut Plan),
    /// What is so in both.
    pub(crate) both: fn(&mut Lab),
    /// What makes the difference.
    pub(crate) only: fn(&mut Lab),
    /// The end, in both.
    pub(crate) then: fn(&mut Lab),
    /// What is decided without it; empty if nothing is.
    pub(crate) else_decides: &'static str,
}

/// Plays both sides of each row.
pub(crate) fn play(rows: &'static [Row]) {
    on_engine_stack(move || {
        for row in rows {
            for with in [true, false] {
                let mut plan = Plan::default();
                (row.plan)(&mut plan);
                let mut lab = Lab::new(plan);
                (row.both)(&mut lab);
                if with {
                    (row.only)(&mut lab);
                }
                (row.then)(&mut lab);
                let reasons = lab.reasons();
                let (name, decided) = (row.name, lab.decided());
                assert_eq!(
                    reasons.contains(&row.reason),
                    with,
                    "{name}, with it: {with}: {reasons:?}; {decided:?}"
                );
                let begun = decided
                    .iter()
                    .any(|what| what.starts_with(row.else_decides));
                if !row.else_decides.is_empty() {
                    assert_eq!(
                        begun, !with,
                        "{name}, with it: {with}: {reasons:?}; {decided:?}"
                    );
                }
            }
        }
    });
}

#[test]
fn every_reason_has_a_row() {
    let rows = crate::guard::tests::ROWS
        .iter()
        .chain(crate::planner::tests::ROWS);
    let have: std::collections::BTreeSet<_> = rows.map(|row| row.reason).collect();
    let all: std::collections::BTreeSet<_> = Reason::ALL.iter().copied().collect();
    let missing: Vec<_> = all.difference(&have).collect();
    assert!(
        missing.is_empty(),
        "no row for {missing:?}: add one, or remove the reason"
    );
}
