//! A world with the program in it: waits for states, kills the program on the way, and judges.

use std::collections::BTreeSet;
use std::time::Duration;

use rhizome::api::StatusReport;
use rhizome::clock::RealClock;
use rhizome_engine::action::ActionKind;
use rhizome_engine::journal::Record;
use rhizome_engine::time::Clock;
use rhizome_standin::Ledger;

use crate::courses::CALM;
use crate::judge::{Came, came_of, foreign_wrong, left};
use crate::site::{MIN, Site};
use crate::trap::Trap;
use crate::world::{Pace, Strike, Truth, Worker, World};
use crate::{PATIENCE, accounts, passed, say};

/// After so long without what is waited for, it is said what is missing, and again after that.
const IMPATIENCE: Duration = Duration::from_secs(60);

/// So much of it, in characters.
const SAID: usize = 400;

/// What is done for a worker that something befell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ladder {
    /// It is rebooted, which helps.
    RebootHelps,
    /// It is rebooted in vain, and replaced.
    RebootInVain,
    /// It is rebuilt.
    Rebuild,
}

impl Ladder {
    /// As the policy has it.
    pub(crate) fn rungs(self) -> &'static str {
        match self {
            Self::RebootHelps | Self::RebootInVain => r#"["reboot", "replace"]"#,
            Self::Rebuild => r#"["rebuild"]"#,
        }
    }

    /// How long a rung has to show what it did.
    pub(crate) fn timeout(self, pace: &Pace) -> &'static str {
        match self {
            Self::RebootHelps | Self::Rebuild => pace.rung,
            Self::RebootInVain => pace.rung_in_vain,
        }
    }
}

/// Where the story is told.
pub(crate) struct Stage {
    pub(crate) world: Box<dyn World>,
    pub(crate) site: Site,
    /// The course that is played.
    course: &'static str,
    /// The records before it.
    began: usize,
    /// SIGKILL once so many records of the next one are there.
    kill: Option<usize>,
    trap: Option<Trap>,
    /// What was there before Rhizome was: it must stay as it is.
    foreign: Truth,
    /// Pods that must run.
    pods: usize,
    /// Workers that something befell: the ladder goes on where it stood with them.
    struck: BTreeSet<Worker>,
    /// Servers that may be touched in this course.
    touchable: BTreeSet<String>,
    /// What the last look found missing.
    missing: Vec<String>,
}

impl Stage {
    /// The program is not started yet.
    pub(crate) fn new(mut world: Box<dyn World>, ladder: Ladder) -> Self {
        let foreign = world.truth().expect("a world that answers");
        let pace = world.pace();
        let site = Site::new(world.place(), pace, ladder);
        Self {
            world,
            site,
            course: "",
            began: 0,
            kill: None,
            trap: None,
            foreign,
            pods: 0,
            struck: BTreeSet::new(),
            touchable: BTreeSet::new(),
            missing: Vec::new(),
        }
    }

    /// The next course is to be interrupted once so many of its records are there.
    pub(crate) fn kill_at(&mut self, records: usize) {
        self.kill = Some(records);
    }

    /// Whether the course ended before the kill that was planned.
    pub(crate) fn spared(&mut self) -> bool {
        let Some(trap) = self.trap.take() else {
            return false;
        };
        let killed = trap.clear();
        if killed {
            self.restart();
        }
        !killed
    }

    /// A course begins.
    pub(crate) fn begin(&mut self, course: &'static str) {
        self.course = course;
        self.began = self.site.record_count();
        self.touchable.clear();
        let kill = self.kill.take();
        self.trap = kill.map(|records| self.site.kill_after(self.began + records));
    }

    /// How many records the course has so far.
    pub(crate) fn length(&self) -> usize {
        self.site.record_count() - self.began
    }

    /// The records of the course so far.
    pub(crate) fn records(&self) -> Vec<Record> {
        self.site.records().split_off(self.began)
    }

    /// Puts pods to work, of which all but one must stay healthy.
    pub(crate) fn put_to_work(&mut self, pods: usize) {
        self.pods = pods;
        self.world.put_to_work(pods, pods - 1);
    }

    /// Our workers, in the order of their names.
    pub(crate) fn workers(&mut self) -> Vec<Worker> {
        self.until("the workers", |stage| {
            let truth = stage.world.truth()?;
            let ours = |id: &&String| !stage.foreign.servers.contains_key(*id);
            let worker = |id: &String| Worker {
                server: id.clone(),
                node: truth.servers[id].0.clone(),
            };
            let mut workers: Vec<_> = truth.servers.keys().filter(ours).map(worker).collect();
            workers.sort_by(|a, b| a.node.cmp(&b.node));
            Some(workers)
        })
    }

    /// One that nothing befell yet: its ladder begins at its foot.
    pub(crate) fn fresh(&mut self) -> Worker {
        let struck = self.struck.clone();
        let fresh = |worker: &Worker| !struck.contains(worker);
        self.workers()
            .into_iter()
            .find(fresh)
            .expect("a fresh worker")
    }

    /// The one to lose: one that something befell, if there is.
    pub(crate) fn worn(&mut self) -> Worker {
        let workers = self.workers();
        let worn = workers.iter().find(|worker| self.struck.contains(worker));
        worn.or(workers.first()).expect("a worker").clone()
    }

    /// Whether there is one that nothing befell yet.
    pub(crate) fn has_fresh(&mut self) -> bool {
        let struck = self.struck.clone();
        self.workers().iter().any(|worker| !struck.contains(worker))
    }

    /// Waits until the pool is at its minimum again, whatever the course left.
    pub(crate) fn rest(&mut self) {
        self.world.set_demand(CALM);
        self.until_settled(MIN);
    }

    /// The course may touch this worker, and those that it makes itself.
    pub(crate) fn touches(&mut self, worker: &Worker) {
        self.touchable.insert(worker.server.clone());
    }

    /// Something befalls a worker.
    pub(crate) fn strike(&mut self, worker: &Worker, what: Strike) {
        if !matches!(what, Strike::QuickReboot | Strike::AgentDead) {
            self.struck.insert(worker.clone());
        }
        self.world.strike(worker, what);
    }

    /// Gives an order until it is taken.
    pub(crate) fn order(&mut self, arguments: &[&str]) {
        self.until(&arguments.join(" "), |stage| {
            (stage.site.rhizome(arguments).0 == 0).then_some(())
        });
    }

    /// Looks until there is something, and tells what is known when that takes too long. The
    /// planned kill happens here.
    pub(crate) fn until<T>(
        &mut self,
        what: &str,
        mut look: impl FnMut(&mut Self) -> Option<T>,
    ) -> T {
        let clock = RealClock::new();
        let began = clock.now().mono;
        let mut told = began;
        loop {
            self.world.go_on();
            if let Some(found) = look(self) {
                return found;
            }
            if passed(&clock, began) > PATIENCE {
                self.give_up(&format!("waited in vain for {what}"));
            }
            if passed(&clock, told) > IMPATIENCE {
                told = clock.now().mono;
                let missing: String = self.missing.join("; ").chars().take(SAID).collect();
                say(&format!(
                    "{}: still waiting for {what}: {missing}",
                    self.course
                ));
            }
            self.watch(self.world.pace().look);
        }
    }

    /// Lets time pass in which nothing is to happen.
    pub(crate) fn pass(&mut self, length: Duration) {
        let clock = RealClock::new();
        let began = clock.now().mono;
        self.until("time to pass", |_| {
            (passed(&clock, began) >= length).then_some(())
        });
    }

    /// What the program shows, once it answers.
    pub(crate) fn status(&mut self) -> StatusReport {
        self.until("status", |stage| stage.site.status())
    }

    fn watch(&mut self, length: Duration) {
        std::thread::sleep(length);
        if self.trap.as_ref().is_some_and(Trap::sprung) {
            self.trap = None;
            self.restart();
        }
    }

    /// SIGKILL, and a start.
    pub(crate) fn restart(&mut self) {
        self.site.kill();
        self.site.start();
    }

    /// Waits until so many workers serve, and nothing is under way or left behind.
    pub(crate) fn until_settled(&mut self, size: usize) {
        self.until(&format!("{size} workers and nothing else"), |stage| {
            stage.missing = vec!["cloud or cluster do not answer".to_owned()];
            let truth = stage.world.truth()?;
            stage.missing = stage.unsettled(&truth, size);
            stage.missing.is_empty().then_some(())
        });
    }

    /// What is too much, too little or not well.
    fn unsettled(&self, truth: &Truth, size: usize) -> Vec<String> {
        let mut wrong = foreign_wrong(&self.foreign, truth);
        let ours: Vec<_> = truth
            .servers
            .iter()
            .filter(|(id, _)| !self.foreign.servers.contains_key(*id))
            .collect();
        if ours.len() != size {
            wrong.push(format!("{} servers: {ours:?}", ours.len()));
        }
        for (id, (name, status)) in &ours {
            let serves = truth
                .nodes
                .get(name)
                .is_some_and(|node| node.server == **id && node.ready && !node.cordoned);
            if status != "ACTIVE" || !serves {
                wrong.push(format!(
                    "{name} ({id}): {status}, {:?}",
                    truth.nodes.get(name)
                ));
            }
        }
        if truth.nodes.len() != size + self.foreign.nodes.len() {
            wrong.push(format!("nodes: {:?}", truth.nodes.keys()));
        }
        wrong.extend(left(&truth.tokens, &self.foreign.tokens, "token"));
        let ports = truth
            .ports
            .iter()
            .filter(|(id, _)| !self.foreign.ports.contains_key(*id));
        for (id, device) in ports {
            if !ours.iter().any(|(server, _)| *server == device) {
                wrong.push(format!("port {id} of `{device}` is left"));
            }
        }
        let at_work = truth
            .running
            .values()
            .filter(|node| truth.nodes.contains_key(*node));
        if at_work.clone().count() < self.pods {
            wrong.push(format!(
                "only {} of {} pods run",
                at_work.count(),
                self.pods
            ));
        }
        wrong.extend(self.busy(size));
        wrong
    }

    /// What the program itself still has to do.
    fn busy(&self, size: usize) -> Option<String> {
        let Some(status) = self.site.status() else {
            return Some("the program does not answer".to_owned());
        };
        let engine = status.engine;
        let size = u32::try_from(size).unwrap_or(u32::MAX);
        let settled = engine.operations.is_empty()
            && engine.brakes.is_empty()
            && engine
                .pools
                .iter()
                .all(|pool| pool.size == size && pool.ready == size);
        (!settled).then(|| {
            let (operations, pools) = (&engine.operations, &engine.pools);
            format!("{operations:?} {:?} {pools:?}", engine.brakes)
        })
    }

    /// The course is over: just this came of it, to nobody else, and the accounts are in order.
    pub(crate) fn came(&mut self, wanted: Came) {
        let records = self.records();
        let mut wrong = Vec::new();
        let came = came_of(&records);
        if came != wanted {
            wrong.push(format!("came of it: {came:?}; wanted: {wanted:?}"));
        }
        wrong.extend(self.harmed(&records));
        let all = self.site.records();
        wrong.extend(accounts::unaccounted(&all, &Ledger::default()));
        wrong.extend(self.site.verify().err());
        wrong.extend(self.world.wrong());
        if !wrong.is_empty() {
            self.give_up(&wrong.join("\n"));
        }
    }

    /// Servers that were touched and need not have been.
    fn harmed(&self, records: &[Record]) -> Vec<String> {
        let mut touched = self.touchable.clone();
        let mut wrong = Vec::new();
        for record in records {
            match record {
                Record::Operation { operation } => {
                    let made = operation
                        .new
                        .iter()
                        .filter_map(|machine| machine.vm.as_ref());
                    touched.extend(made.map(ToString::to_string));
                }
                Record::Intent { action, .. } => match &action.kind {
                    ActionKind::RebootServer { vm, .. }
                    | ActionKind::StopServer { vm }
                    | ActionKind::StartServer { vm }
                    | ActionKind::RebuildServer { vm, .. }
                    | ActionKind::DeleteServer { vm }
                        if !touched.contains(vm.id.as_str()) =>
                    {
                        wrong.push(format!("{} of {}", action.kind.name(), vm.id));
                    }
                    _ => {}
                },
                _ => {}
            }
        }
        wrong
    }

    /// Two independent witnesses agreed before the worker was touched.
    pub(crate) fn two_witnesses(&mut self, worker: &Worker) {
        let records = self.records();
        let mut decisions = records.iter().filter_map(|record| match record {
            Record::Decision { decision } => Some(decision),
            _ => None,
        });
        let about = |node: &rhizome_engine::names::NodeName| node.as_str() == worker.node;
        let one = decisions.find(|decision| {
            decision.node.as_ref().is_some_and(about) && decision.evidence.witnesses.len() < 2
        });
        if let Some(decision) = one {
            self.give_up(&format!("on the word of one witness: {decision:?}"));
        }
    }

    /// The end: told to stop, the program does so by itself.
    pub(crate) fn end(mut self) {
        assert_eq!(self.site.terminate(), 0, "{}", self.site.tell());
    }

    /// Fails, with everything that an operator would look at.
    pub(crate) fn give_up(&mut self, why: &str) -> ! {
        panic!(
            "{}: {why}\n---- missing\n{}\n---- world\n{:#?}\n{}\n{}",
            self.course,
            self.missing.join("\n"),
            self.world.truth(),
            self.world.tell(),
            self.site.tell(),
        );
    }
}
