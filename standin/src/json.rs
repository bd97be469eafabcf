//! Reading and writing inside JSON documents by path.
//!
//! Both APIs hold and answer documents of which this package needs a few fields; typed
//! structs would drop the fields that it does not know, which a real server keeps.

use serde_json::{Map, Value};

/// The text at `path` (a JSON pointer), or nothing if there is none or it is no text.
pub(crate) fn text<'a>(value: &'a Value, path: &str) -> Option<&'a str> {
    value.pointer(path).and_then(Value::as_str)
}

/// The text at `path`, or the empty text.
pub(crate) fn text_or_empty<'a>(value: &'a Value, path: &str) -> &'a str {
    text(value, path).unwrap_or_default()
}

/// The number at `path`.
pub(crate) fn integer(value: &Value, path: &str) -> Option<i64> {
    value.pointer(path).and_then(Value::as_i64)
}

/// The elements of the array at `path`; none if there is no array.
pub(crate) fn items<'a>(value: &'a Value, path: &str) -> impl Iterator<Item = &'a Value> {
    value
        .pointer(path)
        .and_then(Value::as_array)
        .map(Vec::as_slice)
        .unwrap_or_default()
        .iter()
}

/// Puts `new` at `path`, making the objects on the way there.
pub(crate) fn set(value: &mut Value, path: &str, new: impl Into<Value>) {
    let mut place = value;
    for key in path.split('/').skip(1) {
        let key = unescape(key);
        place = object(place).entry(key).or_insert(Value::Null);
    }
    *place = new.into();
}

/// Takes away what is at `path`.
pub(crate) fn remove(value: &mut Value, path: &str) -> Option<Value> {
    let (parent, key) = path.rsplit_once('/')?;
    let parent = value.pointer_mut(parent)?.as_object_mut()?;
    parent.remove(&unescape(key))
}

/// `value` as an object; made one if it is none.
pub(crate) fn object(value: &mut Value) -> &mut Map<String, Value> {
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    match value {
        Value::Object(map) => map,
        _ => unreachable!("made an object just above"),
    }
}

/// The array at `path`, made there if there is none.
pub(crate) fn array<'a>(value: &'a mut Value, path: &str) -> &'a mut Vec<Value> {
    if !value.pointer(path).is_some_and(Value::is_array) {
        set(value, path, Value::Array(Vec::new()));
    }
    match value.pointer_mut(path) {
        Some(Value::Array(items)) => items,
        _ => unreachable!("made an array just above"),
    }
}

/// A value as Python writes it: Nova repeats what it refuses in its own words.
pub(crate) fn repr(value: &Value) -> String {
    match value {
        Value::Null => "None".to_owned(),
        Value::Bool(true) => "True".to_owned(),
        Value::Bool(false) => "False".to_owned(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => format!("'{text}'"),
        Value::Array(rows) => {
            let rows: Vec<String> = rows.iter().map(repr).collect();
            format!("[{}]", rows.join(", "))
        }
        Value::Object(map) => {
            let pairs: Vec<String> = map
                .iter()
                .map(|(key, value)| format!("'{key}': {}", repr(value)))
                .collect();
            format!("{{{}}}", pairs.join(", "))
        }
    }
}

/// A key of a JSON pointer as it stands in the document.
pub(crate) fn unescape(key: &str) -> String {
    key.replace("~1", "/").replace("~0", "~")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn values_are_repeated_as_python_does() {
        let value = json!({"a": ["b", 1, true, null], "c": {}});
        assert_eq!(repr(&value), "{'a': ['b', 1, True, None], 'c': {}}");
    }

    #[test]
    fn paths_are_made_read_and_taken_away() {
        let mut value = json!({"a": 1});
        set(&mut value, "/b/c~1d", "x");
        assert_eq!(value, json!({"a": 1, "b": {"c/d": "x"}}));
        assert_eq!(text(&value, "/b/c~1d"), Some("x"));
        array(&mut value, "/list").push(json!(7));
        assert_eq!(items(&value, "/list").count(), 1);
        remove(&mut value, "/b/c~1d");
        assert_eq!(value, json!({"a": 1, "b": {}, "list": [7]}));
    }
}
