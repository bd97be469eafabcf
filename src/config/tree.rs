//! YAML as a tree in which each key and value knows its place.
//!
//! Serde stops at the first error, and an operator wants all of them; so the file is read
//! into this tree, and `shape.rs` holds the tree against the schema.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{Location, Spanned};

/// A line and a column, both from 1. Zero where the parser knows none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Place {
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
}

/// A value and where it begins.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Node {
    pub(super) place: Place,
    pub(super) value: Value,
}

/// What YAML can hold, as far as a configuration needs it.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Null,
    Bool(bool),
    Number(serde_json::Number),
    Text(String),
    List(Vec<Node>),
    /// Keys with their places, in the order of the file. The parser refuses a key twice.
    Map(Vec<(String, Place, Node)>),
}

/// How deep lists and maps may stand in each other: four times as deep as any key of ours. Each
/// level takes some 35 KiB of stack in a debug build: the 64 of the parser do not fit into a thread.
const DEPTH_MAX: usize = 32;

/// Reads one YAML document.
///
/// # Errors
///
/// Returns the place and the message of the first error in the YAML itself.
pub(super) fn parse(text: &str) -> Result<Node, (Place, String)> {
    // An empty file is an empty map, so that what is missing is named key by key.
    if text
        .lines()
        .all(|line| line.trim().is_empty() || line.trim_start().starts_with('#'))
    {
        return Ok(Node {
            place: Place { line: 1, column: 1 },
            value: Value::Map(Vec::new()),
        });
    }
    // YAML 1.2: `no`, `on` and `y` are words, not true or false.
    let options = serde_saphyr::options! {
        strict_booleans: true,
        budget: serde_saphyr::budget! { max_depth: DEPTH_MAX },
    };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| {
        let error = error.without_snippet();
        let place = error.location().map(Place::from).unwrap_or_default();
        let message = error.to_string();
        // The location is ours to print, once; and a setting of the parser is no advice.
        let message = message.split(" at line ").next().unwrap_or_default();
        let message = message.split(", set DuplicateKeyPolicy").next();
        (place, message.unwrap_or_default().to_owned())
    })
}

impl Node {
    /// The value under a path of keys and list places, or the deepest that there is.
    pub(super) fn at(&self, path: &[String]) -> Place {
        let Some((first, rest)) = path.split_first() else {
            return self.place;
        };
        match &self.value {
            Value::Map(entries) => entries.iter().find(|(key, _, _)| key == first).map_or(
                self.place,
                |(_, place, node)| {
                    // The end of the path is shown by its value, unless that stands on
                    // another line, as a map does.
                    if rest.is_empty() && node.place.line != place.line {
                        *place
                    } else {
                        node.at(rest)
                    }
                },
            ),
            Value::List(items) => first
                .parse::<usize>()
                .ok()
                .and_then(|place| items.get(place))
                .map_or(self.place, |node| node.at(rest)),
            _ => self.place,
        }
    }

    /// The value of a key, if it is a map that has it.
    pub(super) fn get(&self, key: &str) -> Option<&Node> {
        let Value::Map(entries) = &self.value else {
            return None;
        };
        let entry = entries.iter().find(|(found, _, _)| found == key);
        entry.map(|(_, _, node)| node)
    }

    /// Every text in it.
    pub(super) fn texts(&self) -> Vec<String> {
        match &self.value {
            Value::Null | Value::Bool(_) => Vec::new(),
            Value::Number(number) => vec![number.to_string()],
            Value::Text(text) => vec![text.clone()],
            Value::List(items) => items.iter().flat_map(Node::texts).collect(),
            Value::Map(entries) => entries
                .iter()
                .flat_map(|(_, _, node)| node.texts())
                .collect(),
        }
    }

    /// The same as JSON, for serde.
    pub(super) fn to_json(&self) -> serde_json::Value {
        match &self.value {
            Value::Null => serde_json::Value::Null,
            Value::Bool(value) => (*value).into(),
            Value::Number(number) => number.clone().into(),
            Value::Text(text) => text.as_str().into(),
            Value::List(items) => items.iter().map(Node::to_json).collect(),
            Value::Map(entries) => entries
                .iter()
                .map(|(key, _, node)| (key.clone(), node.to_json()))
                .collect(),
        }
    }
}

impl Value {
    /// What it is, in a message.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Null => "nothing",
            Self::Bool(_) => "true or false",
            Self::Number(_) => "a number",
            Self::Text(_) => "text",
            Self::List(_) => "a list",
            Self::Map(_) => "a group of keys",
        }
    }
}

impl From<Location> for Place {
    fn from(location: Location) -> Self {
        Self {
            line: usize::try_from(location.line()).unwrap_or(0),
            column: usize::try_from(location.column()).unwrap_or(0),
        }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<Value>::deserialize(deserializer)?;
        Ok(Self {
            place: spanned.referenced.into(),
            value: spanned.value,
        })
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("YAML")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        Value::deserialize(deserializer)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        // `.nan` and `.inf` are no numbers of JSON, and of no setting either.
        Ok(serde_json::Number::from_f64(value)
            .map_or_else(|| Value::Text(value.to_string()), Value::Number))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Value::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut entries = Vec::new();
        while let Some(key) = map.next_key::<Spanned<String>>()? {
            entries.push((key.value, key.referenced.into(), map.next_value()?));
        }
        Ok(Value::Map(entries))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_and_value_knows_its_place() {
        let tree = parse("a: 1\nb:\n  c: [x, true]\n  d: ~\n").unwrap();
        let path = |keys: &[&str]| keys.iter().map(|key| (*key).to_owned()).collect::<Vec<_>>();
        let at = |keys: &[&str]| {
            let place = tree.at(&path(keys));
            (place.line, place.column)
        };
        assert_eq!(at(&["a"]), (1, 4));
        assert_eq!(at(&["b"]), (2, 1), "a map is shown by its key");
        assert_eq!(at(&["b", "c", "1"]), (3, 10));
        assert_eq!(at(&["b", "missing"]), (3, 3), "the map it is missing from");
        assert_eq!(
            tree.to_json(),
            serde_json::json!({"a": 1, "b": {"c": ["x", true], "d": null}})
        );
    }

    #[test]
    fn bad_yaml_and_a_key_twice_have_their_place() {
        for (text, line) in [("a: [1\nb: 2", 2), ("a: 1\na: 2\n", 2)] {
            let (place, message) = parse(text).unwrap_err();
            assert_eq!(place.line, line, "{message}");
            assert!(!message.contains("line"), "{message}");
        }
    }

    #[test]
    fn an_alias_bomb_is_refused() {
        let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for level in 1..12 {
            let aliases = vec![format!("*a{}", level - 1); 10].join(", ");
            text.push_str(&format!("a{level}: &a{level} [{aliases}]\n"));
        }
        assert!(parse(&text).is_err());
    }
}
