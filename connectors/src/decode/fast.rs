//! Rhizome's own record as agents write it, read in one pass over its bytes.
//!
//! Almost every record is one flat object of known keys, plain names and short numbers. That
//! much is read here, in a third of the time of `json.rs`; whatever is unusual (an escape, an
//! exponent, `null`, another key, a key that stands twice, broken syntax) is left to it,
//! with nothing taken. So this file may only ever give up or come to the same: the tests hold
//! one against the other.

use super::own;
use super::scratch::{Number, Scratch};
use super::sink::Sink;
use super::time::Time;

/// Digits of a number that is read here, as many as nanoseconds since 1970 have: any such
/// number fits 64 bits without a sign.
const MAX_DIGITS: usize = 19;

/// Whole numbers up to here are exact as floating point, and so is ten to the power of 22:
/// dividing one by the other rounds once, which is what any correct reader comes to.
const MAX_EXACT: u64 = 1 << 53;

/// The exact powers of ten.
const POWERS: [f64; MAX_DIGITS] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16,
    1e17, 1e18,
];

/// Reads a record. False if it is not one that is read here; then nothing was taken.
pub(crate) fn read(text: &str, scratch: &mut Scratch, sink: &mut Sink<'_>) -> bool {
    scratch.clear();
    let Some(record) = record(&mut Cursor { text, at: 0 }, scratch) else {
        return false;
    };
    own::take(
        record.node,
        record.time.unwrap_or_default(),
        record.cpu.unwrap_or_default(),
        record.memory.unwrap_or_default(),
        scratch,
        sink,
    );
    scratch.refuse_overflow(sink);
    true
}

#[derive(Default)]
struct Record<'t> {
    node: Option<&'t str>,
    time: Option<Time>,
    cpu: Option<Number>,
    memory: Option<Number>,
    metrics: bool,
    labels: bool,
}

fn record<'t>(cursor: &mut Cursor<'t>, scratch: &mut Scratch) -> Option<Record<'t>> {
    let mut record = Record::default();
    object(cursor, |cursor, key| {
        let twice = match key {
            "node" => record.node.replace(cursor.text()?).is_some(),
            "time" => record.time.replace(time(cursor)?).is_some(),
            "cpu" => record.cpu.replace(cursor.number()?.into()).is_some(),
            "memory" => record.memory.replace(cursor.number()?.into()).is_some(),
            "metrics" => {
                object(cursor, |cursor, name| {
                    scratch.push_field(name, cursor.number()?.into());
                    Some(())
                })?;
                std::mem::replace(&mut record.metrics, true)
            }
            "labels" => {
                object(cursor, |cursor, _| cursor.text().map(|_| ()))?;
                std::mem::replace(&mut record.labels, true)
            }
            _ => return None,
        };
        (!twice).then_some(())
    })?;
    let whole = cursor.at == cursor.text.len() && record.node.is_some() && record.time.is_some();
    whole.then_some(record)
}

/// Reads `{"key": value, ...}`; `value` reads what stands after each key.
fn object<'t>(
    cursor: &mut Cursor<'t>,
    mut value: impl FnMut(&mut Cursor<'t>, &'t str) -> Option<()>,
) -> Option<()> {
    cursor.take(b'{')?;
    cursor.space();
    if cursor.take(b'}').is_some() {
        return Some(());
    }
    loop {
        let key = cursor.text()?;
        cursor.space();
        cursor.take(b':')?;
        cursor.space();
        value(cursor, key)?;
        cursor.space();
        if cursor.take(b',').is_none() {
            return cursor.take(b'}');
        }
        cursor.space();
    }
}

fn time(cursor: &mut Cursor<'_>) -> Option<Time> {
    if cursor.peek() == Some(b'"') {
        return cursor.text().map(Time::from_text);
    }
    let number = cursor.number()?;
    Some(match number.whole() {
        Some(whole) => Time::from_integer(whole),
        None => Time::from_number(number.value()),
    })
}

/// A number as it is written: `digits`, of which the last `fraction` stand behind the point.
struct Decimal {
    negative: bool,
    digits: u64,
    fraction: Option<usize>,
}

impl Decimal {
    fn whole(&self) -> Option<i64> {
        let digits = i64::try_from(self.digits).ok()?;
        (self.fraction.is_none()).then_some(if self.negative { -digits } else { digits })
    }

    fn value(&self) -> f64 {
        let power = self.fraction.and_then(|fraction| POWERS.get(fraction));
        let value = self.digits as f64 / power.copied().unwrap_or(1.0);
        if self.negative { -value } else { value }
    }
}

impl From<Decimal> for Number {
    fn from(number: Decimal) -> Self {
        Self::Value {
            value: number.value(),
            whole: number.fraction.is_none(),
        }
    }
}

/// A place in a text. It only ever stands between two characters: all that is passed over
/// byte by byte is ASCII.
struct Cursor<'t> {
    text: &'t str,
    at: usize,
}

impl<'t> Cursor<'t> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn take(&mut self, byte: u8) -> Option<()> {
        (self.peek() == Some(byte)).then(|| self.at += 1)
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
    }

    /// A text without an escape in it.
    fn text(&mut self) -> Option<&'t str> {
        self.take(b'"')?;
        let rest = self.text.get(self.at..)?;
        let ends = |byte: &u8| *byte == b'"' || *byte == b'\\' || *byte < b' ';
        let length = rest.as_bytes().iter().position(ends)?;
        self.at += length;
        self.take(b'"')?;
        rest.get(..length)
    }

    /// A number without an exponent that is exact as floating point, or whole.
    fn number(&mut self) -> Option<Decimal> {
        let negative = self.take(b'-').is_some();
        let begin = self.at;
        let mut digits = self.digits(0);
        let before = self.at - begin;
        let leading_zero = before > 1 && self.text.as_bytes().get(begin) == Some(&b'0');
        if before == 0 || before > MAX_DIGITS || leading_zero || i64::try_from(digits).is_err() {
            return None;
        }
        let mut fraction = None;
        if self.take(b'.').is_some() {
            let point = self.at;
            digits = self.digits(digits);
            let behind = self.at - point;
            if behind == 0 || before + behind > MAX_DIGITS || digits > MAX_EXACT {
                return None;
            }
            fraction = Some(behind);
        }
        // What is left: an exponent, a sign of its own for zero, or no number at all.
        let ended = matches!(
            self.peek(),
            Some(b',' | b'}' | b' ' | b'\t' | b'\r' | b'\n')
        );
        (ended && !(negative && digits == 0)).then_some(Decimal {
            negative,
            digits,
            fraction,
        })
    }

    /// Reads digits on; what they come to is of use only if they were few enough.
    fn digits(&mut self, mut sum: u64) -> u64 {
        while let Some(digit) = self.peek().filter(u8::is_ascii_digit) {
            sum = sum.wrapping_mul(10).wrapping_add(u64::from(digit - b'0'));
            self.at += 1;
        }
        sum
    }
}

#[cfg(test)]
#[path = "fast/tests.rs"]
mod tests;
