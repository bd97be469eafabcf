//! What connectors hand to the engine's thread, and the bounded channel that it goes through.
//!
//! Connectors run on threads and tasks of their own; the engine runs on one thread that waits
//! here with a time-out (its next `wake_at`). The channel is std's: it can be filled from a
//! task without waiting ([`Inlet::try_send`], for back-pressure) and from a thread with
//! waiting ([`Inlet::send`]), and it can be emptied with a time-out.

use std::fmt;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, TrySendError};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;

use rhizome_engine::event::{Batch, Input, SourceName};
use rhizome_engine::time::Timestamp;

/// Deliveries that may wait for the engine before senders feel it.
///
/// Enough to ride out one slow step (a policy at its deadline, a journal sync) at full rate,
/// few enough that what waits here is never old: at 1,000 records a batch it is 64,000
/// records, some 16 MB.
pub const CHANNEL_DELIVERIES: usize = 64;

/// Emptied batches kept for the next use; more are freed. As many as the engine takes in one go.
const SPARE_BATCHES: usize = 32;

/// One thing handed over, and what must be told once it is safely in the journal.
#[derive(Debug)]
pub struct Delivery {
    /// What it is.
    pub input: Input,
    /// Where the input stands in its source; `None` if the source keeps no place (a post).
    pub ack: Option<Ack>,
}

impl Delivery {
    /// A delivery from a source that keeps no place.
    pub fn new(input: Input) -> Self {
        Self { input, ack: None }
    }
}

/// The right, and the duty, to tell a source that all up to these positions is decided.
///
/// [`Ack::done`] is called when what the input led to is journaled and synced. An ack that is
/// dropped instead is harmless: the records are read again after the next start.
pub struct Ack {
    /// Next position to read, one for each partition that the input came from.
    pub positions: Vec<Position>,
    /// Which assignment of partitions it was read under. The source ignores an ack from an
    /// earlier one: the partition may be somebody else's by now.
    pub assignment: u64,
    source: Arc<dyn Acknowledge>,
}

/// A place in a partition of a topic.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// The topic.
    pub topic: Arc<str>,
    /// The partition.
    pub partition: i32,
    /// The offset that is to be read next.
    pub next: i64,
}

/// A source that keeps its place.
pub trait Acknowledge: Send + Sync {
    /// Notes that all before `positions` is decided. Must not block.
    fn acknowledge(&self, positions: &[Position], assignment: u64);
}

impl Ack {
    /// An ack that tells `source`.
    pub fn new(positions: Vec<Position>, assignment: u64, source: Arc<dyn Acknowledge>) -> Self {
        Self {
            positions,
            assignment,
            source,
        }
    }

    /// Tells the source.
    pub fn done(self) {
        self.source.acknowledge(&self.positions, self.assignment);
    }
}

impl fmt::Debug for Ack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ack")
            .field("positions", &self.positions)
            .field("assignment", &self.assignment)
            .finish_non_exhaustive()
    }
}

/// The connectors' end of the channel. Clones share it.
#[derive(Debug, Clone)]
pub struct Inlet {
    sender: SyncSender<Delivery>,
    spare: Arc<Spare>,
}

/// The engine's end of the channel.
#[derive(Debug)]
pub struct Outlet {
    receiver: Receiver<Delivery>,
    spare: Arc<Spare>,
}

/// Why a delivery was not taken. It is given back, so that nothing is lost unseen.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// The engine is behind: try again later, or push back.
    #[error("the engine is behind and its queue is full: send again later")]
    Full(Box<Delivery>),
    /// The engine has stopped: give up.
    #[error("the engine has stopped")]
    Stopped(Box<Delivery>),
}

/// Why nothing was received.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReceiveError {
    /// Nothing came in time.
    #[error("nothing arrived in time")]
    Timeout,
    /// Every connector is gone.
    #[error("every connector has stopped")]
    Stopped,
}

/// A bounded channel from connectors to the engine.
pub fn channel(deliveries: usize) -> (Inlet, Outlet) {
    let (sender, receiver) = mpsc::sync_channel(deliveries);
    let spare = Arc::new(Spare::default());
    let inlet = Inlet {
        sender,
        spare: Arc::clone(&spare),
    };
    (inlet, Outlet { receiver, spare })
}

impl Inlet {
    /// An empty batch, in the memory of an earlier one if there is any.
    pub fn batch(&self, source: SourceName, arrival: Timestamp) -> Batch {
        match self.spare.take() {
            Some(mut batch) => {
                batch.source = source;
                batch.arrival = arrival;
                batch.refill = false;
                batch
            }
            None => Batch::new(source, arrival),
        }
    }

    /// Hands over without waiting.
    ///
    /// # Errors
    ///
    /// Returns the delivery if the queue is full or the engine has stopped.
    pub fn try_send(&self, delivery: Delivery) -> Result<(), SendError> {
        self.sender.try_send(delivery).map_err(|error| match error {
            TrySendError::Full(delivery) => SendError::Full(Box::new(delivery)),
            TrySendError::Disconnected(delivery) => SendError::Stopped(Box::new(delivery)),
        })
    }

    /// Hands over, waiting for room. Never call it on a thread of an async runtime.
    ///
    /// # Errors
    ///
    /// Returns the delivery if the engine has stopped.
    pub fn send(&self, delivery: Delivery) -> Result<(), SendError> {
        self.sender
            .send(delivery)
            .map_err(|mpsc::SendError(delivery)| SendError::Stopped(Box::new(delivery)))
    }

    /// Gives a batch that was not sent back for the next use.
    pub fn give_back(&self, batch: Batch) {
        self.spare.put(batch);
    }
}

impl Outlet {
    /// Waits for the next delivery, at most for `timeout`.
    ///
    /// # Errors
    ///
    /// Returns [`ReceiveError::Timeout`] if none came, [`ReceiveError::Stopped`] if none can.
    pub fn receive(&self, timeout: Duration) -> Result<Delivery, ReceiveError> {
        self.receiver
            .recv_timeout(timeout)
            .map_err(|error| match error {
                RecvTimeoutError::Timeout => ReceiveError::Timeout,
                RecvTimeoutError::Disconnected => ReceiveError::Stopped,
            })
    }

    /// The next delivery if one waits already.
    ///
    /// # Errors
    ///
    /// As [`Outlet::receive`].
    pub fn try_receive(&self) -> Result<Delivery, ReceiveError> {
        self.receiver.try_recv().map_err(|error| match error {
            TryRecvError::Empty => ReceiveError::Timeout,
            TryRecvError::Disconnected => ReceiveError::Stopped,
        })
    }

    /// Gives the memory of a batch back to the connectors when the engine has read it.
    pub fn give_back(&self, batch: Batch) {
        self.spare.put(batch);
    }
}

/// Emptied batches, so that a steady stream allocates nothing.
#[derive(Debug, Default)]
struct Spare(Mutex<Vec<Batch>>);

impl Spare {
    fn take(&self) -> Option<Batch> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }

    fn put(&self, mut batch: Batch) {
        batch.clear();
        let mut spare = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if spare.len() < SPARE_BATCHES {
            spare.push(batch);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Noted(Mutex<Vec<(Vec<Position>, u64)>>);

    impl Acknowledge for Noted {
        fn acknowledge(&self, positions: &[Position], assignment: u64) {
            self.0
                .lock()
                .unwrap()
                .push((positions.to_vec(), assignment));
        }
    }

    #[test]
    fn a_full_queue_gives_the_delivery_back_and_a_stopped_one_says_so() {
        let (inlet, outlet) = channel(1);
        inlet.try_send(Delivery::new(Input::Tick)).unwrap();
        let full = inlet.try_send(Delivery::new(Input::Tick)).unwrap_err();
        assert!(matches!(full, SendError::Full(_)));
        assert!(matches!(outlet.try_receive().unwrap().input, Input::Tick));
        assert_eq!(outlet.try_receive().unwrap_err(), ReceiveError::Timeout);
        drop(outlet);
        let stopped = inlet.send(Delivery::new(Input::Tick)).unwrap_err();
        assert!(matches!(stopped, SendError::Stopped(_)));
    }

    #[test]
    fn an_ack_reaches_its_source_once_it_is_done_and_not_when_it_is_dropped() {
        let noted = Arc::new(Noted::default());
        let at = Position {
            topic: "metrics".into(),
            partition: 3,
            next: 42,
        };
        drop(Ack::new(vec![at.clone()], 7, Arc::<Noted>::clone(&noted)));
        assert!(noted.0.lock().unwrap().is_empty());
        Ack::new(vec![at.clone()], 7, Arc::<Noted>::clone(&noted)).done();
        assert_eq!(*noted.0.lock().unwrap(), [(vec![at], 7)]);
    }

    #[test]
    fn a_batch_given_back_comes_again_empty_and_with_its_new_source() {
        let (inlet, outlet) = channel(1);
        let mut batch = inlet.batch(SourceName::Kafka, Timestamp(1));
        batch.push_record("worker-1", Timestamp(1), None);
        batch.refill = true;
        outlet.give_back(batch);
        let again = inlet.batch(SourceName::Collector, Timestamp(2));
        assert!(again.is_empty() && !again.refill);
        assert_eq!(
            (again.source, again.arrival),
            (SourceName::Collector, Timestamp(2))
        );
    }
}
