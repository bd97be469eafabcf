//! The three patches that the API server takes: merge, strategic merge, and JSON patch.

use serde_json::{Map, Value};

use crate::json::unescape;

/// How the lists that a strategic merge patch may name are merged: by which field of their
/// items. Lists that are not named here are replaced (as the API's types say of them).
const MERGE_KEYS: [(&str, &str); 9] = [
    ("conditions", "type"),
    ("taints", "key"),
    ("addresses", "type"),
    ("containers", "name"),
    ("initContainers", "name"),
    ("volumes", "name"),
    ("env", "name"),
    ("ownerReferences", "uid"),
    ("imagePullSecrets", "name"),
];

/// Lists of plain values that a strategic merge adds to.
const MERGED_SETS: [&str; 2] = ["finalizers", "podCIDRs"];

/// RFC 7386: objects merge, `null` deletes, everything else replaces.
pub(crate) fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(changes) = patch else {
        *target = patch.clone();
        return;
    };
    let target = crate::json::object(target);
    for (key, change) in changes {
        if change.is_null() {
            target.remove(key);
        } else {
            merge(target.entry(key.clone()).or_insert(Value::Null), change);
        }
    }
}

/// Like [`merge`], but lists of named items merge item by item, and `$patch` directives are
/// heeded.
pub(crate) fn strategic(target: &mut Value, patch: &Value) {
    let Value::Object(changes) = patch else {
        *target = patch.clone();
        return;
    };
    if changes.get("$patch").and_then(Value::as_str) == Some("replace") {
        let mut whole = changes.clone();
        whole.remove("$patch");
        *target = Value::Object(whole);
        return;
    }
    let target = crate::json::object(target);
    for (key, change) in changes.iter().filter(|(key, _)| !key.starts_with('$')) {
        if change.is_null() {
            target.remove(key);
            continue;
        }
        let place = target.entry(key.clone()).or_insert(Value::Null);
        match change {
            Value::Array(items) => strategic_list(key, place, items),
            change => strategic(place, change),
        }
    }
    for (key, change) in changes {
        if let (Some(list), Some(gone)) = (
            key.strip_prefix("$deleteFromPrimitiveList/"),
            change.as_array(),
        ) && let Some(Value::Array(items)) = target.get_mut(list)
        {
            items.retain(|item| !gone.contains(item));
        }
    }
}

fn strategic_list(key: &str, place: &mut Value, items: &[Value]) {
    let merge_key = MERGE_KEYS
        .iter()
        .find(|(list, _)| *list == key)
        .map(|(_, key)| *key);
    let replaces = items
        .iter()
        .any(|item| item.get("$patch").and_then(Value::as_str) == Some("replace"));
    if replaces || !place.is_array() {
        let plain: Vec<Value> = items
            .iter()
            .filter(|item| item.get("$patch").is_none())
            .cloned()
            .collect();
        *place = Value::Array(plain);
        return;
    }
    let Value::Array(have) = place else { return };
    match merge_key {
        Some(merge_key) => {
            for item in items {
                merge_item(have, item, merge_key);
            }
        }
        None if MERGED_SETS.contains(&key) => {
            for item in items {
                if !have.contains(item) {
                    have.push(item.clone());
                }
            }
        }
        None => *have = items.to_vec(),
    }
}

fn merge_item(have: &mut Vec<Value>, item: &Value, merge_key: &str) {
    let place = have
        .iter()
        .position(|other| other.get(merge_key) == item.get(merge_key));
    let deletes = item.get("$patch").and_then(Value::as_str) == Some("delete");
    match place {
        Some(place) if deletes => drop(have.remove(place)),
        Some(place) => {
            if let Some(other) = have.get_mut(place) {
                strategic(other, item);
            }
        }
        None if deletes => {}
        None => have.push(item.clone()),
    }
}

/// RFC 6902. All or nothing; the error says which operation failed.
pub(crate) fn json_patch(target: &mut Value, patch: &Value) -> Result<(), String> {
    let mut result = target.clone();
    let operations = patch.as_array().ok_or("a JSON patch is an array")?;
    for operation in operations {
        apply(&mut result, operation).ok_or_else(|| {
            format!("the server rejected our request due to an error in our request: {operation}")
        })?;
    }
    *target = result;
    Ok(())
}

fn apply(target: &mut Value, operation: &Value) -> Option<()> {
    let field = |name: &str| operation.get(name).and_then(Value::as_str);
    let path = field("path")?;
    match field("op")? {
        "add" => add(target, path, operation.get("value")?.clone()),
        "remove" => take(target, path).map(drop),
        "replace" => {
            *target.pointer_mut(path)? = operation.get("value")?.clone();
            Some(())
        }
        "move" => {
            let value = take(target, field("from")?)?;
            add(target, path, value)
        }
        "copy" => {
            let value = target.pointer(field("from")?)?.clone();
            add(target, path, value)
        }
        "test" => (target.pointer(path) == operation.get("value")).then_some(()),
        _ => None,
    }
}

fn add(target: &mut Value, path: &str, value: Value) -> Option<()> {
    if path.is_empty() {
        *target = value;
        return Some(());
    }
    let (parent, key) = path.rsplit_once('/')?;
    match target.pointer_mut(parent)? {
        Value::Object(map) => {
            map.insert(unescape(key), value);
            Some(())
        }
        Value::Array(items) if key == "-" => {
            items.push(value);
            Some(())
        }
        Value::Array(items) => {
            let place: usize = key.parse().ok()?;
            (place <= items.len()).then(|| items.insert(place, value))
        }
        _ => None,
    }
}

fn take(target: &mut Value, path: &str) -> Option<Value> {
    let (parent, key) = path.rsplit_once('/')?;
    match target.pointer_mut(parent)? {
        Value::Object(map) => Map::remove(map, &unescape(key)),
        Value::Array(items) => {
            let place: usize = key.parse().ok()?;
            (place < items.len()).then(|| items.remove(place))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn merge_patches_merge_replace_and_delete() {
        let mut node =
            json!({"spec": {"taints": [1, 2], "a": 1}, "metadata": {"labels": {"x": "1"}}});
        merge(
            &mut node,
            &json!({"spec": {"taints": [3], "a": null}, "metadata": {"labels": {"y": "2"}}}),
        );
        assert_eq!(
            node,
            json!({"spec": {"taints": [3]}, "metadata": {"labels": {"x": "1", "y": "2"}}})
        );
    }

    #[test]
    fn strategic_patches_merge_lists_by_their_keys() {
        let mut node = json!({"spec": {"taints": [
            {"key": "a", "effect": "NoSchedule"}, {"key": "b", "effect": "NoSchedule"}]}});
        strategic(
            &mut node,
            &json!({"spec": {
                "$setElementOrder/taints": [{"key": "c"}],
                "taints": [{"key": "c", "effect": "NoExecute"}, {"$patch": "delete", "key": "a"}],
            }}),
        );
        assert_eq!(
            node,
            json!({"spec": {"taints": [
                {"key": "b", "effect": "NoSchedule"}, {"key": "c", "effect": "NoExecute"}]}})
        );
        strategic(
            &mut node,
            &json!({"spec": {"taints": [{"$patch": "replace"}, {"key": "z"}]}}),
        );
        assert_eq!(node, json!({"spec": {"taints": [{"key": "z"}]}}));
        let mut node = json!({"metadata": {"finalizers": ["a"]}});
        strategic(&mut node, &json!({"metadata": {"finalizers": ["b"]}}));
        assert_eq!(node, json!({"metadata": {"finalizers": ["a", "b"]}}));
    }

    #[test]
    fn json_patches_do_all_or_nothing() {
        let mut node = json!({"spec": {"taints": ["a"]}, "metadata": {"labels": {"a/b": "1"}}});
        json_patch(
            &mut node,
            &json!([
                {"op": "test", "path": "/metadata/labels/a~1b", "value": "1"},
                {"op": "add", "path": "/spec/taints/-", "value": "b"},
                {"op": "add", "path": "/spec/taints/0", "value": "z"},
                {"op": "remove", "path": "/metadata/labels/a~1b"},
                {"op": "copy", "from": "/spec/taints/0", "path": "/spec/first"},
                {"op": "replace", "path": "/spec/first", "value": "y"},
            ]),
        )
        .unwrap();
        let after =
            json!({"spec": {"taints": ["z", "a", "b"], "first": "y"}, "metadata": {"labels": {}}});
        assert_eq!(node, after);
        let failing = json!([
            {"op": "add", "path": "/spec/x", "value": 1},
            {"op": "test", "path": "/spec/first", "value": "no"},
        ]);
        assert!(json_patch(&mut node, &failing).is_err());
        assert_eq!(node, after);
    }
}
