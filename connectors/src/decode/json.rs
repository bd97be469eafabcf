//! One pass over JSON of any of the formats.
//!
//! Agents write their keys in any order, so the format of an object is known only at its end:
//! one visitor takes the keys of all the formats and what it has got then says which it was.
//! A value of a wrong type is noted where it stands and read over; only broken syntax ends
//! the pass, and what was whole before it stays.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::error::Category;

use super::bad::BadReason;
use super::leaf::{Fields, Metrics, Names, Tags, Values, text};
use super::sink::Sink;
use super::time::Time;
use super::{DecodeOptions, MAX_DEPTH, collectd, own, telegraf};

pub(crate) use super::scratch::{Number, Scratch};

/// Reads one value, or one a line (NDJSON).
pub(crate) fn decode(
    text: &str,
    options: &DecodeOptions,
    scratch: &mut Scratch,
    sink: &mut Sink<'_>,
) {
    let mut reader = Reader {
        options,
        scratch,
        sink,
    };
    if is_one_a_line(text) {
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if !line.is_empty() {
                reader.sink.at(index);
                reader.value(line);
            }
        }
    } else {
        reader.value(text);
    }
}

/// Whether the first line is a whole value and more lines follow. One value over many lines
/// opens with a line that is not.
fn is_one_a_line(text: &str) -> bool {
    text.split_once('\n').is_some_and(|(first, _)| {
        !matches!(
            serde_json::from_str::<IgnoredAny>(first).map_err(|error| error.classify()),
            Err(Category::Eof)
        )
    })
}

/// What the reading of one input needs all the way down.
pub(crate) struct Reader<'r, 's> {
    options: &'r DecodeOptions,
    pub(crate) scratch: &'r mut Scratch,
    pub(crate) sink: &'r mut Sink<'s>,
}

impl Reader<'_, '_> {
    fn value(&mut self, text: &str) {
        let mut json = serde_json::Deserializer::from_str(text);
        let read = Records {
            reader: self,
            depth: 0,
        }
        .deserialize(&mut json)
        .and_then(|()| json.end());
        if let Err(error) = read {
            self.sink
                .refuse(BadReason::Syntax, || format!("broken JSON: {error}"));
        }
    }

    /// What an object was, now that all of it is read.
    fn finish(&mut self, object: &Object<'_>) {
        if object.twice {
            self.sink.refuse(BadReason::Syntax, || {
                "a key stands twice in the record".to_owned()
            });
        } else if object.wrong {
            self.sink.refuse(BadReason::WrongType, || {
                "a name in the record is not a text".to_owned()
            });
        } else if object.plugin.is_some() || object.has(Key::Values) {
            collectd::finish(object, self.options, self.scratch, self.sink);
        } else if object.has(Key::Fields) || object.has(Key::Name) {
            match &object.name {
                Some(name) => {
                    telegraf::finish(name, object.time, self.options, self.scratch, self.sink);
                }
                None => telegraf::refuse_nameless(self.sink),
            }
        } else if object.has(Key::Node) || (object.has(Key::Time) && !object.envelope) {
            own::finish(object, self.scratch, self.sink);
        } else if !object.envelope {
            self.sink.refuse(BadReason::UnknownFormat, || {
                format!(
                    "{}; Rhizome's own record has `node` and `time`",
                    object.seems()
                )
            });
            return;
        }
        self.scratch.refuse_overflow(self.sink);
    }
}

/// One object, as far as any of the formats gives its keys a meaning.
#[derive(Debug, Default)]
pub(crate) struct Object<'de> {
    seen: u32,
    twice: bool,
    wrong: bool,
    envelope: bool,
    foreign: Option<&'static str>,
    pub(crate) node: Option<Cow<'de, str>>,
    pub(crate) time: Time,
    pub(crate) cpu: Number,
    pub(crate) memory: Number,
    pub(crate) name: Option<Cow<'de, str>>,
    pub(crate) host: Option<Cow<'de, str>>,
    pub(crate) plugin: Option<Cow<'de, str>>,
    pub(crate) plugin_instance: Option<Cow<'de, str>>,
    pub(crate) type_: Option<Cow<'de, str>>,
    pub(crate) type_instance: Option<Cow<'de, str>>,
    pub(crate) interval: Number,
}

impl Object<'_> {
    fn has(&self, key: Key) -> bool {
        self.seen & (1 << key as u32) != 0
    }

    fn note(&mut self, key: Key) {
        // Two parsers could read a key that stands twice in two ways.
        self.twice |= self.has(key) && key != Key::Other;
        self.seen |= 1 << key as u32;
    }

    fn seems(&self) -> String {
        match self.foreign {
            Some(format) => format!("this seems to be {format}, which is not read here"),
            None => "this is no record of a known agent".to_owned(),
        }
    }
}

/// The keys that mean something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Key {
    Node,
    Time,
    Cpu,
    Memory,
    Metrics,
    Name,
    Fields,
    Tags,
    Values,
    DsNames,
    Host,
    Plugin,
    PluginInstance,
    Type,
    TypeInstance,
    Interval,
    Otlp,
    CloudEvent,
    Beats,
    Alerts,
    Other,
}

impl Key {
    fn of(text: &str) -> Self {
        match text {
            "node" => Self::Node,
            // Telegraf says `timestamp`; no format has both.
            "time" | "timestamp" => Self::Time,
            "cpu" => Self::Cpu,
            "memory" => Self::Memory,
            "metrics" => Self::Metrics,
            "name" => Self::Name,
            "fields" => Self::Fields,
            "tags" => Self::Tags,
            "values" => Self::Values,
            "dsnames" => Self::DsNames,
            "host" => Self::Host,
            "plugin" => Self::Plugin,
            "plugin_instance" => Self::PluginInstance,
            "type" => Self::Type,
            "type_instance" => Self::TypeInstance,
            "interval" => Self::Interval,
            "resourceMetrics" => Self::Otlp,
            "specversion" => Self::CloudEvent,
            "@timestamp" => Self::Beats,
            "alerts" => Self::Alerts,
            _ => Self::Other,
        }
    }
}

/// Reads a key, borrowed or not, without keeping it.
struct KeySeed;

impl<'de> DeserializeSeed<'de> for KeySeed {
    type Value = Key;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Key, D::Error> {
        json.deserialize_str(self)
    }
}

impl Visitor<'_> for KeySeed {
    type Value = Key;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E>(self, text: &str) -> Result<Key, E> {
        Ok(Key::of(text))
    }
}

/// Reads a record, or an array of records.
pub(crate) struct Records<'a, 'r, 's> {
    pub(crate) reader: &'a mut Reader<'r, 's>,
    pub(crate) depth: usize,
}

impl<'de> DeserializeSeed<'de> for Records<'_, '_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Records<'_, '_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a record or an array of records")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let Self { reader, depth } = self;
        if depth == MAX_DEPTH {
            reader.sink.refuse(BadReason::TooDeep, || {
                format!("records are nested in more than {MAX_DEPTH} arrays")
            });
            while seq.next_element::<IgnoredAny>()?.is_some() {}
            return Ok(());
        }
        let depth = depth + 1;
        while seq
            .next_element_seed(Records {
                reader: &mut *reader,
                depth,
            })?
            .is_some()
        {
            reader.sink.next();
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Self { reader, depth } = self;
        reader.scratch.clear();
        let mut object = Object::default();
        while let Some(key) = map.next_key_seed(KeySeed)? {
            object.note(key);
            match key {
                Key::Node => object.node = text(&mut map, &mut object.wrong)?,
                Key::Name => object.name = text(&mut map, &mut object.wrong)?,
                Key::Host => object.host = text(&mut map, &mut object.wrong)?,
                Key::Plugin => object.plugin = text(&mut map, &mut object.wrong)?,
                Key::PluginInstance => {
                    object.plugin_instance = text(&mut map, &mut object.wrong)?;
                }
                Key::Type => object.type_ = text(&mut map, &mut object.wrong)?,
                Key::TypeInstance => object.type_instance = text(&mut map, &mut object.wrong)?,
                Key::Time => object.time = map.next_value()?,
                Key::Cpu => object.cpu = map.next_value()?,
                Key::Memory => object.memory = map.next_value()?,
                Key::Interval => object.interval = map.next_value()?,
                Key::Fields => map.next_value_seed(Fields(reader.scratch))?,
                Key::Tags => map.next_value_seed(Tags(reader.scratch))?,
                Key::Values => map.next_value_seed(Values(reader.scratch))?,
                Key::DsNames => map.next_value_seed(Names(reader.scratch))?,
                Key::Metrics => {
                    object.envelope = map.next_value_seed(Metrics {
                        reader: &mut *reader,
                        depth,
                    })?;
                }
                Key::Otlp => object.foreign(&mut map, "OTLP")?,
                Key::CloudEvent => object.foreign(&mut map, "a CloudEvent")?,
                Key::Beats => object.foreign(&mut map, "a Beats event")?,
                Key::Alerts => object.foreign(&mut map, "an Alertmanager webhook")?,
                Key::Other => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        reader.finish(&object);
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        self.wrong()
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        self.wrong()
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        self.wrong()
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        self.wrong()
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        self.wrong()
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        self.wrong()
    }
}

impl Records<'_, '_, '_> {
    fn wrong<E>(self) -> Result<(), E> {
        self.reader.sink.refuse(BadReason::WrongType, || {
            "a record is a JSON object".to_owned()
        });
        Ok(())
    }
}

impl Object<'_> {
    fn foreign<'de, A: MapAccess<'de>>(
        &mut self,
        map: &mut A,
        format: &'static str,
    ) -> Result<(), A::Error> {
        self.foreign = Some(format);
        map.next_value::<IgnoredAny>().map(|_| ())
    }
}
