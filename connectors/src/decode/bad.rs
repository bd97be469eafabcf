//! What can be wrong with an input: a closed set, so that it can be a metric's label.

use std::fmt;

/// Why a record, or a value of one, was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BadReason {
    /// Nothing in it.
    Empty,
    /// More bytes than are looked at.
    TooLarge,
    /// Records nested deeper than any agent does.
    TooDeep,
    /// Not UTF-8.
    NotUtf8,
    /// Neither JSON nor line protocol, or cut off.
    Syntax,
    /// Well formed, but of no format that is read here.
    UnknownFormat,
    /// A value of another type than its key has.
    WrongType,
    /// No node is named.
    NoNode,
    /// The name of the node is too long or has characters that no host name has.
    BadNode,
    /// No event time.
    NoTime,
    /// An event time that cannot be read, or before 1970 or after 2200.
    BadTime,
    /// The name of a metric is empty, too long or has control characters.
    BadMetric,
    /// A value that cannot be: a ratio above 1, a percentage below 0, not a finite number.
    OutOfRange,
    /// More samples in a record than are taken.
    TooManySamples,
    /// A batch of records that the transport cannot unpack: damaged, or far too large.
    Unpackable,
}

impl BadReason {
    /// Every reason there is, in the order of the enum.
    pub const ALL: [BadReason; 15] = [
        Self::Empty,
        Self::TooLarge,
        Self::TooDeep,
        Self::NotUtf8,
        Self::Syntax,
        Self::UnknownFormat,
        Self::WrongType,
        Self::NoNode,
        Self::BadNode,
        Self::NoTime,
        Self::BadTime,
        Self::BadMetric,
        Self::OutOfRange,
        Self::TooManySamples,
        Self::Unpackable,
    ];

    /// As it is written in metrics, dead letters and answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::TooLarge => "too_large",
            Self::TooDeep => "too_deep",
            Self::NotUtf8 => "not_utf8",
            Self::Syntax => "syntax",
            Self::UnknownFormat => "unknown_format",
            Self::WrongType => "wrong_type",
            Self::NoNode => "no_node",
            Self::BadNode => "bad_node",
            Self::NoTime => "no_time",
            Self::BadTime => "bad_time",
            Self::BadMetric => "bad_metric",
            Self::OutOfRange => "out_of_range",
            Self::TooManySamples => "too_many_samples",
            Self::Unpackable => "unpackable",
        }
    }
}

impl fmt::Display for BadReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How much of a record was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// All of it, its heartbeat too.
    Record,
    /// One value; the record counts as a heartbeat and with its other values.
    Value,
}

/// One complaint about an input.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}: {detail}")]
pub struct BadRecord {
    /// Which record of the input, from 0: place in the array, or line.
    pub index: usize,
    /// Why.
    pub reason: BadReason,
    /// How much was lost.
    pub scope: Scope,
    /// What exactly, for a person to read; text of the input in it is escaped and cut.
    pub detail: String,
}

impl BadRecord {
    /// Complaints about one input that are kept with their detail. More are counted by reason
    /// only: a body of a million bad lines must not become a million strings.
    pub const MAX_KEPT: usize = 100;
}

/// Text of an input made safe for logs and files: control characters escaped, and cut short.
pub(crate) fn shown(text: &str) -> String {
    const MAX_SHOWN: usize = 60;
    let mut shown: String = text
        .chars()
        .take(MAX_SHOWN)
        .flat_map(|c| c.escape_debug())
        .collect();
    if text.chars().nth(MAX_SHOWN).is_some() {
        shown.push('…');
    }
    shown
}

/// The complaints about one input.
#[derive(Debug, Default)]
pub(crate) struct BadList {
    kept: Vec<BadRecord>,
    /// All of them, in the order of [`BadReason::ALL`].
    by_reason: [usize; BadReason::ALL.len()],
}

impl BadList {
    pub(crate) fn clear(&mut self) {
        self.kept.clear();
        self.by_reason.fill(0);
    }

    pub(crate) fn kept(&self) -> &[BadRecord] {
        &self.kept
    }

    pub(crate) fn total(&self) -> usize {
        self.by_reason.iter().sum()
    }

    pub(crate) fn by_reason(&self) -> impl Iterator<Item = (BadReason, usize)> + '_ {
        BadReason::ALL.into_iter().zip(self.by_reason)
    }

    pub(crate) fn push(
        &mut self,
        index: usize,
        scope: Scope,
        reason: BadReason,
        detail: impl FnOnce() -> String,
    ) {
        if let Some(count) = self.by_reason.get_mut(reason as usize) {
            *count += 1;
        }
        if self.kept.len() < BadRecord::MAX_KEPT {
            self.kept.push(BadRecord {
                index,
                reason,
                scope,
                detail: detail(),
            });
        }
    }
}
