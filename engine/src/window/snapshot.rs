//! Windows as bytes and back, so that a restart need not read 15 minutes of input again.
//!
//! The bytes are versioned; a checksum is the caller's, who also keeps the input's positions
//! beside them. All numbers are little-endian:
//!
//! ```text
//! version u32
//! metrics u16, each: name, tick in ms u32, ticks that share a sample u32
//! nodes   u32, each: name, last heard i64 (ms, or i64::MIN + 1),
//!                    pace: told u16, gaps u16 twice (10 ms), told at u16 (s),
//!                    and for each metric: samples u16; if there are any
//!                    kind u8 (0: ten-millionths i32, 1: f64), interval u16 (10 ms),
//!                    newest tick i64, times u16 each, values each
//! name    length u16, UTF-8
//! ```

use std::time::Duration;

use super::pace::Pace;
use super::series::View;
use super::stat::Column;
use super::{MetricSlot, NEVER, NodeSlot, WindowPlan, Windows};

/// Raised whenever the layout above changes.
const VERSION: u32 = 2;

/// Why bytes are not a snapshot. The windows are then to be refilled from the input.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotError {
    /// Another release wrote it.
    #[error("snapshot of version {0} instead of {VERSION}: refill the windows from the input")]
    Version(u32),
    /// It ends early, or what it says cannot be.
    #[error("snapshot is damaged at byte {0}: refill the windows from the input")]
    Damaged(usize),
}

impl Windows {
    /// All windows as bytes. Nodes without a name are left out.
    pub fn snapshot<'a>(&self, name_of: impl Fn(NodeSlot) -> Option<&'a str>) -> Vec<u8> {
        let nodes = (0..).map(NodeSlot).take(self.heard.len());
        let named = || {
            nodes
                .clone()
                .filter_map(|slot| Some((slot, name_of(slot)?)))
        };
        let mut out = Vec::with_capacity(self.bytes());
        out.extend(VERSION.to_le_bytes());
        let mut metrics: Vec<_> = self.slots.iter().collect();
        metrics.sort_unstable_by_key(|(_, slot)| **slot);
        out.extend(short(metrics.len()).to_le_bytes());
        for (name, slot) in metrics {
            put_name(&mut out, name);
            if let Some(metric) = self.metrics.get(usize::from(slot.0)) {
                out.extend((metric.spec.tick as u32).to_le_bytes());
                out.extend((metric.spec.crowd as u32).to_le_bytes());
            }
        }
        out.extend((named().count() as u32).to_le_bytes());
        for (slot, name) in named() {
            let node = slot.0 as usize;
            put_name(&mut out, name);
            let heard = self.heard.get(node).copied().unwrap_or(NEVER);
            out.extend(heard.max(NEVER).to_le_bytes());
            put_pace(&mut out, self.paces.get(node).copied().unwrap_or_default());
            for metric in &self.metrics {
                if let Some(view) = metric.view(node) {
                    put_series(&mut out, &view);
                }
            }
        }
        out
    }

    /// Windows for `plan` from a snapshot, and the names of their nodes by slot. The plan need
    /// not be the one that the snapshot was made under.
    ///
    /// # Errors
    ///
    /// Returns [`SnapshotError`] if the bytes are not such a snapshot as a whole.
    pub fn restore(
        plan: &WindowPlan,
        lateness: Duration,
        bytes: &[u8],
    ) -> Result<(Self, Vec<String>), SnapshotError> {
        let mut windows = Self::new(plan, lateness);
        let mut reader = Reader::new(bytes);
        let version = u32::from_le_bytes(reader.take()?);
        if version != VERSION {
            return Err(SnapshotError::Version(version));
        }
        let mut origins = Vec::new();
        for _ in 0..u16::from_le_bytes(reader.take()?) {
            origins.push(Origin {
                slot: windows.metric_slot(reader.name()?),
                tick: reader.length()?,
                crowd: reader.length()?,
            });
        }
        let count = u32::from_le_bytes(reader.take()?) as usize;
        // The count is not believed further than the bytes reach.
        let mut names = Vec::with_capacity(count.min(bytes.len() / SMALLEST_NODE));
        let mut columns = Columns::default();
        for _ in 0..count {
            names.push(reader.name()?.to_owned());
            let slot = windows.add_node();
            if let Some(heard) = windows.heard.get_mut(slot.0 as usize) {
                *heard = i64::from_le_bytes(reader.take()?).max(NEVER);
            }
            if let Some(pace) = windows.paces.get_mut(slot.0 as usize) {
                *pace = reader.pace()?;
            }
            for origin in &origins {
                let Some(view) = columns.read(&mut reader)? else {
                    continue;
                };
                let metric = origin
                    .slot
                    .and_then(|slot| windows.metrics.get_mut(usize::from(slot.0)));
                if let Some(metric) = metric {
                    metric.replay(slot.0 as usize, &view, origin.tick, origin.crowd);
                }
            }
        }
        if !reader.is_at_end() {
            return Err(reader.damaged());
        }
        Ok((windows, names))
    }
}

/// Bytes of a node without a name in a snapshot without metrics.
const SMALLEST_NODE: usize = 18;

/// Ticks beyond this are no times: with ticks of 20 ms it is 5.7 million years.
const FAR: i64 = 1 << 53;

/// A metric as the snapshot has it.
struct Origin {
    slot: Option<MetricSlot>,
    tick: i64,
    crowd: i64,
}

/// Room to read one series into, used again for the next.
#[derive(Default)]
struct Columns {
    times: Vec<u16>,
    fixed: Vec<i32>,
    wide: Vec<f64>,
}

impl Columns {
    fn read(&mut self, reader: &mut Reader<'_>) -> Result<Option<View<'_>>, SnapshotError> {
        let begin = reader.at;
        let len = usize::from(u16::from_le_bytes(reader.take()?));
        if len == 0 {
            return Ok(None);
        }
        let [kind] = reader.take()?;
        let interval = u16::from_le_bytes(reader.take()?);
        let newest = i64::from_le_bytes(reader.take()?);
        reader.column(&mut self.times, len, u16::from_le_bytes)?;
        match kind {
            0 => reader.column(&mut self.fixed, len, i32::from_le_bytes)?,
            1 => reader.column(&mut self.wide, len, f64::from_le_bytes)?,
            _ => return Err(SnapshotError::Damaged(begin)),
        }
        let gaps = self.times.iter().zip(self.times.iter().skip(1));
        let (span, stands) = gaps.fold((0_u32, false), |(span, stands), (one, next)| {
            let gap = next.wrapping_sub(*one);
            (span.saturating_add(u32::from(gap)), stands | (gap == 0))
        });
        let ends_at_newest = self.times.last() == Some(&(newest as u16));
        let finite = kind == 0 || self.wide.iter().all(|value| value.is_finite());
        let sorted = !stands && span <= u32::from(u16::MAX) && ends_at_newest;
        if !sorted || !finite || newest.abs() > FAR {
            return Err(SnapshotError::Damaged(begin));
        }
        Ok(Some(View {
            newest,
            interval,
            calm: 0,
            times: &self.times,
            values: match kind {
                0 => Column::Fixed(&self.fixed),
                _ => Column::Wide(&self.wide),
            },
        }))
    }
}

/// Reads numbers one after the other.
pub(crate) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    pub(crate) fn is_at_end(&self) -> bool {
        self.at == self.bytes.len()
    }

    /// That what was read last cannot be.
    pub(crate) fn damaged(&self) -> SnapshotError {
        SnapshotError::Damaged(self.at)
    }

    fn slice(&mut self, len: usize) -> Result<&'a [u8], SnapshotError> {
        let slice = self.bytes.get(self.at..self.at.saturating_add(len));
        self.at += slice.map_or(0, <[u8]>::len);
        slice.ok_or(SnapshotError::Damaged(self.at))
    }

    pub(crate) fn take<const N: usize>(&mut self) -> Result<[u8; N], SnapshotError> {
        let slice = self.slice(N)?;
        slice
            .try_into()
            .map_err(|_| SnapshotError::Damaged(self.at))
    }

    fn name(&mut self) -> Result<&'a str, SnapshotError> {
        let len = u16::from_le_bytes(self.take()?);
        let name = self.slice(usize::from(len))?;
        std::str::from_utf8(name).map_err(|_| SnapshotError::Damaged(self.at))
    }

    /// A length in milliseconds or ticks, which is at least 1.
    fn length(&mut self) -> Result<i64, SnapshotError> {
        match u32::from_le_bytes(self.take()?) {
            0 => Err(SnapshotError::Damaged(self.at)),
            length => Ok(i64::from(length)),
        }
    }

    fn pace(&mut self) -> Result<Pace, SnapshotError> {
        Ok(Pace {
            told: u16::from_le_bytes(self.take()?),
            gaps: [
                u16::from_le_bytes(self.take()?),
                u16::from_le_bytes(self.take()?),
            ],
            at: u16::from_le_bytes(self.take()?),
        })
    }

    fn column<T, const N: usize>(
        &mut self,
        column: &mut Vec<T>,
        len: usize,
        read: impl Fn([u8; N]) -> T,
    ) -> Result<(), SnapshotError> {
        let slice = self.slice(len * N)?;
        column.clear();
        let (numbers, _) = slice.as_chunks::<N>();
        column.extend(numbers.iter().map(|number| read(*number)));
        Ok(())
    }
}

fn put_pace(out: &mut Vec<u8>, pace: Pace) {
    let [newer, older] = pace.gaps;
    for number in [pace.told, newer, older, pace.at] {
        out.extend(number.to_le_bytes());
    }
}

fn put_series(out: &mut Vec<u8>, view: &View<'_>) {
    out.extend(short(view.times.len()).to_le_bytes());
    if view.times.is_empty() {
        return;
    }
    out.push(match view.values {
        Column::Fixed(_) => 0,
        Column::Wide(_) => 1,
    });
    out.extend(view.interval.to_le_bytes());
    out.extend(view.newest.to_le_bytes());
    out.extend(view.times.iter().flat_map(|time| time.to_le_bytes()));
    match view.values {
        Column::Fixed(values) => out.extend(values.iter().flat_map(|v| v.to_le_bytes())),
        Column::Wide(values) => out.extend(values.iter().flat_map(|v| v.to_le_bytes())),
    }
}

/// Names have at most 253 bytes in Kubernetes and are bounded by `names.rs`; what is longer is
/// cut, and then is another node's.
fn put_name(out: &mut Vec<u8>, name: &str) {
    let len = short(name.len());
    out.extend(len.to_le_bytes());
    out.extend(name.as_bytes().iter().take(usize::from(len)));
}

fn short(len: usize) -> u16 {
    u16::try_from(len).unwrap_or(u16::MAX)
}
