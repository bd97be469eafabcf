//! The batch read of librdkafka, the ids of topics, and brokers that are named later: the three
//! things that the `rdkafka` crate does not offer. The one file of the project with `unsafe` in it.
//!
//! A batch read costs a third of a `poll` per record. It goes on a queue of its own, to which
//! the queues of the assigned partitions are forwarded, and never on the consumer's queue:
//! there it would swallow rebalances and abort the process on a commit's answer
//! (`rd_kafka_q_serve_rkmessages` hands whatever is no message to a callback that the
//! `rdkafka` crate does not set, or takes it for a message). What arrives here is therefore
//! only records and the errors of single partitions; everything else is for
//! `BaseConsumer::poll`.
//!
//! # Why this is sound
//!
//! - Every pointer comes from librdkafka and is checked for null. Each is owned by one value
//!   here ([`Queue`], [`Owned`], `BatchQueue::messages`) whose `Drop` gives it back, once, by
//!   the function that its documentation names.
//! - The native client outlives all of them: [`BatchQueue`] holds the consumer, and its own
//!   `Drop` destroys messages and queue before that field is dropped. [`topic_ids`] and [`name_brokers`] borrow it.
//! - What a [`Message`] borrows lives until the message is destroyed. That takes
//!   `&mut BatchQueue` ([`BatchQueue::read`], [`BatchQueue::release`]) or its `Drop`, so no
//!   `Message` is left by then.
//! - librdkafka is thread-safe for all calls made here. [`BatchQueue`] holds raw pointers, so
//!   it is neither `Send` nor `Sync` and stays on the thread that made it.
#![allow(
    unsafe_code,
    reason = "rdkafka has no batch read, no topic ids, no late brokers: the argument is above"
)]

use std::collections::BTreeMap;
use std::ffi::{CStr, CString, c_char, c_int};
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::KafkaResult;
use rdkafka::topic_partition_list::TopicPartitionList;
use rdkafka::types::{RDKafka, RDKafkaErrorCode, RDKafkaMessage, RDKafkaQueue};
use rdkafka_sys as sys;

/// Reads records of the partitions that were forwarded to it, many at a time.
pub(super) struct BatchQueue<C: ConsumerContext + 'static> {
    /// Those of the last read, not yet destroyed.
    messages: Vec<NonNull<RDKafkaMessage>>,
    /// Where librdkafka writes them to; kept for its memory only.
    found: Vec<*mut RDKafkaMessage>,
    queue: Queue,
    /// Last, because it must be dropped last.
    consumer: Arc<BaseConsumer<C>>,
}

/// A record, or what went wrong with a partition. Valid until the next read.
#[derive(Clone, Copy)]
pub(super) struct Message<'a>(&'a RDKafkaMessage);

/// What a [`Message`] carries.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Body<'a> {
    /// A record's payload; none if it is null, which is legal (a tombstone).
    Record(Option<&'a [u8]>),
    /// The end of the partition was reached; the offset is the next that will be written.
    End,
    /// An error of this partition, with librdkafka's words.
    Error(RDKafkaErrorCode, &'a str),
}

impl<C: ConsumerContext + 'static> BatchQueue<C> {
    /// A queue of its own for `consumer`. `None` if librdkafka cannot make one.
    pub(super) fn new(consumer: Arc<BaseConsumer<C>>) -> Option<Self> {
        Some(Self {
            messages: Vec::new(),
            found: Vec::new(),
            queue: Queue::new(consumer.client().native_ptr())?,
            consumer,
        })
    }

    /// Takes partitions, from the offsets in `list` on, such that all of it comes here.
    ///
    /// Forwards before it assigns. A partition that nobody forwarded yet is forwarded to the
    /// consumer's own queue when its fetch starts, and what came before we forwarded it
    /// anew would lie there, to be thrown away by the next `BaseConsumer::poll`. Once we have
    /// forwarded it, librdkafka leaves it alone (`RD_KAFKA_Q_F_FWD_APP`).
    pub(super) fn assign(&self, list: &TopicPartitionList) -> KafkaResult<()> {
        for element in list.elements() {
            self.forward(element.topic(), element.partition());
        }
        self.consumer.incremental_assign(list)
    }

    /// Sends what is fetched from a partition to this queue, and what waits already.
    ///
    /// To be repeated after each assignment until something came: librdkafka takes the
    /// forwarding off when it stops an earlier fetch, which happens on its own thread and can
    /// come later than this. Repeating does no harm.
    pub(super) fn forward(&self, topic: &str, partition: i32) -> bool {
        let Ok(topic) = CString::new(topic) else {
            return false;
        };
        // SAFETY: the client lives as long as `self.consumer`, the name is a C string that
        // outlives the call. The result is null or a new reference that `Queue` gives back;
        // the partition keeps its own.
        let queue = unsafe {
            sys::rd_kafka_queue_get_partition(
                self.consumer.client().native_ptr(),
                topic.as_ptr(),
                partition,
            )
        };
        let Some(queue) = NonNull::new(queue).map(Queue) else {
            return false;
        };
        // SAFETY: both queues are alive; librdkafka takes a reference of its own to ours.
        unsafe { sys::rd_kafka_queue_forward(queue.0.as_ptr(), self.queue.0.as_ptr()) };
        true
    }

    /// Reads up to `limit` messages: waits for the first at most for `wait`, then takes what
    /// is there. Returns how many. Those of the read before are destroyed.
    ///
    /// Two calls, because librdkafka's waits until the batch is full or the time is over, and
    /// a record that is there must not wait for its followers.
    pub(super) fn read(&mut self, limit: usize, wait: Duration) -> usize {
        self.release();
        if self.fill(1.min(limit), wait) == 1 && limit > 1 {
            self.fill(limit - 1, Duration::ZERO);
        }
        self.messages.len()
    }

    /// The messages of the last read, in order.
    pub(super) fn messages(&self) -> impl Iterator<Item = Message<'_>> {
        self.messages
            .iter()
            // SAFETY: each is a message that librdkafka gave us and that is not destroyed
            // before `self` is borrowed mutably or dropped; nobody writes to it meanwhile.
            .map(|message| Message(unsafe { message.as_ref() }))
    }

    /// Destroys the messages of the last read.
    pub(super) fn release(&mut self) {
        for message in self.messages.drain(..) {
            // SAFETY: it came from `rd_kafka_consume_batch_queue`, was not destroyed before
            // (it leaves the vector here), and no `Message` borrows it (`&mut self`).
            unsafe { sys::rd_kafka_message_destroy(message.as_ptr()) };
        }
    }

    /// Appends up to `limit` messages, waiting until there are so many or `wait` is over.
    fn fill(&mut self, limit: usize, wait: Duration) -> usize {
        self.found.clear();
        self.found.resize(limit, ptr::null_mut());
        // SAFETY: the queue is alive, `found` has room for `limit` pointers, and librdkafka
        // writes the first `count` of them, each a message that is ours from now on.
        let count = unsafe {
            sys::rd_kafka_consume_batch_queue(
                self.queue.0.as_ptr(),
                millis(wait),
                self.found.as_mut_ptr(),
                limit,
            )
        };
        let count = usize::try_from(count).unwrap_or(0);
        let found = self.found.iter().take(count).copied();
        self.messages.extend(found.filter_map(NonNull::new));
        count
    }
}

impl<C: ConsumerContext + 'static> Drop for BatchQueue<C> {
    fn drop(&mut self) {
        self.release();
    }
}

impl<'a> Message<'a> {
    /// Tells partitions apart within one read, cheaper than the topic's name.
    pub(super) fn origin(&self) -> (usize, i32) {
        (self.0.rkt as usize, self.0.partition)
    }

    /// The topic; empty if librdkafka names none.
    pub(super) fn topic(&self) -> &'a str {
        if self.0.rkt.is_null() {
            return "";
        }
        // SAFETY: `rkt` is a topic that the message holds a reference to; its name is a C
        // string that lives as long as the topic, so at least as long as the message.
        let name = unsafe { CStr::from_ptr(sys::rd_kafka_topic_name(self.0.rkt)) };
        name.to_str().unwrap_or_default()
    }

    /// The partition.
    pub(super) fn partition(&self) -> i32 {
        self.0.partition
    }

    /// Its offset; of an error, the offset that it is about.
    pub(super) fn offset(&self) -> i64 {
        self.0.offset
    }

    /// When it was produced or appended, in milliseconds since the epoch, if it says.
    pub(super) fn timestamp(&self) -> Option<i64> {
        let mut kind = sys::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
        // SAFETY: the message is alive, `kind` is a place to write to.
        let at = unsafe { sys::rd_kafka_message_timestamp(self.0, &raw mut kind) };
        (kind != sys::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE && at >= 0)
            .then_some(at)
    }

    /// What it carries.
    pub(super) fn body(&self) -> Body<'a> {
        let bytes = NonNull::new(self.0.payload).map(|payload| {
            // SAFETY: librdkafka says `len` bytes lie at `payload`, and they live as long as
            // the message. `len` is bounded by `receive.message.max.bytes`, under `isize::MAX`.
            unsafe { std::slice::from_raw_parts(payload.as_ptr().cast::<u8>(), self.0.len) }
        });
        match RDKafkaErrorCode::from(self.0.err) {
            RDKafkaErrorCode::NoError => Body::Record(bytes),
            RDKafkaErrorCode::PartitionEOF => Body::End,
            code => Body::Error(
                code,
                bytes
                    .and_then(|text| std::str::from_utf8(text).ok())
                    .unwrap_or_default(),
            ),
        }
    }
}

/// Names the brokers to the client once more. It takes no note of those that it knows.
///
/// librdkafka forgets every broker, those of the configuration too, when one says for a moment
/// that there are none, as one does that is fenced by its controller. By itself it never connects
/// again after that (confluentinc/librdkafka#5301).
pub(super) fn name_brokers<C: ConsumerContext>(consumer: &BaseConsumer<C>, brokers: &[String]) {
    let Ok(brokers) = CString::new(brokers.join(",")) else {
        return;
    };
    // SAFETY: the consumer is borrowed, so the client lives; the text is copied.
    unsafe { sys::rd_kafka_brokers_add(consumer.client().native_ptr(), brokers.as_ptr()) };
}

/// What the cluster says about each topic: its id, in base64, or why it has none.
///
/// The id is the only thing that tells a topic from another that took its name. Waits for the
/// answer up to `wait`; `None` if none came or the cluster is too old to know ids.
pub(super) fn topic_ids<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    topics: &[String],
    wait: Duration,
) -> Option<BTreeMap<String, Result<String, RDKafkaErrorCode>>> {
    let client = consumer.client().native_ptr();
    let names: Vec<CString> = topics
        .iter()
        .filter_map(|topic| CString::new(topic.as_str()).ok())
        .collect();
    let mut pointers: Vec<*const c_char> = names.iter().map(|name| name.as_ptr()).collect();
    let queue = Queue::new(client)?;
    // SAFETY: `pointers` holds that many C strings, which are copied. `Owned` gives each value
    // back. The request takes references of its own to queue and client; its answer is read
    // below, or thrown away with the queue.
    let event = unsafe {
        let topics = Owned::new(
            sys::rd_kafka_TopicCollection_of_topic_names(pointers.as_mut_ptr(), pointers.len()),
            sys::rd_kafka_TopicCollection_destroy,
        )?;
        let options = Owned::new(
            sys::rd_kafka_AdminOptions_new(
                client,
                sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS,
            ),
            sys::rd_kafka_AdminOptions_destroy,
        )?;
        sys::rd_kafka_AdminOptions_set_request_timeout(
            options.0.as_ptr(),
            millis(wait),
            ptr::null_mut(),
            0,
        );
        sys::rd_kafka_DescribeTopics(
            client,
            topics.0.as_ptr(),
            options.0.as_ptr(),
            queue.0.as_ptr(),
        );
        Owned::new(
            sys::rd_kafka_queue_poll(queue.0.as_ptr(), millis(wait)),
            sys::rd_kafka_event_destroy,
        )?
    };
    // SAFETY: the event is alive until the end of this function, and everything that the
    // answer points to lives as long as the event. Null means an answer of another kind.
    unsafe {
        let answer = sys::rd_kafka_event_DescribeTopics_result(event.0.as_ptr());
        if answer.is_null() || sys::rd_kafka_event_error(event.0.as_ptr()) as i32 != 0 {
            return None;
        }
        let mut count = 0;
        let described = sys::rd_kafka_DescribeTopics_result_topics(answer, &raw mut count);
        if described.is_null() {
            return None;
        }
        let described = std::slice::from_raw_parts(described, count);
        Some(described.iter().map(|topic| read_topic(*topic)).collect())
    }
}

/// The name and the id of one topic in an answer.
///
/// # Safety
///
/// `topic` points into an answer that is alive.
unsafe fn read_topic(
    topic: *const sys::rd_kafka_TopicDescription_t,
) -> (String, Result<String, RDKafkaErrorCode>) {
    // SAFETY: by the caller's word `topic` is alive, and so is all that it points to. An
    // error may be null (none); name and id are not.
    unsafe {
        let name = CStr::from_ptr(sys::rd_kafka_TopicDescription_name(topic))
            .to_string_lossy()
            .into_owned();
        let error = sys::rd_kafka_TopicDescription_error(topic);
        let code = RDKafkaErrorCode::from(sys::rd_kafka_error_code(error));
        if code != RDKafkaErrorCode::NoError {
            return (name, Err(code));
        }
        let id = sys::rd_kafka_Uuid_base64str(sys::rd_kafka_TopicDescription_topic_id(topic));
        if id.is_null() {
            return (name, Err(RDKafkaErrorCode::UnknownTopicId));
        }
        (name, Ok(CStr::from_ptr(id).to_string_lossy().into_owned()))
    }
}

/// A queue of librdkafka.
struct Queue(NonNull<RDKafkaQueue>);

impl Queue {
    fn new(client: *mut RDKafka) -> Option<Self> {
        // SAFETY: the caller holds the client. The result is null or ours.
        NonNull::new(unsafe { sys::rd_kafka_queue_new(client) }).map(Self)
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        // SAFETY: it came from librdkafka, is given back once, and its client is still alive.
        unsafe { sys::rd_kafka_queue_destroy(self.0.as_ptr()) };
    }
}

/// Something of librdkafka's, and the function that takes it back.
struct Owned<T>(NonNull<T>, unsafe extern "C" fn(*mut T));

impl<T> Owned<T> {
    fn new(pointer: *mut T, destroy: unsafe extern "C" fn(*mut T)) -> Option<Self> {
        NonNull::new(pointer).map(|pointer| Self(pointer, destroy))
    }
}

impl<T> Drop for Owned<T> {
    fn drop(&mut self) {
        // SAFETY: `destroy` is the function that librdkafka names for what made the pointer,
        // and it is called once.
        unsafe { (self.1)(self.0.as_ptr()) };
    }
}

/// Milliseconds as librdkafka takes them. Never negative: that would mean for ever.
fn millis(wait: Duration) -> c_int {
    c_int::try_from(wait.as_millis()).unwrap_or(c_int::MAX)
}

#[cfg(test)]
#[path = "batch/tests.rs"]
mod tests;
