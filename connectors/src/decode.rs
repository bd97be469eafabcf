//! Bytes to records, told apart record by record: Rhizome's own JSON, collectd's
//! `write_kafka` JSON, Telegraf's JSON and Telegraf's line protocol.
//!
//! Everything here treats its input as hostile: it never panics, bounds what it reads, and
//! turns nothing into zero. What is missing stays missing; what cannot be right (a ratio of
//! 82, a name with an escape sequence) is put aside with a [`BadReason`]. A bad value costs
//! that value and not the heartbeat that it came with; a bad value list in an array costs
//! itself and not its neighbours. Unknown keys are ignored, so that agents may be newer than
//! Rhizome. `labels` is read over: which pool a node is of, the cloud and the cluster say.
//!
//! Nothing is allocated for a good record: text goes into the batch, whose memory is reused.
//! The batch goes on through [`crate::delivery`] to the engine.

mod bad;
mod collectd;
mod fast;
mod json;
mod leaf;
mod line;
mod own;
mod scratch;
mod sink;
mod telegraf;
mod time;

use rhizome_engine::event::Batch;

pub use bad::{BadReason, BadRecord, Scope};

use bad::BadList;
use json::Scratch;
use sink::Sink;

/// Bytes of one record or body that are looked at, unless the options say otherwise: Kafka's
/// own default bound for a record. An agent's record is 200 bytes to 20 kB.
pub const MAX_BYTES: usize = 1 << 20;

/// Bytes of a node's name: a DNS name has at most 253.
pub const MAX_NODE_NAME: usize = 253;

/// Bytes of a metric's name, instance and field included.
pub const MAX_METRIC_NAME: usize = 256;

/// Samples of one record. A large host with every Telegraf input sends some 100 a record;
/// more than this is no agent, and each could become a window.
pub const MAX_SAMPLES: usize = 1_024;

/// How deep records may be nested in arrays: a line, an array in it, a batch in that.
pub const MAX_DEPTH: usize = 3;

/// What decoding needs to be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DecodeOptions {
    /// The Telegraf tag that names the node. `host` unless the agents set another.
    pub node_tag: String,
    /// Whether collectd's cpu plugin sends raw counters (`StoreRates false`).
    ///
    /// A small whole number can be either. Without this option what cannot be a rate (more
    /// jiffies than a second has) is taken for a counter and all else for a rate.
    pub collectd_counters: bool,
    /// Bytes of one input that are looked at; more is refused whole.
    pub max_bytes: usize,
}

impl Default for DecodeOptions {
    fn default() -> Self {
        Self {
            node_tag: "host".to_owned(),
            collectd_counters: false,
            max_bytes: MAX_BYTES,
        }
    }
}

/// Decodes inputs one after the other, reusing its memory.
#[derive(Debug, Default)]
pub struct Decoder {
    options: DecodeOptions,
    scratch: Scratch,
    bad: BadList,
}

impl Decoder {
    /// A decoder with these options.
    pub fn new(options: DecodeOptions) -> Self {
        Self {
            options,
            ..Self::default()
        }
    }

    /// Adds the records in `bytes` to `batch` and says how many there were.
    ///
    /// What was wrong with the input is then in [`Decoder::bad`], until the next call.
    pub fn decode(&mut self, bytes: &[u8], batch: &mut Batch) -> usize {
        self.bad.clear();
        let mut sink = Sink::new(batch, &mut self.bad);
        if bytes.len() > self.options.max_bytes {
            sink.refuse(BadReason::TooLarge, || {
                format!(
                    "{} bytes are more than {}",
                    bytes.len(),
                    self.options.max_bytes
                )
            });
            return 0;
        }
        let Ok(text) = simdutf8::basic::from_utf8(bytes) else {
            sink.refuse(BadReason::NotUtf8, || {
                "only JSON and line protocol are read, both UTF-8".to_owned()
            });
            return 0;
        };
        let text = text.trim_start_matches('\u{feff}').trim();
        match text.bytes().next() {
            None => sink.refuse(BadReason::Empty, || "nothing but white space".to_owned()),
            // Most are whole and usual, and read in one quick pass.
            Some(b'{') if fast::read(text, &mut self.scratch, &mut sink) => {}
            Some(b'{' | b'[') => json::decode(text, &self.options, &mut self.scratch, &mut sink),
            Some(_) => line::decode(text, &self.options, &mut self.scratch, &mut sink),
        }
        sink.records()
    }

    /// What was wrong with the input decoded last: at most [`BadRecord::MAX_KEPT`] of it.
    pub fn bad(&self) -> &[BadRecord] {
        self.bad.kept()
    }

    /// How much was wrong with the input decoded last, what was not kept included.
    pub fn bad_total(&self) -> usize {
        self.bad.total()
    }

    /// The same by reason.
    pub fn bad_by_reason(&self) -> impl Iterator<Item = (BadReason, usize)> + '_ {
        self.bad.by_reason()
    }
}

/// Decodes one input, for a caller that has no [`Decoder`] to reuse.
///
/// # Errors
///
/// Returns the first complaint if not one record could be read. A partly bad input counts as
/// read: use a [`Decoder`] to see what was wrong with the rest.
pub fn decode(
    bytes: &[u8],
    options: &DecodeOptions,
    batch: &mut Batch,
) -> Result<usize, BadRecord> {
    let mut decoder = Decoder::new(options.clone());
    match (decoder.decode(bytes, batch), decoder.bad().first()) {
        (0, Some(bad)) => Err(bad.clone()),
        (records, _) => Ok(records),
    }
}

#[cfg(test)]
mod tests;
