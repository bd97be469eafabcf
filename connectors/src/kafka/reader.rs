//! The consumer's thread: one loop of small steps, none of which waits long.
//!
//! ```text
//! acks -> rebalances and errors -> look at the ends -> report -> hand over -> read, decode
//! ```
//!
//! While something waits to be handed over nothing is read; the loop goes on, so that the
//! group never takes us for dead (`max.poll.interval.ms`).

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Receiver;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message as _;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka::types::RDKafkaErrorCode;
use rhizome_engine::event::{Batch, Input, SourceName};
use rhizome_engine::time::{Monotonic, Now};

use super::batch::{BatchQueue, Body};
use super::context::Context;
use super::lookup::{Name, Watch};
use super::partitions::{Acked as Verdict, Partition, Partitions};
use super::poison::{Next, Poison};
use super::report::Reporter;
use super::stats::{KafkaStats, add, add_size};
use super::{KafkaParts, KafkaStopped};
use crate::deadletter::Origin;
use crate::delivery::{Ack, Acknowledge, Delivery, Position, SendError};

/// Records in one read, and so in a batch. At 1,000 the cost of the read is spread thin (a
/// tenth of a microsecond each) and a batch is decoded in under a millisecond.
pub(super) const MAX_RECORDS: usize = 1_000;

/// How long a read waits for the first record. Acks and rebalances wait as long at most.
const READ_WAIT: Duration = Duration::from_millis(50);

/// Positions are stored together this often, on the program's clock; librdkafka commits what
/// is stored once a second. Storing them costs more per partition than reading a record.
const STORE_EVERY: Duration = Duration::from_millis(250);

/// How long to wait for room in the channel before trying again.
const FULL_WAIT: Duration = Duration::from_millis(2);

/// Events of librdkafka served in one turn: at most twenty errors come in a second, and
/// turns come as often even when nothing does.
const EVENTS_A_TURN: usize = 4;

/// What the thread shares with [`super::KafkaConnector`].
pub(super) struct Shared {
    pub(super) consumer: Arc<BaseConsumer<Context>>,
    pub(super) stats: Arc<KafkaStats>,
    pub(super) stop: Arc<AtomicBool>,
    pub(super) acknowledge: Arc<dyn Acknowledge>,
}

/// Positions that the program is done with.
#[derive(Debug)]
pub(super) struct Acked {
    pub(super) positions: Vec<Position>,
    pub(super) assignment: u64,
}

/// Reads until told to stop.
pub(super) fn run(
    parts: KafkaParts,
    shared: Shared,
    acks: Receiver<Acked>,
) -> Result<(), KafkaStopped> {
    let consumer = Arc::clone(&shared.consumer);
    let end = Reader::new(parts, shared, acks).and_then(Reader::run);
    // The reader is gone, and with it queue and watch: what is dropped here is the last hold
    // on the consumer, which commits what is stored and leaves the group.
    consumer.context().close();
    drop(consumer);
    end
}

/// The thread's state.
pub(super) struct Reader {
    // Queue and watch are dropped before the consumer in `shared`.
    pub(super) queue: BatchQueue<Context>,
    pub(super) watch: Watch,
    pub(super) shared: Shared,
    pub(super) parts: KafkaParts,
    acks: Receiver<Acked>,
    pub(super) partitions: Partitions,
    /// Assigned by the group, but not yet known where to begin.
    pub(super) waiting: VecDeque<Name>,
    /// How far partitions were read and decided that were taken away since: the windows still
    /// hold that. Bounded by the partitions of the topics.
    pub(super) left: BTreeMap<Name, Partition>,
    /// Held, but to be begun anew: the position is not there any more.
    pub(super) restart: BTreeSet<Name>,
    /// When it was last tried to begin those.
    pub(super) tried: Option<Monotonic>,
    /// When the ends were last asked for.
    pub(super) looked: Option<Monotonic>,
    /// Whether the next look shall find out why TLS fails.
    pub(super) explain_tls: bool,
    pub(super) reporter: Reporter,
    /// Acknowledged, and not stored yet. Bounded by the partitions.
    decided: BTreeMap<Name, (i64, Option<String>)>,
    /// When positions were last stored.
    stored: Option<Monotonic>,
    out: VecDeque<Delivery>,
}

/// A batch being filled, and up to where it reaches in each partition.
struct Filling {
    batch: Batch,
    reached: Vec<(usize, i64)>,
    /// Messages and their bytes: counted here, and for others to see once a read.
    records: usize,
    bytes: usize,
}

/// Something to be done about a partition after a read.
enum Deed {
    Failed(Name, RDKafkaErrorCode, String, i64),
    Passed(Name),
}

impl Deed {
    fn is_of(&self, held: &Partition) -> bool {
        let (Self::Failed((topic, partition), ..) | Self::Passed((topic, partition))) = self;
        *partition == held.partition && *topic == held.topic
    }
}

impl Reader {
    fn new(parts: KafkaParts, shared: Shared, acks: Receiver<Acked>) -> Result<Self, KafkaStopped> {
        let queue = BatchQueue::new(Arc::clone(&shared.consumer))
            .ok_or_else(|| KafkaStopped::Failed("librdkafka gives no queue".to_owned()))?;
        let watch = Watch::start(Arc::clone(&shared.consumer), parts.options.clone())
            .map_err(|error| KafkaStopped::Failed(error.to_string()))?;
        Ok(Self {
            queue,
            watch,
            shared,
            parts,
            acks,
            partitions: Partitions::default(),
            waiting: VecDeque::new(),
            left: BTreeMap::new(),
            restart: BTreeSet::new(),
            tried: None,
            looked: None,
            explain_tls: false,
            reporter: Reporter::default(),
            decided: BTreeMap::new(),
            stored: None,
            out: VecDeque::new(),
        })
    }

    fn run(mut self) -> Result<(), KafkaStopped> {
        let end = loop {
            if self.shared.stop.load(Ordering::Acquire) {
                break Ok(());
            }
            if let Err(end) = self.turn() {
                break Err(end);
            }
        };
        if let Err(why) = &end {
            tracing::error!("kafka: {why}");
            let report = self.reporter.ended(&why.to_string());
            // If the engine is gone there is nobody left to tell.
            let _ = self.parts.inlet.send(Delivery::new(Input::Source(report)));
        }
        self.store_acks();
        end
    }

    fn turn(&mut self) -> Result<(), KafkaStopped> {
        let now = self.parts.clock.now();
        self.take_acks(now);
        self.serve_events(now)?;
        self.rebalance(now);
        self.retry(now);
        self.look(now);
        if !self.hand_over()? {
            self.serve_event(FULL_WAIT);
            return Ok(());
        }
        self.reporter.waiting(&self.waiting);
        if let Some(report) = self.reporter.due(&self.partitions, now) {
            let lag = i64::try_from(report.lag.as_millis()).unwrap_or(i64::MAX);
            self.shared
                .stats
                .lag_ms
                .store(lag.unsigned_abs(), Ordering::Relaxed);
            self.out.push_back(Delivery::new(Input::Source(report)));
        }
        self.read();
        Ok(())
    }

    /// Takes in what the program is done with, and stores it now and then.
    fn take_acks(&mut self, now: Now) {
        self.gather_acks();
        let due = self
            .stored
            .is_none_or(|stored| now.mono.since(stored) >= STORE_EVERY);
        if due && !self.decided.is_empty() {
            self.stored = Some(now.mono);
            self.store_decided();
        }
    }

    /// Stores all that the program is done with; librdkafka commits it within a second.
    pub(super) fn store_acks(&mut self) {
        self.gather_acks();
        self.store_decided();
    }

    fn gather_acks(&mut self) {
        while let Ok(acked) = self.acks.try_recv() {
            for Position {
                topic,
                partition,
                next,
            } in acked.positions
            {
                match self
                    .partitions
                    .acknowledge(&topic, partition, next, acked.assignment)
                {
                    Verdict::Store(id) => {
                        self.decided.insert((topic, partition), (next, id));
                    }
                    Verdict::Behind => {}
                    Verdict::Lost => add(&self.shared.stats.stale_acks, 1),
                }
            }
        }
    }

    fn store_decided(&mut self) {
        let mut list = TopicPartitionList::new();
        for ((topic, partition), (next, id)) in std::mem::take(&mut self.decided) {
            add_position(&mut list, &topic, partition, next, id);
        }
        if list.count() > 0 {
            self.store(&list);
        }
    }

    pub(super) fn store(&self, list: &TopicPartitionList) {
        if let Err(error) = self.shared.consumer.store_offsets(list) {
            // Only if librdkafka lost the partition a moment ago: a rebalance is on its way,
            // and whoever gets it reads these records again.
            tracing::debug!(%error, "kafka: positions not stored");
        }
    }

    fn serve_events(&mut self, now: Now) -> Result<(), KafkaStopped> {
        for _ in 0..EVENTS_A_TURN {
            self.serve_event(Duration::ZERO);
        }
        let errors = self.shared.consumer.context().take_errors();
        if errors.is_empty() {
            return Ok(());
        }
        for (code, text) in errors {
            self.explain_tls |= code == RDKafkaErrorCode::SSL;
            self.reporter.error(code, &text, now.mono);
        }
        match self.shared.consumer.client().fatal_error() {
            None => Ok(()),
            Some((RDKafkaErrorCode::FencedInstanceId, text)) => Err(KafkaStopped::Fenced(text)),
            Some((_, text)) => Err(KafkaStopped::Fatal(text)),
        }
    }

    /// Serves one event of librdkafka, waiting for it at most for `wait`.
    fn serve_event(&mut self, wait: Duration) {
        // Errors come by the context too, and there all of them.
        let Some(Ok(stray)) = self.shared.consumer.poll(wait) else {
            return;
        };
        let name = (Arc::from(stray.topic()), stray.partition());
        let offset = stray.offset();
        drop(stray);
        self.fetch_again(&name, offset);
    }

    /// Hands over what waits. False if the channel is full.
    fn hand_over(&mut self) -> Result<bool, KafkaStopped> {
        while let Some(delivery) = self.out.pop_front() {
            match self.parts.inlet.try_send(delivery) {
                Ok(()) => {}
                Err(SendError::Full(delivery)) => {
                    self.out.push_front(*delivery);
                    return Ok(false);
                }
                Err(SendError::Stopped(_)) => return Err(KafkaStopped::Engine),
            }
        }
        Ok(true)
    }

    fn read(&mut self) {
        // Each time: while others are busy, no read comes back empty.
        self.forward_silent();
        if self.queue.read(MAX_RECORDS, READ_WAIT) == 0 {
            return;
        }
        let now = self.parts.clock.now();
        let mut live = Filling::new(&self.parts, now, false);
        let mut refill = Filling::new(&self.parts, now, true);
        let mut deeds = Vec::new();
        let mut last = None;
        for message in self.queue.messages() {
            let origin = message.origin();
            let place = match last {
                Some((seen, place)) if seen == origin => place,
                _ => self.partitions.place(message.topic(), message.partition()),
            };
            last = Some((origin, place));
            let Some((place, held)) =
                place.and_then(|place| Some((place, self.partitions.at(place)?)))
            else {
                // Not ours any more.
                continue;
            };
            held.heard = true;
            let searching = held.poison.as_ref().is_some_and(Poison::searching);
            if searching && deeds.iter().any(|deed: &Deed| deed.is_of(held)) {
                // The attempt has its answer; what follows it belongs to no other.
                continue;
            }
            match message.body() {
                Body::Error(code, text) => deeds.push(Deed::Failed(
                    held.name(),
                    code,
                    text.to_owned(),
                    message.offset(),
                )),
                Body::End => {
                    held.high = Some(message.offset());
                    if searching {
                        deeds.push(Deed::Passed(held.name()));
                    } else {
                        held.reach(message.offset(), now);
                    }
                }
                Body::Record(_) if searching => deeds.push(Deed::Passed(held.name())),
                Body::Record(payload) => {
                    let filling = if message.offset() < held.live_from {
                        &mut refill
                    } else {
                        &mut live
                    };
                    held.reach(message.offset() + 1, now);
                    held.poison = None;
                    if let Some(at) = message.timestamp() {
                        held.last_time = rhizome_engine::time::Timestamp(at);
                    }
                    filling.reach(place, held.next);
                    decode(&mut self.parts, &self.shared.stats, held, payload, filling);
                }
            }
        }
        self.queue.release();
        self.pack(refill);
        self.pack(live);
        for deed in deeds {
            self.act(deed, now);
        }
    }

    /// Makes a delivery of a batch that reached anywhere, be all its records bad.
    fn pack(&mut self, filling: Filling) {
        if filling.reached.is_empty() {
            self.parts.inlet.give_back(filling.batch);
            return;
        }
        let stats = &self.shared.stats;
        add_size(&stats.records, filling.records);
        add_size(&stats.bytes, filling.bytes);
        if filling.batch.refill {
            add_size(&stats.refill, filling.batch.len());
        }
        let positions = filling
            .reached
            .into_iter()
            .filter_map(|(place, next)| {
                let held = self.partitions.at(place)?;
                Some(Position {
                    topic: Arc::clone(&held.topic),
                    partition: held.partition,
                    next,
                })
            })
            .collect();
        self.out.push_back(Delivery {
            input: Input::Batch(filling.batch),
            ack: Some(Ack::new(
                positions,
                self.partitions.assignment(),
                Arc::clone(&self.shared.acknowledge),
            )),
        });
    }

    /// Does what a message of one partition asks for.
    fn act(&mut self, deed: Deed, now: Now) {
        match deed {
            Deed::Passed(name) => self.search(&name, now, |poison, high| poison.passed(high)),
            Deed::Failed(name, code, text, offset) => {
                self.shared.consumer.context().note(code, &text);
                match code {
                    RDKafkaErrorCode::AutoOffsetReset => {
                        self.restart.insert(name);
                        self.tried = None;
                    }
                    // What an unpackable, cut or unknown batch shows as.
                    RDKafkaErrorCode::BadCompression
                    | RDKafkaErrorCode::BadMessage
                    | RDKafkaErrorCode::NotImplemented => {
                        self.search(&name, now, |poison, high| poison.failed(offset, high));
                    }
                    // Of one partition, and told once: it stands still until this is over.
                    _ => {
                        if let Some(held) = self.partitions.get(&name.0, name.1) {
                            held.trouble = text;
                        }
                    }
                }
            }
        }
    }

    /// Goes one step on in the search for the end of a bad batch.
    fn search(&mut self, name: &Name, now: Now, step: impl FnOnce(&mut Poison, i64) -> Next) {
        let Some(held) = self.partitions.get(&name.0, name.1) else {
            return;
        };
        let high = held.high.unwrap_or(held.next);
        let next = match &mut held.poison {
            Some(poison) => step(poison, high),
            None => {
                let mut poison = Poison::new(held.next);
                let next = step(&mut poison, high);
                held.poison = Some(poison);
                next
            }
        };
        match next {
            Next::Wait => {}
            Next::Try(offset) => self.seek(name, offset),
            Next::Resume(offset) => {
                let base = held.poison.take().map_or(held.next, |poison| poison.base());
                let from = held.next.max(base);
                held.reach(offset, now);
                let count = offset - from;
                add(&self.shared.stats.poisoned, count);
                let text = format!(
                    "{count} records of {} [{}] from offset {from} on cannot be unpacked and were passed over",
                    name.0, name.1
                );
                let origin = Origin {
                    topic: Arc::clone(&name.0),
                    partition: name.1,
                    offset: from,
                };
                self.parts.records.passed_over(now.wall, origin, count);
                self.reporter.note(text, now.mono);
                self.seek(name, offset);
            }
        }
    }
}

fn decode(
    parts: &mut KafkaParts,
    stats: &KafkaStats,
    held: &Partition,
    payload: Option<&[u8]>,
    filling: &mut Filling,
) {
    let payload = payload.unwrap_or_default();
    filling.records += 1;
    filling.bytes += payload.len();
    let bad = parts.records.read(payload, &mut filling.batch);
    if bad > 0 {
        add_size(&stats.bad, bad);
        let origin = Origin {
            topic: Arc::clone(&held.topic),
            partition: held.partition,
            offset: held.next - 1,
        };
        parts.records.keep(filling.batch.arrival, origin, payload);
    }
}

impl Filling {
    fn new(parts: &KafkaParts, now: Now, refill: bool) -> Self {
        let mut batch = parts.inlet.batch(SourceName::Kafka, now.wall);
        batch.refill = refill;
        Self {
            batch,
            reached: Vec::new(),
            records: 0,
            bytes: 0,
        }
    }

    fn reach(&mut self, place: usize, next: i64) {
        // Records of a partition come in runs, so the last entry is mostly the one.
        match self.reached.iter_mut().rev().find(|(of, _)| *of == place) {
            Some((_, reached)) => *reached = next,
            None => self.reached.push((place, next)),
        }
    }
}

/// Adds a position with the topic's id beside it, which tells after a restart whether the
/// topic is still the same.
pub(super) fn add_position(
    list: &mut TopicPartitionList,
    topic: &str,
    partition: i32,
    next: i64,
    id: Option<String>,
) {
    let mut element = list.add_partition(topic, partition);
    // Only a negative offset is refused, and none is ever reached.
    let _ = element.set_offset(Offset::Offset(next));
    element.set_metadata(id.unwrap_or_default());
}
