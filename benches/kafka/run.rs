//! One fleet, all that is measured of it, in this order: throughput, latency, restart, replay.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rhizome_engine::event::Observation;
use rhizome_engine::event::{Form, Input, Ready, SourceName};
use rhizome_engine::time::{Clock, Timestamp};
use tokio::runtime::Runtime;

use crate::broker::Broker;
use crate::clock::StepClock;
use crate::cpu::{self, Ledger, Owner, Spent};
use crate::fleet::{self, Fleet, INTERVAL};
use crate::ours::{Ours, Parts, until};
use crate::reference::Reference;
use crate::report::{Figures, Replay, Restart, Round};
use crate::timing::Timing;

/// Sweeps that fill the windows: fifteen minutes.
const WARM_SWEEPS: usize = 90;

/// Pairs of measurements.
const ROUNDS: usize = 5;

/// Seconds of the fleet's life in one of them: more where the fleet is small.
const ROUND_RECORDS: usize = 200_000;
const ROUND_SECONDS: [usize; 2] = [20, 100];

/// A second of the fleet's life takes this long at least: what the program asks the broker
/// every two seconds of its clock has to be answered meanwhile.
const PACE: Duration = Duration::from_millis(25);

/// Steps of the live part, on the machine's clock: agents report all over the second, not together.
const STEPS_PER_SECOND: usize = 1_000;
const STEP: Duration = Duration::from_millis(1);
const LIVE_STEPS: usize = 44 * STEPS_PER_SECOND;

/// Steps before the nodes that shall be silent have fallen silent.
const SPEAKING_STEPS: usize = 2 * STEPS_PER_SECOND;
pub(crate) const SILENT_NODES: usize = 20;

/// One spike each tenth of a second, from the start on.
const SPIKES: usize = 300;
const SPIKE_STEPS: usize = STEPS_PER_SECOND / 10;
/// Spikes between a node's illness, its own spike, and its return.
const SPIKES_ILL: usize = 20;

/// Records and seconds of the backlog: what the mock keeps, and no more than five minutes.
const BACKLOG_RECORDS: usize = 500_000;
const BACKLOG_SECONDS: [usize; 2] = [20, 300];

/// The time that threads need to fall asleep, so that the kernel's counts are whole.
const REST: Duration = Duration::from_millis(100);

const GROUP: &str = "bench";

/// Everything that runs.
struct Bench {
    fleet: Fleet,
    clock: Arc<StepClock>,
    runtime: Runtime,
    state: PathBuf,
    timing: Arc<Timing>,
    ledger: Ledger,
    broker: Broker,
    ours: Ours,
    /// None once nothing is compared any more: it would read beside what is timed.
    reference: Option<Reference>,
    /// Records in the engine's count that did not come by this connector.
    beside: u64,
    /// Records that were written before this connector began.
    before: u64,
    second: usize,
}

/// Measures a fleet of so many nodes, with the program's state in this folder.
pub(crate) fn measure(size: usize, state: PathBuf) -> Figures {
    let mut bench = Bench::set_up(size, state);
    let mut figures = Figures {
        nodes: size,
        ..Figures::default()
    };
    bench.warm_up();
    let before = bench.ours.counters(&bench.runtime);
    figures.rounds = (0..ROUNDS).map(|_| bench.round()).collect();
    let after = bench.ours.counters(&bench.runtime);
    figures.entered =
        (after.bodies - before.bodies) as f64 / (after.records - before.records) as f64;
    if let Some(reference) = bench.reference.take() {
        reference.stop();
    }
    bench.live();
    figures.latencies = bench.timing.latencies();
    figures.syncs = crate::disk::syncs(&bench.state);
    figures.silences = bench.timing.silences();
    let (restart, replay) = restart(bench);
    figures.restart = restart;
    figures.replay = replay;
    figures
}

impl Bench {
    fn set_up(size: usize, state: PathBuf) -> Self {
        let mut ledger = Ledger::default();
        ledger.claim(Owner::Stage);
        let clock = Arc::new(StepClock::new());
        let mut broker = Broker::start(&mut ledger, clock.now().wall);
        let from = broker.ends().iter().map(|(one, _)| (*one, 0)).collect();
        let reference = Reference::start(broker.options("reference"), from);
        until("the reference has read", || {
            reference.records() == broker.written()
        });
        ledger.claim(Owner::Reference);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("acting")
            .enable_all()
            .build()
            .expect("a runtime");
        let fleet = Fleet::new(size);
        let timing = Arc::new(Timing::new(Arc::clone(&clock)));
        let ours = Ours::start(Parts {
            fleet: &fleet,
            options: broker.options(GROUP),
            clock: &clock,
            state: &state,
            runtime: &runtime,
            timing: &timing,
        });
        // What is asked of the broker in vain is asked again by the program's clock.
        clock.run();
        // All that was there at the start is a refill: a source flows once live records come.
        ours.until_flowing(&runtime, || broker.write_live(clock.now().wall));
        until("it has read", || ours.read() == broker.written());
        until("the reference has read", || {
            reference.records() == broker.written()
        });
        clock.halt();
        ledger.claim(Owner::Ours);
        for listing in fleet.listings(clock.now().wall) {
            ours.hand_over(Input::Observation(listing));
        }
        Self {
            fleet,
            clock,
            runtime,
            state,
            timing,
            ledger,
            broker,
            ours,
            reference: Some(reference),
            beside: 0,
            before: 0,
            second: 0,
        }
    }

    /// Fills the windows past Kafka: but for one record a second, by which the source flows, no
    /// rule is looked at.
    fn warm_up(&mut self) {
        for _ in 0..WARM_SWEEPS * INTERVAL {
            let began = Instant::now();
            let at = self.clock.now().wall;
            self.clock.step(Duration::from_secs(1));
            let mut due = self.due();
            self.hand_over_batch(false, due.by_ref().take(1), at);
            self.hand_over_batch(true, due, at);
            self.end_second(began);
        }
    }

    /// Hands the records of these nodes over past Kafka.
    fn hand_over_batch(
        &mut self,
        refill: bool,
        places: impl Iterator<Item = usize>,
        at: Timestamp,
    ) {
        let mut batch = self.ours.inlet.batch(SourceName::Kafka, at);
        batch.refill = refill;
        for place in places {
            let (cpu, memory) = Fleet::values(place, at);
            let name = self.fleet.names.get(place);
            batch.push_record(name.expect("a node"), at, None);
            batch.push_sample("cpu", "", Form::Value, cpu);
            batch.push_sample("memory", "", Form::Value, memory);
        }
        self.beside += batch.len() as u64;
        self.ours.hand_over(Input::Batch(batch));
    }

    /// One comparison over the same records, read by both second by second.
    fn round(&mut self) -> Round {
        let [least, most] = ROUND_SECONDS;
        let a_second = (self.fleet.size() / INTERVAL).max(1);
        let seconds = (ROUND_RECORDS / a_second).clamp(least, most);
        let written = self.broker.written();
        std::thread::sleep(REST);
        let before = [Owner::Ours, Owner::Reference].map(|one| self.ledger.spent(one));
        for _ in 0..seconds {
            self.live_second();
        }
        std::thread::sleep(REST);
        let [ours, reference]: [Spent; 2] = [
            cpu::since(&before[0], &self.ledger.spent(Owner::Ours)),
            cpu::since(&before[1], &self.ledger.spent(Owner::Reference)),
        ];
        Round {
            records: self.broker.written() - written,
            ours,
            reference,
        }
    }

    /// A second of the fleet's life: its records through Kafka, and both have read them.
    fn live_second(&mut self) {
        let began = Instant::now();
        self.write_second();
        self.end_second(began);
    }

    /// Writes a second's records.
    fn write_second(&mut self) {
        let at = self.clock.now().wall;
        self.clock.step(Duration::from_secs(1));
        for place in self.due() {
            let (cpu, _) = Fleet::values(place, at);
            self.broker.write(&self.fleet, place, at, cpu);
        }
        self.broker.flush();
    }

    /// The nodes that report in this second.
    fn due(&self) -> impl Iterator<Item = usize> + use<> {
        (self.second % INTERVAL..self.fleet.size()).step_by(INTERVAL)
    }

    /// Waits for all that read, and does what the program does now and again.
    fn end_second(&mut self, began: Instant) {
        self.second += 1;
        if self.second.is_multiple_of(INTERVAL) {
            for report in fleet::reports() {
                self.ours.hand_over(Input::Source(report));
            }
        }
        if self.second.is_multiple_of(5) {
            self.ours.show(&self.runtime);
        }
        self.until_done();
        let written = self.broker.written();
        if let Some(reference) = &self.reference {
            until("the reference has read", || reference.records() == written);
        }
        std::thread::sleep(PACE.saturating_sub(began.elapsed()));
    }

    /// Waits until the program has decided on all that was written.
    fn until_done(&self) {
        let due = self.broker.written() - self.before;
        until("all is read", || self.ours.read() == due);
        until("all is decided", || {
            self.ours.counters(&self.runtime).records == due + self.beside
        });
    }

    /// The fleet on the machine's clock: spikes that end in an action, nodes that fall silent.
    fn live(&mut self) {
        let size = self.fleet.size();
        let silent_every = size / SILENT_NODES;
        // Odd places fall silent, even ones are ill in the cluster's eyes and get a spike.
        let silent = |place: usize| place % silent_every == 1;
        let spikes: Vec<usize> = (0..SPIKES.min(size / 4)).map(|one| one * 2 + 2).collect();
        self.timing.watch_spikes(true);
        self.clock.run();
        let began = Instant::now();
        let round = INTERVAL * STEPS_PER_SECOND;
        for step in 0..LIVE_STEPS {
            let at = self.clock.now().wall;
            for place in (step % round..size).step_by(round) {
                if silent(place) && step >= SPEAKING_STEPS + round {
                    continue;
                }
                if silent(place) && step >= SPEAKING_STEPS {
                    let name = self.fleet.names.get(place).expect("a node");
                    self.timing.falls_silent(name, at);
                }
                let (cpu, _) = Fleet::values(place, at);
                self.broker.write_at_once(&self.fleet, place, at, cpu);
            }
            if step.is_multiple_of(SPIKE_STEPS) {
                self.spike(step / SPIKE_STEPS, &spikes, at);
            }
            if step % round == 0 {
                for report in fleet::reports() {
                    self.ours.hand_over(Input::Source(report));
                }
            }
            if step % (5 * STEPS_PER_SECOND) == 0 {
                self.ours.show(&self.runtime);
            }
            let next = STEP * u32::try_from(step + 1).unwrap_or(u32::MAX);
            std::thread::sleep(next.saturating_sub(began.elapsed()));
        }
        self.broker.flush();
        self.until_done();
        self.clock.halt();
        self.timing.watch_spikes(false);
    }

    /// One node falls ill in the cluster's eyes, one that did a while ago has its spike, and one
    /// whose heal began a while ago serves again, so that its operation ends.
    fn spike(&mut self, beat: usize, spikes: &[usize], at: Timestamp) {
        let earlier = |beats: usize| Some(*spikes.get(beat.checked_sub(beats)?)?);
        for (place, ready) in [
            (earlier(0), Ready::False),
            (earlier(2 * SPIKES_ILL), Ready::True),
        ] {
            if let Some(place) = place {
                let node = fleet::node(place, at, ready);
                self.ours
                    .hand_over(Input::Observation(Observation::Node(node)));
            }
        }
        if let Some(place) = earlier(SPIKES_ILL) {
            self.broker.write_at_once(&self.fleet, place, at, 1.0);
        }
    }
}

/// Stops, lets a backlog gather, starts again and catches up.
fn restart(bench: Bench) -> (Restart, Replay) {
    let Bench {
        fleet,
        clock,
        runtime,
        state,
        timing,
        mut ledger,
        mut broker,
        ours,
        second,
        ..
    } = bench;
    ours.stop();
    let (ends, written) = (broker.ends(), broker.written());
    let [least, most] = BACKLOG_SECONDS;
    let a_second = (fleet.size() / INTERVAL).max(1);
    for second in (second..).take((BACKLOG_RECORDS / a_second).clamp(least, most)) {
        let at = clock.now().wall;
        clock.step(Duration::from_secs(1));
        for place in (second % INTERVAL..fleet.size()).step_by(INTERVAL) {
            let (cpu, _) = Fleet::values(place, at);
            broker.write(&fleet, place, at, cpu);
        }
        broker.flush();
    }
    let backlog = broker.written() - written;
    ledger.claim(Owner::Stage);

    let whole = Instant::now();
    let ours = Ours::start(Parts {
        fleet: &fleet,
        options: broker.options(GROUP),
        clock: &clock,
        state: &state,
        runtime: &runtime,
        timing: &timing,
    });
    ledger.claim(Owner::Ours);
    let before = ledger.spent(Owner::Ours);
    let listed = Instant::now();
    let listings = fleet.listings(clock.now().wall);
    let made = listed.elapsed();
    for listing in listings {
        ours.hand_over(Input::Observation(listing));
    }
    ours.counters(&runtime);
    let restart = Restart {
        start: ours.start,
        listing: listed.elapsed() - made,
        ready: whole.elapsed() - made,
    };
    until("the first record comes", || ours.read() > 0);
    let (first, at_first) = (Instant::now(), ours.read());
    until("the backlog is decided", || {
        ours.read() >= backlog && ours.counters(&runtime).records >= backlog
    });
    let wall = first.elapsed();
    std::thread::sleep(REST);
    ledger.claim(Owner::Ours);
    let spent = cpu::since(&before, &ledger.spent(Owner::Ours));
    let replay = Replay {
        records: backlog,
        per_second: (ours.read() - at_first) as f64 / wall.as_secs_f64(),
        ours: spent,
        reference: reference_alone(&mut ledger, &broker, ends, backlog),
    };
    ours.stop();
    (restart, replay)
}

/// R over the same backlog, as fast as it can.
fn reference_alone(
    ledger: &mut Ledger,
    broker: &Broker,
    from: Vec<(i32, i64)>,
    records: u64,
) -> Spent {
    ledger.claim(Owner::Stage);
    let reference = Reference::start(broker.options("reference"), from);
    until("the reference has caught up", || {
        reference.records() >= records
    });
    std::thread::sleep(REST);
    ledger.claim(Owner::Reference);
    let spent = ledger.spent(Owner::Reference);
    reference.stop();
    spent
}
