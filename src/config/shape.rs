//! Holds a tree against the schema: unknown keys, wrong kinds of values, what is missing.
//!
//! The schema is the one that `rhizome config schema` prints, so an editor that checks by it
//! and this program say the same. It covers what `schemars` makes of our types and no more.

use serde_json::Value as Json;

use super::Finding;
use super::tree::{Node, Place, Value};
use super::types::{format, why_not};

/// How alike two keys must be, 0..=1, for one to be offered for the other.
const ALIKE: f64 = 0.80;

/// Checks `tree` against `schema` and puts down everything that is wrong.
///
/// Returns the secrets that stand in the file although they must not, so that they are not
/// shown with its lines.
pub(super) fn check(tree: &Node, schema: &Json, findings: &mut Vec<Finding>) -> Vec<String> {
    let mut checker = Checker {
        definitions: schema.get("$defs").unwrap_or(&Json::Null),
        path: Vec::new(),
        findings,
        secrets: Vec::new(),
    };
    checker.node(tree, schema);
    checker.secrets
}

struct Checker<'a> {
    definitions: &'a Json,
    path: Vec<String>,
    findings: &'a mut Vec<Finding>,
    secrets: Vec<String>,
}

impl<'a> Checker<'a> {
    fn found(&mut self, place: Place, message: String) {
        self.findings.push(Finding {
            place,
            key: self.path.join("."),
            message,
        });
    }

    fn node(&mut self, node: &Node, schema: &'a Json) {
        let schema = self.resolve(schema);
        if node.value == Value::Null && accepts(schema, "null") {
            return;
        }
        let format = schema.get("format").and_then(Json::as_str).unwrap_or("");
        if format == format::SECRET && !matches!(node.value, Value::Map(_)) {
            self.secrets.extend(node.texts());
            self.found(
                node.place,
                "a secret is not written here: write `{file: PATH}` or `{env: NAME}` instead"
                    .to_owned(),
            );
            return;
        }
        if let Some(words) = allowed_words(schema) {
            self.word(node, &words);
            return;
        }
        match &node.value {
            Value::Map(entries) if accepts(schema, "object") => self.map(node, entries, schema),
            Value::List(items) if accepts(schema, "array") => {
                let item = schema.get("items").unwrap_or(&Json::Null);
                for (place, node) in items.iter().enumerate() {
                    self.path.push(place.to_string());
                    self.node(node, item);
                    self.path.pop();
                }
            }
            Value::Text(text) if accepts(schema, "string") => {
                if format == format::URL {
                    self.secrets.extend(url_password(text));
                }
                if let Some(why) = why_not(format, text) {
                    self.found(node.place, why);
                }
            }
            Value::Number(number) if accepts_number(schema, number) => {
                self.range(node.place, number, schema);
            }
            Value::Bool(_) if accepts(schema, "boolean") => {}
            value => {
                let scalar = matches!(value, Value::Number(_) | Value::Bool(_));
                let quotes = if accepts(schema, "string") && format.is_empty() && scalar {
                    ": put it in quotes"
                } else {
                    ""
                };
                let found = match value {
                    Value::Number(number) => number.to_string(),
                    value => value.kind().to_owned(),
                };
                let message = format!("{} is expected here, not {found}{quotes}", expected(schema));
                self.found(node.place, message);
            }
        }
    }

    fn map(&mut self, node: &Node, entries: &[(String, Place, Node)], schema: &'a Json) {
        let properties = schema.get("properties").and_then(Json::as_object);
        let known = |key: &str| properties.and_then(|properties| properties.get(key));
        let others = schema.get("additionalProperties");
        let mut meant = Vec::new();
        for (key, place, value) in entries {
            match (known(key), others) {
                (Some(schema), _) | (None, Some(schema @ Json::Object(_))) => {
                    self.path.push(key.clone());
                    self.node(value, schema);
                    self.path.pop();
                }
                (None, None | Some(Json::Bool(true))) => {}
                (None, Some(_)) => {
                    let keys = properties.into_iter().flat_map(|map| map.keys());
                    let keys = keys.map(String::as_str);
                    meant.extend(likely(key, keys.clone()));
                    self.found(*place, unknown("key", key, keys));
                }
            }
        }
        let missing = schema.get("required").and_then(Json::as_array);
        for key in missing.into_iter().flatten().filter_map(Json::as_str) {
            // A key that is there under a wrong name is told once.
            if !meant.contains(&key) && !entries.iter().any(|(found, _, _)| found == key) {
                let about = known(key)
                    .and_then(|schema| schema.get("description"))
                    .and_then(Json::as_str)
                    .and_then(|text| text.split(['\n', '.']).next())
                    .map(|text| format!(" ({text})"))
                    .unwrap_or_default();
                self.found(node.place, format!("`{key}` is missing{about}"));
            }
        }
        let least = schema.get("minProperties").and_then(Json::as_u64);
        let most = schema.get("maxProperties").and_then(Json::as_u64);
        if least == Some(1) && most == Some(1) && entries.len() != 1 {
            let keys: Vec<_> = properties
                .into_iter()
                .flat_map(|map| map.keys())
                .map(|key| format!("`{key}`"))
                .collect();
            self.found(
                node.place,
                format!("exactly one of {} is expected here", keys.join(" and ")),
            );
        }
    }

    fn word(&mut self, node: &Node, words: &[&str]) {
        match &node.value {
            Value::Text(text) if words.contains(&text.as_str()) => {}
            Value::Text(text) => {
                self.found(node.place, unknown("word", text, words.iter().copied()))
            }
            value => {
                let message = format!(
                    "one of {} is expected here, not {}",
                    list(words.iter().copied()),
                    value.kind()
                );
                self.found(node.place, message);
            }
        }
    }

    fn range(&mut self, place: Place, number: &serde_json::Number, schema: &Json) {
        let Some(value) = number.as_f64() else { return };
        let bound = |key: &str| schema.get(key).and_then(Json::as_f64);
        let least = bound("minimum");
        let most = bound("maximum").or_else(|| match schema.get("format").and_then(Json::as_str) {
            Some("uint16") => Some(f64::from(u16::MAX)),
            Some("uint32") => Some(f64::from(u32::MAX)),
            _ => None,
        });
        if least.is_some_and(|least| value < least) || most.is_some_and(|most| value > most) {
            let message = match (least, most) {
                (Some(least), Some(most)) => {
                    format!("{number} is out of range: {least} to {most} is allowed")
                }
                (Some(least), None) => {
                    format!("{number} is too small: at least {least} is allowed")
                }
                (_, Some(most)) => format!("{number} is too large: at most {most} is allowed"),
                (None, None) => return,
            };
            self.found(place, message);
        }
    }

    /// Follows references, and takes the one of two choices that is not `null`.
    fn resolve(&self, mut schema: &'a Json) -> &'a Json {
        // No schema of ours refers further than this; a circle would not end.
        for _ in 0..16 {
            let by_name = schema
                .get("$ref")
                .and_then(Json::as_str)
                .and_then(|name| name.strip_prefix("#/$defs/"))
                .and_then(|name| self.definitions.get(name));
            let of_choice = || {
                let choices = schema.get("anyOf")?.as_array()?;
                choices
                    .iter()
                    .find(|choice| choice.get("type").and_then(Json::as_str) != Some("null"))
            };
            match by_name.or_else(of_choice) {
                Some(next) => schema = next,
                None => break,
            }
        }
        schema
    }
}

/// Which of the known words `found` may have been meant for.
fn likely<'a>(found: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let found = found.to_lowercase();
    known
        .map(|known| (strsim::jaro_winkler(&found, &known.to_lowercase()), known))
        .filter(|(alike, _)| *alike >= ALIKE)
        .max_by(|(one, _), (two, _)| one.total_cmp(two))
        .map(|(_, known)| known)
}

/// Says that `found` is not known, and what may have been meant.
fn unknown<'a>(what: &str, found: &str, known: impl Iterator<Item = &'a str> + Clone) -> String {
    match likely(found, known.clone()) {
        Some(likely) => format!("`{found}` is no known {what}: did you mean `{likely}`?"),
        None => format!(
            "`{found}` is no known {what}: known here are {}",
            list(known)
        ),
    }
}

/// The password in an address, if there is one.
fn url_password(text: &str) -> Option<String> {
    let url = reqwest::Url::parse(text).ok()?;
    url.password().map(str::to_owned)
}

fn list<'a>(words: impl Iterator<Item = &'a str>) -> String {
    words
        .map(|word| format!("`{word}`"))
        .collect::<Vec<_>>()
        .join(", ")
}

/// Whether the schema takes values of a JSON type.
fn accepts(schema: &Json, kind: &str) -> bool {
    match schema.get("type") {
        Some(Json::String(only)) => only == kind,
        Some(Json::Array(several)) => several.iter().any(|one| one == kind),
        _ => true,
    }
}

fn accepts_number(schema: &Json, number: &serde_json::Number) -> bool {
    accepts(schema, "number") || (accepts(schema, "integer") && !number.is_f64())
}

/// The words of an enumeration, if the schema is one.
fn allowed_words(schema: &Json) -> Option<Vec<&str>> {
    if let Some(words) = schema.get("enum").and_then(Json::as_array) {
        return words.iter().map(Json::as_str).collect();
    }
    let choices = schema.get("oneOf")?.as_array()?;
    let mut words = Vec::new();
    for choice in choices {
        match (
            choice.get("const").and_then(Json::as_str),
            choice.get("enum").and_then(Json::as_array),
        ) {
            (Some(word), _) => words.push(word),
            (None, Some(several)) => words.extend(several.iter().filter_map(Json::as_str)),
            (None, None) => return None,
        }
    }
    Some(words)
}

/// What the schema takes, in a message.
fn expected(schema: &Json) -> String {
    let kinds: Vec<&str> = match schema.get("type") {
        Some(Json::String(only)) => vec![only],
        Some(Json::Array(several)) => several.iter().filter_map(Json::as_str).collect(),
        _ => Vec::new(),
    };
    let format = schema.get("format").and_then(Json::as_str).unwrap_or("");
    let words = kinds
        .iter()
        .filter(|kind| **kind != "null")
        .map(|kind| match (*kind, format) {
            ("string", format::PERIOD) => "a length of time such as `5m`",
            ("string", format::MEMORY) => "an amount of memory such as `8GiB`",
            ("string", _) => "text",
            ("integer", _) => "a whole number",
            ("number", _) => "a number",
            ("boolean", _) => "true or false",
            ("array", _) => "a list",
            _ => "a group of keys",
        });
    words.collect::<Vec<_>>().join(" or ")
}
