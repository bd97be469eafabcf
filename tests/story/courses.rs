//! The text: what happens outside of Rhizome, course by course, and what must come of it.
//!
//! A course begins with workers that serve and ends so; whoever plays it may have the program
//! killed anywhere in between, and nothing else may come of it.

use rhizome_engine::decision::{Reason, told_again_after};
use rhizome_engine::event::SourceName;
use rhizome_engine::journal::{Brake, Record};
use rhizome_engine::names::NodeName;
use rhizome_engine::time::Timestamp;

use crate::judge::Came;
use crate::site::{MAX, MIN};
use crate::stage::{Ladder, Stage};
use crate::world::{Strike, Worker};

/// The work: two workers are at 0.9 by it, three at 0.6.
const BUSY: f64 = 1.8;

/// Three workers are at 0.23 by this, two at 0.35, and one alone is not over 0.75.
pub(crate) const CALM: f64 = 0.7;

/// Pods of the work, all but one of which must be healthy at any time.
pub(crate) const PODS: usize = 4;

/// Nothing was done.
const NOTHING: Came = Came {
    added: 0,
    removed: 0,
    rebooted: 0,
    rebuilt: 0,
    replaced: 0,
    swept: 0,
};

/// A course.
#[derive(Clone, Copy)]
pub(crate) struct Course {
    pub(crate) name: &'static str,
    /// It has no fewer records than that.
    pub(crate) records: usize,
    pub(crate) play: fn(&mut Stage),
}

/// The whole story. Each course begins where the one before ended.
pub(crate) const STORY: [Course; 12] = [
    BUILD, RISE, FALL, PLUG, QUICK, HANG, CUT, KAFKA, KEYSTONE, FALL, STOPPED, AGENT,
];

/// The whole story as two troupes tell it at the same time, where machines take minutes.
pub(crate) const BY_TROUPES: [&[Course]; 2] = [
    &[BUILD, RISE, FALL, PLUG, HANG, CUT],
    &[BUILD, QUICK, STOPPED, AGENT, KEYSTONE, FALL, KAFKA],
];

/// Courses that are told again and again, with the program killed one record later each time.
pub(crate) struct Part {
    /// What `RHIZOME_STORY` calls it.
    pub(crate) name: &'static str,
    /// They follow on the making of the first workers, if they are not that themselves.
    pub(crate) courses: &'static [Course],
    pub(crate) ladder: Ladder,
    /// It needs a stage that nothing happened on: the pool is empty, or what is refused was never refused.
    pub(crate) anew: bool,
    /// What happens in it happens to everybody who shares a cloud and a broker.
    pub(crate) to_all: bool,
}

impl Part {
    const fn new(name: &'static str, courses: &'static [Course]) -> Self {
        Self {
            name,
            courses,
            ladder: Ladder::RebootHelps,
            anew: false,
            to_all: false,
        }
    }

    /// Whether it begins with nothing.
    pub(crate) fn builds(&self) -> bool {
        self.courses.iter().any(|course| course.name == BUILD.name)
    }

    /// One of its courses has no fewer records than that.
    pub(crate) fn records(&self) -> usize {
        let records = self.courses.iter().map(|course| course.records);
        records.max().unwrap_or(0)
    }
}

/// Every course of the story is in one of these; a rebuild is in none of it.
pub(crate) static PARTS: [Part; 11] = [
    Part {
        anew: true,
        ..Part::new("build", &[BUILD])
    },
    Part::new("scale", &[RISE, FALL]),
    Part {
        ladder: Ladder::RebootInVain,
        ..Part::new("plug", &[PLUG])
    },
    Part::new("quick", &[QUICK]),
    Part::new("hang", &[HANG]),
    Part::new("cut", &[CUT]),
    Part::new("stopped", &[STOPPED]),
    Part {
        ladder: Ladder::Rebuild,
        ..Part::new("rebuild", &[REBUILT])
    },
    Part {
        anew: true,
        ..Part::new("agent", &[AGENT])
    },
    Part {
        to_all: true,
        ..Part::new("kafka", &[KAFKA])
    },
    Part {
        to_all: true,
        ..Part::new("keystone", &[KEYSTONE])
    },
];

/// From a master that is not ours to touch and an empty pool.
pub(crate) const BUILD: Course = Course {
    name: "the first workers are made",
    records: 30,
    play: |stage| {
        stage.world.set_demand(CALM);
        stage.site.start();
        stage.until_settled(MIN);
        stage.came(Came {
            added: MIN,
            ..NOTHING
        });
    },
};

pub(crate) const RISE: Course = Course {
    name: "the load rises, and a worker is added",
    records: 20,
    play: |stage| {
        stage.world.set_demand(BUSY);
        stage.until_settled(MAX);
        stage.came(Came {
            added: 1,
            ..NOTHING
        });
    },
};

pub(crate) const FALL: Course = Course {
    name: "the load falls, and a named worker is drained and removed",
    records: 20,
    play: |stage| {
        let leaves = stage.worn();
        falls(stage, &leaves);
    },
};

pub(crate) const PLUG: Course = Course {
    name: "a worker's plug is pulled, and it is replaced",
    records: 40,
    play: |stage| {
        let worker = stage.fresh();
        stage.touches(&worker);
        stage.strike(&worker, Strike::PlugPulled);
        let gone = worker.clone();
        stage.until("the dead worker to be gone", |stage| {
            (!stage.workers().contains(&gone)).then_some(())
        });
        stage.until_settled(MIN);
        stage.came(Came {
            replaced: 1,
            ..NOTHING
        });
        stage.two_witnesses(&worker);
    },
};

pub(crate) const QUICK: Course = Course {
    name: "a worker reboots quickly, and nothing follows",
    records: 0,
    play: |stage| {
        let worker = stage.fresh();
        stage.strike(&worker, Strike::QuickReboot);
        stage.pass(stage.world.pace().quiet);
        stage.until_settled(MIN);
        stage.came(NOTHING);
    },
};

pub(crate) const HANG: Course = Course {
    name: "a worker hangs, and is rebooted",
    records: 10,
    play: |stage| rebooted(stage, Strike::Hung),
};

pub(crate) const CUT: Course = Course {
    name: "a worker's cable is pulled, and it is rebooted",
    records: 10,
    play: |stage| rebooted(stage, Strike::Cut),
};

pub(crate) const STOPPED: Course = Course {
    name: "somebody stops a worker's server, and it is started",
    records: 10,
    play: |stage| rebooted(stage, Strike::Stopped),
};

/// Where the policy has it so.
pub(crate) const REBUILT: Course = Course {
    name: "a worker hangs, and is rebuilt",
    records: 20,
    play: |stage| {
        let rebuilt = Came {
            rebuilt: 1,
            ..NOTHING
        };
        healed(stage, Strike::Hung, rebuilt);
    },
};

pub(crate) const KAFKA: Course = Course {
    name: "Kafka stops, and nothing is harmed",
    records: 2,
    play: |stage| {
        stage.world.set_kafka(false);
        until_blind(stage, true);
        stage.pass(stage.world.pace().kafka_away);
        stage.world.set_kafka(true);
        until_blind(stage, false);
        stage.pass(stage.world.pace().quiet);
        stage.until_settled(MIN);
        stage.came(NOTHING);
    },
};

pub(crate) const KEYSTONE: Course = Course {
    name: "Keystone stops in the middle of a scale-up, and it is finished later",
    records: 20,
    play: |stage| {
        stage.world.set_demand(BUSY);
        stage.until("the scale-up to be decided", |stage| {
            let decided = |record: &Record| matches!(record, Record::Decision { .. });
            stage.records().iter().any(decided).then_some(())
        });
        stage.world.set_keystone(false);
        // Whoever has a token goes on with it; one that starts anew has none.
        stage.restart();
        stage.until("the cloud to be known as away", |stage| {
            let sources = stage.site.status()?.engine.sources;
            let cloud = sources
                .iter()
                .find(|one| one.source == SourceName::Openstack)?;
            (!cloud.flowing).then_some(())
        });
        stage.world.set_keystone(true);
        stage.until_settled(MAX);
        stage.came(Came {
            added: 1,
            ..NOTHING
        });
    },
};

pub(crate) const AGENT: Course = Course {
    name: "an agent alone dies, and nothing is harmed",
    records: 1,
    play: |stage| {
        let worker = until_told_anew(stage);
        stage.strike(&worker, Strike::AgentDead);
        stage.until("one witness to be refused", |stage| {
            let refused = |record: &Record| {
                matches!(record, Record::Refusal { refusal }
                    if refusal.reason == Reason::OneWitness)
            };
            stage.records().iter().any(refused).then_some(())
        });
        stage.pass(stage.world.pace().quiet);
        stage.world.mend(&worker, Strike::AgentDead);
        until_heard(stage, &worker.node);
        stage.until_settled(MIN);
        stage.came(NOTHING);
    },
};

/// The load falls, and this worker is drained and removed, for the others are protected.
pub(crate) fn falls(stage: &mut Stage, leaves: &Worker) {
    let stay: Vec<_> = stage
        .workers()
        .into_iter()
        .filter(|one| one != leaves)
        .collect();
    for worker in &stay {
        stage.order(&["protect", &worker.node, "--why", "it stays"]);
    }
    stage.put_to_work(PODS);
    stage.until_settled(MAX);
    stage.touches(leaves);
    stage.world.set_demand(CALM);
    stage.until_settled(MIN);
    stage.came(Came {
        removed: 1,
        ..NOTHING
    });
    assert_eq!(stage.workers(), stay, "another one left than {leaves:?}");
    for worker in &stay {
        stage.order(&["protect", &worker.node, "--off", "--why", "over"]);
    }
}

/// It is missed, two witnesses agree, and a reboot helps.
fn rebooted(stage: &mut Stage, what: Strike) {
    let rebooted = Came {
        rebooted: 1,
        ..NOTHING
    };
    healed(stage, what, rebooted);
}

/// It is missed, two witnesses agree, and the same machine serves again.
fn healed(stage: &mut Stage, what: Strike, came: Came) {
    let worker = stage.fresh();
    let before = stage.workers();
    stage.touches(&worker);
    stage.strike(&worker, what);
    stage.until("its healing to begin", |stage| {
        let records = stage.records();
        records
            .iter()
            .any(|record| matches!(record, Record::Rung { .. }))
            .then_some(())
    });
    stage.until_settled(MIN);
    until_heard(stage, &worker.node);
    stage.came(came);
    stage.two_witnesses(&worker);
    assert_eq!(stage.workers(), before, "no machine was made or lost");
}

/// Waits until the brake for a Kafka that cannot be heard closes, or opens again.
fn until_blind(stage: &mut Stage, wanted: bool) {
    stage.until("the brake of a Kafka that is away", |stage| {
        let records = stage.records();
        let last = records.iter().rev().find_map(|record| match record {
            Record::Brake { brake, on, .. } if *brake == Brake::Blind(SourceName::Kafka) => {
                Some(*on)
            }
            _ => None,
        });
        (last == Some(wanted)).then_some(())
    });
}

/// How often in a row it was told that one witness is not enough for the node, and when last.
fn told_of(records: &[Record], node: &str) -> Option<(u32, Timestamp)> {
    let about = |of: &Option<NodeName>| of.as_ref().is_some_and(|of| of.as_str() == node);
    let mut told: Option<(u32, Timestamp)> = None;
    for record in records {
        match record {
            Record::Decision { decision } if about(&decision.node) => told = None,
            Record::Refusal { refusal } if about(&refusal.node) => {
                let again = refusal.reason == Reason::OneWitness;
                let times = told.map_or(0, |(times, _)| times);
                told = again.then_some((times + 1, refusal.at));
            }
            _ => {}
        }
    }
    told
}

/// The worker of whom that was told the least, once it would be told again.
fn until_told_anew(stage: &mut Stage) -> Worker {
    let workers = stage.workers();
    let records = stage.site.records();
    let told = |worker: &Worker| told_of(&records, &worker.node);
    let worker = workers.into_iter().min_by_key(told).expect("a worker");
    stage.until("earlier refusals to be long ago", |stage| {
        let Some((times, last)) = told_of(&stage.site.records(), &worker.node) else {
            return Some(());
        };
        let now = stage.site.status()?.engine.at;
        (now.since(last) > told_again_after(times)).then_some(())
    });
    worker
}

/// Waits until the node's agent is heard anew.
fn until_heard(stage: &mut Stage, node: &str) {
    let since = stage.status().engine.at;
    stage.until("the agent to be heard", |stage| {
        let pools = stage.site.status()?.engine.pools;
        let mut nodes = pools.iter().flat_map(|pool| &pool.nodes);
        let heard = nodes.find(|one| one.name.as_str() == node)?.heard?;
        (heard > since).then_some(())
    });
}
