//! The order of things: what is to be done leaves after its record is on the disk, and never if it is
//! not.

use std::io;
use std::sync::Mutex;
use std::sync::mpsc::{SyncSender, sync_channel};

use rhizome_connectors::delivery::{Acknowledge, channel};
use rhizome_engine::action::ActionKind;
use rhizome_engine::event::{Observation, SourceName, SourceReport, Wish};
use rhizome_engine::policy::PolicySet;
use rhizome_engine::settings::{Limits, PoolSettings, Settings};
use rhizome_engine::status::Status;
use rhizome_engine::time::Timestamp;
use rhizome_standin::ManualClock;

use super::*;
use crate::journal::storage::{Appender, Storage};

/// What happened, in the order in which it did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Event {
    Synced,
    Acknowledged,
    Told,
}

/// A disk that notes when it syncs, that looks each time whether an action has left, a status was
/// told or a wish answered before, and that fails when it is told to.
#[derive(Clone)]
struct Disk {
    events: Arc<Mutex<Vec<Event>>>,
    actions: Arc<Mutex<mpsc::UnboundedReceiver<Action>>>,
    asked: Arc<Mutex<Option<oneshot::Receiver<Box<Status>>>>>,
    wished: Arc<Mutex<Option<oneshot::Receiver<Answer>>>>,
    full: Arc<AtomicBool>,
}

impl Disk {
    fn note(&self, event: Event) {
        self.events.lock().unwrap().push(event);
    }

    fn events(&self) -> Vec<Event> {
        std::mem::take(&mut *self.events.lock().unwrap())
    }

    fn actions(&self) -> Vec<Action> {
        let mut actions = self.actions.lock().unwrap();
        std::iter::from_fn(|| actions.try_recv().ok()).collect()
    }
}

impl Storage for Disk {
    fn read(&self, _: &str) -> io::Result<Option<Vec<u8>>> {
        Ok(None)
    }

    fn create(&self, _: &str) -> io::Result<Box<dyn Appender>> {
        Ok(Box::new(self.clone()))
    }

    fn link(&self, _: &str, _: &str) -> io::Result<()> {
        Ok(())
    }

    fn rename(&self, _: &str, _: &str) -> io::Result<()> {
        Ok(())
    }

    fn sync_folder(&self) -> io::Result<()> {
        Ok(())
    }
}

impl Appender for Disk {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn sync(&mut self) -> io::Result<()> {
        assert!(self.actions.lock().unwrap().is_empty(), "acted before");
        let mut asked = self.asked.lock().unwrap();
        let told = asked.as_mut().map(oneshot::Receiver::try_recv);
        assert!(!matches!(told, Some(Ok(_))), "told before");
        let mut wished = self.wished.lock().unwrap();
        let answered = wished.as_mut().map(oneshot::Receiver::try_recv);
        assert!(!matches!(answered, Some(Ok(_))), "answered before");
        if self.full.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.note(Event::Synced);
        Ok(())
    }
}

impl Acknowledge for Disk {
    fn acknowledge(&self, _: &[Position], _: u64) {
        self.note(Event::Acknowledged);
    }
}

/// A thread that has begun, over a pool that lacks a machine.
struct Stage {
    thread: Thread,
    inlet: rhizome_connectors::Inlet,
    calls: SyncSender<Call>,
    disk: Disk,
    clock: ManualClock,
    stop: Stop,
}

impl Stage {
    fn new() -> Self {
        let (actions, received) = mpsc::unbounded_channel();
        let (notices, _) = mpsc::unbounded_channel();
        let disk = Disk {
            events: Arc::default(),
            actions: Arc::new(Mutex::new(received)),
            asked: Arc::default(),
            wished: Arc::default(),
            full: Arc::default(),
        };
        let pool = PoolSettings {
            min: 1,
            max: 1,
            kubernetes: false,
            ..PoolSettings::default()
        };
        let settings = Settings {
            cluster: "test".to_owned(),
            pools: [("vms".into(), pool)].into(),
            limits: Limits::default(),
            lateness: Duration::from_secs(60),
            heartbeat_sources: vec![SourceName::Kafka],
            pause_sources: Vec::new(),
        };
        let clock = ManualClock::new(Timestamp(1_800_000_000_000));
        let as_clock: Arc<dyn Clock> = Arc::new(clock.clone());
        let gate = ProgramGate::new(Arc::clone(&as_clock), &settings.limits, false);
        let policies = Arc::new(PolicySet::load(&[]).unwrap());
        let journal = Journal::open_in(Box::new(disk.clone())).unwrap().journal;
        let (inlet, outlet) = channel(8);
        let (calls, called) = sync_channel(8);
        let telling = disk.clone();
        let mut thread = Thread::new(Core {
            engine: Engine::new(settings, policies, Vec::new(), 1, "test", clock.now()),
            journal,
            outlet,
            calls: called,
            clock: as_clock,
            gate,
            actions,
            notices,
            told: vec![Box::new(move |_| telling.note(Event::Told))],
            windows: None,
        });
        thread.first();
        disk.events();
        Self {
            thread,
            inlet,
            calls,
            disk,
            clock,
            stop: Stop::default(),
        }
    }

    /// Gives the status that is asked for meanwhile.
    fn deliver(&mut self, input: Input) -> Status {
        let position = Position {
            topic: "t".into(),
            partition: 0,
            next: 1,
        };
        let source = Arc::new(self.disk.clone());
        let ack = Some(Ack::new(vec![position], 1, source));
        self.inlet.send(Delivery { input, ack }).unwrap();
        let (reply, asked) = oneshot::channel();
        self.calls.send(Call::Status(reply)).unwrap();
        *self.disk.asked.lock().unwrap() = Some(asked);
        assert!(self.thread.turn(&self.stop));
        let told = self.disk.asked.lock().unwrap().take();
        *told.unwrap().try_recv().unwrap()
    }

    /// A minute in which the cloud is seen and has no machine, so that one is asked for.
    fn lack_a_machine(&mut self) {
        for _ in 0..6 {
            self.see_no_machine();
        }
    }

    /// Ten seconds of it; gives the status at their end.
    fn see_no_machine(&mut self) -> Status {
        self.deliver(Input::Source(SourceReport {
            source: SourceName::Openstack,
            flowing: true,
            lag: Duration::ZERO,
            refilled: true,
            trouble: String::new(),
        }));
        let status = self.deliver(Input::Observation(Observation::Servers {
            at: self.clock.now().wall,
            complete: true,
            servers: Vec::new(),
        }));
        self.clock.advance(Duration::from_secs(10));
        status
    }

    /// An operator asks for a pause, which the next turn answers.
    fn ask_for_pause(&self, key: &str) -> oneshot::Receiver<Answer> {
        let request = OperatorRequest {
            key: key.to_owned(),
            who: "ann".to_owned(),
            why: "a test".to_owned(),
            wish: Wish::Pause { pool: None },
        };
        let (reply, asked) = oneshot::channel();
        self.calls.send(Call::Operator(request, reply)).unwrap();
        asked
    }

    /// What an operator is answered.
    fn pause(&mut self) -> Answer {
        let asked = self.ask_for_pause("k");
        *self.disk.wished.lock().unwrap() = Some(asked);
        assert!(self.thread.turn(&self.stop));
        let answered = self.disk.wished.lock().unwrap().take();
        answered.unwrap().try_recv().unwrap()
    }
}

#[test]
fn an_action_leaves_after_its_intent_is_on_the_disk_and_the_ack_with_it() {
    let mut stage = Stage::new();
    stage.lack_a_machine();
    let kinds: Vec<_> = stage
        .disk
        .actions()
        .into_iter()
        .map(|one| one.kind)
        .collect();
    assert!(
        matches!(kinds[..], [ActionKind::CreateServer { .. }, ..]),
        "{kinds:?}, {:?}",
        stage.thread.core.engine.status(stage.clock.now()).refusals
    );
    let events = stage.disk.events();
    // That nothing left before a sync is looked at in each.
    let synced = events.iter().position(|event| *event == Event::Synced);
    assert!(
        synced < events.iter().position(|event| *event == Event::Told),
        "{events:?}"
    );
    assert_eq!(
        events
            .iter()
            .filter(|event| **event == Event::Acknowledged)
            .count(),
        12,
        "{events:?}"
    );
}

#[test]
fn on_a_disk_that_is_full_nothing_leaves_and_nothing_is_acknowledged() {
    let mut stage = Stage::new();
    stage.disk.full.store(true, Ordering::Relaxed);
    stage.lack_a_machine();
    assert!(stage.disk.actions().is_empty());
    let events = stage.disk.events();
    assert!(!events.contains(&Event::Synced), "{events:?}");
    let first = events.iter().position(|event| *event == Event::Told);
    let late = events.iter().skip(first.unwrap_or(usize::MAX));
    assert!(
        !late.copied().any(|event| event == Event::Acknowledged),
        "{events:?}"
    );
    // Once there is room again what was held back is done.
    stage.disk.full.store(false, Ordering::Relaxed);
    stage.lack_a_machine();
    assert!(!stage.disk.actions().is_empty());
}

#[test]
fn a_status_tells_nothing_that_is_not_on_the_disk() {
    let mut stage = Stage::new();
    // That no status was given before a sync is looked at in each.
    let mut shown = (0..12).map(|_| stage.see_no_machine().operations);
    assert!(shown.any(|operations| !operations.is_empty()));
    assert!(stage.disk.events().contains(&Event::Synced));
}

#[test]
fn an_operator_is_answered_after_the_sync_and_told_when_there_was_none() {
    let mut stage = Stage::new();
    assert!(matches!(stage.pause(), Answer::Granted(_)));
    assert_eq!(stage.disk.events().first(), Some(&Event::Synced));
    let mut stage = Stage::new();
    stage.disk.full.store(true, Ordering::Relaxed);
    let answer = stage.pause();
    assert!(
        matches!(answer, Answer::Refused(Reason::JournalFailed, _)),
        "{answer:?}"
    );
}

#[test]
fn wishes_that_wait_together_are_synced_together_and_before_a_status_behind_them() {
    let mut stage = Stage::new();
    let wishes = ["one", "two", "three"].map(|key| stage.ask_for_pause(key));
    let (reply, mut status) = oneshot::channel();
    stage.calls.send(Call::Status(reply)).unwrap();
    assert!(stage.thread.turn(&stage.stop));
    let events = stage.disk.events();
    let syncs = events.iter().filter(|event| **event == Event::Synced);
    assert_eq!(syncs.count(), 1, "{events:?}");
    for mut answer in wishes {
        assert!(matches!(answer.try_recv(), Ok(Answer::Granted(_))));
    }
    assert!(
        status
            .try_recv()
            .unwrap()
            .pools
            .iter()
            .all(|pool| pool.paused)
    );
}

#[test]
fn a_request_sent_again_while_the_first_waits_takes_nobodys_answer() {
    let mut waiting = Waiting::default();
    let (first, mut one) = oneshot::channel();
    let (again, mut two) = oneshot::channel();
    let (other, mut three) = oneshot::channel();
    waiting.wait("k", first);
    waiting.wait("k", again);
    waiting.wait("other", other);
    let answer = Answer::Granted("paused everything".to_owned());
    waiting.answer("k", &answer);
    assert_eq!(one.try_recv(), Ok(answer.clone()));
    assert_eq!(two.try_recv(), Ok(answer.clone()));
    assert!(three.try_recv().is_err());
    waiting.answer("k", &answer);
    assert_eq!(waiting.0.len(), 1, "answered once");
}

#[test]
fn what_is_not_on_the_disk_is_not_promised() {
    let paused = not_kept(Answer::Granted("paused everything".to_owned()));
    assert!(
        matches!(paused, Answer::Refused(Reason::JournalFailed, text)
        if text.contains("paused everything"))
    );
    let refused = Answer::Refused(Reason::Unknown, "no such pool".to_owned());
    assert_eq!(not_kept(refused.clone()), refused);
}
