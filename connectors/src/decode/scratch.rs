//! What a decoder keeps of a record until all of it is read, in memory that is reused.
//!
//! A record's keys come in any order, and the batch wants the node first.

use super::bad::BadReason;
use super::sink::Sink;

/// Fields, values and tags of one record that are kept; far more than a record may have.
const MAX_KEPT: usize = 4 * super::MAX_SAMPLES;

/// A number of a record, as it was written.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) enum Number {
    /// `null`, or not there.
    #[default]
    Missing,
    /// A number, and whether it was written without a fraction.
    Value {
        /// The number.
        value: f64,
        /// Whether it was written as a whole number.
        whole: bool,
    },
    /// Something else.
    Wrong,
}

#[derive(Debug, Clone, Copy)]
struct Span {
    start: usize,
    end: usize,
}

/// See the head of the file.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    text: String,
    fields: Vec<(Span, Number)>,
    tags: Vec<(Span, Span)>,
    /// The values of a collectd value list.
    pub(crate) values: Vec<Number>,
    /// Their names.
    names: Vec<Span>,
    /// A name being put together.
    built: String,
}

impl Scratch {
    pub(crate) fn clear(&mut self) {
        self.text.clear();
        self.fields.clear();
        self.tags.clear();
        self.values.clear();
        self.names.clear();
    }

    fn keep(&mut self, text: &str) -> Span {
        let start = self.text.len();
        self.text.push_str(text);
        Span {
            start,
            end: self.text.len(),
        }
    }

    fn text(&self, span: Span) -> &str {
        self.text.get(span.start..span.end).unwrap_or_default()
    }

    pub(crate) fn push_field(&mut self, name: &str, number: Number) {
        if self.fields.len() < MAX_KEPT {
            let name = self.keep(name);
            self.fields.push((name, number));
        }
    }

    pub(crate) fn push_tag(&mut self, key: &str, value: &str) {
        if self.tags.len() < MAX_KEPT {
            let pair = (self.keep(key), self.keep(value));
            self.tags.push(pair);
        }
    }

    pub(crate) fn push_value(&mut self, number: Number) {
        if self.values.len() < MAX_KEPT {
            self.values.push(number);
        }
    }

    pub(crate) fn push_value_name(&mut self, name: &str) {
        if self.names.len() < MAX_KEPT {
            let name = self.keep(name);
            self.names.push(name);
        }
    }

    /// The fields in the order they came.
    pub(crate) fn fields(&self) -> impl Iterator<Item = (&str, Number)> {
        self.fields
            .iter()
            .map(|(name, number)| (self.text(*name), *number))
    }

    /// How many fields there are.
    pub(crate) fn len(&self) -> usize {
        self.fields.len()
    }

    /// The field at a place.
    pub(crate) fn number(&self, place: usize) -> Number {
        self.fields
            .get(place)
            .map_or(Number::Missing, |(_, number)| *number)
    }

    /// The number in a field, if it is one.
    pub(crate) fn field(&self, name: &str) -> Option<f64> {
        self.fields().find_map(|(field, number)| match number {
            Number::Value { value, .. } if field == name => Some(value),
            _ => None,
        })
    }

    /// The value of a tag, if it has one.
    pub(crate) fn tag(&self, key: &str) -> Option<&str> {
        self.tags
            .iter()
            .find(|(tag, _)| self.text(*tag) == key)
            .map(|(_, value)| self.text(*value))
            .filter(|value| !value.is_empty())
    }

    /// The name put together last.
    pub(crate) fn built(&self) -> &str {
        &self.built
    }

    /// `plugin.instance.type.state.value`, without what is empty or says the same twice.
    pub(crate) fn build_value_name(&mut self, parts: &[&str], place: usize) {
        self.built.clear();
        let name = self.names.get(place).map_or("value", |span| {
            self.text.get(span.start..span.end).unwrap_or_default()
        });
        let own = (name != "value").then_some(name);
        let mut last = "";
        for part in parts.iter().copied().chain(own) {
            if part.is_empty() || part == last {
                continue;
            }
            if !self.built.is_empty() {
                self.built.push('.');
            }
            self.built.push_str(part);
            last = part;
        }
    }

    /// `core/state`.
    pub(crate) fn build_part(&mut self, core: &str, state: &str) {
        self.built.clear();
        self.built.push_str(core);
        self.built.push('/');
        self.built.push_str(state);
    }

    /// `measurement.field`, or `measurement.row.field` by the tag that names the row.
    pub(crate) fn build_field_name(&mut self, measurement: &str, row: Option<&str>, place: usize) {
        let Some((field, _)) = self.fields.get(place).copied() else {
            return;
        };
        let row = row.and_then(|key| {
            let found = self.tags.iter().find(|(tag, _)| self.text(*tag) == key);
            found.map(|(_, value)| *value)
        });
        self.built.clear();
        self.built.push_str(measurement);
        for part in row.into_iter().chain([field]) {
            self.built.push('.');
            let text = self.text.get(part.start..part.end).unwrap_or_default();
            self.built.push_str(text);
        }
    }

    /// Says so if a record had more than is kept.
    pub(crate) fn refuse_overflow(&self, sink: &mut Sink<'_>) {
        if self
            .fields
            .len()
            .max(self.values.len())
            .max(self.tags.len())
            == MAX_KEPT
        {
            sink.refuse_value(BadReason::TooManySamples, || {
                format!("only the first {MAX_KEPT} fields of a record are looked at")
            });
        }
    }
}
