//! The files of clouds: where they are searched for, and how one is laid over the other.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::{CloudsError, Surroundings};

/// Endings of the files, in their order.
const ENDINGS: [&str; 3] = ["yaml", "yml", "json"];

/// The folders that are searched, in their order.
fn folders(around: &Surroundings) -> Vec<PathBuf> {
    let variable = |key: &str| around.variables.get(key).filter(|value| !value.is_empty());
    let mut folders = vec![around.folder.clone()];
    // openstacksdk asks appdirs first, which heeds XDG's variables, and then the fixed places.
    let config = variable("XDG_CONFIG_HOME").map(PathBuf::from);
    let home = variable("HOME").map(|home| Path::new(home).join(".config"));
    folders.extend(
        config
            .or_else(|| home.clone())
            .map(|folder| folder.join("openstack")),
    );
    folders.extend(home.map(|folder| folder.join("openstack")));
    let site = variable("XDG_CONFIG_DIRS").map_or("/etc/xdg", String::as_str);
    folders.push(Path::new(site).join("openstack"));
    folders.push("/etc/openstack".into());
    folders.dedup();
    folders
}

/// The same, for a person.
pub(super) fn searched(around: &Surroundings) -> String {
    let folders = folders(around);
    let shown = folders.iter().map(|folder| folder.display().to_string());
    shown.collect::<Vec<_>>().join(", ")
}

/// The clouds of the files, and the files that they stand in.
pub(super) fn load(
    around: &Surroundings,
) -> Result<(Vec<PathBuf>, Map<String, Value>), CloudsError> {
    let first = |kind: &str, variable: &str| {
        let named = around
            .variables
            .get(variable)
            .filter(|path| !path.is_empty());
        let named = named.map(|path| around.folder.join(path));
        let searched = folders(around)
            .into_iter()
            .flat_map(|folder| ENDINGS.map(|ending| folder.join(format!("{kind}.{ending}"))));
        named.into_iter().chain(searched).find_map(|path| {
            // One that may not be read is passed over, as openstacksdk does.
            let text = std::fs::read_to_string(&path).ok()?;
            Some((path, text))
        })
    };
    let parsed = |found: Option<(PathBuf, String)>| match found {
        None => Ok((None, Value::Null)),
        Some((path, text)) => match serde_saphyr::from_str::<Value>(&text) {
            Ok(value @ (Value::Object(_) | Value::Null)) => Ok((Some(path), value)),
            _ => Err(CloudsError::File(path)),
        },
    };
    let (file, mut whole) = parsed(first("clouds", "OS_CLIENT_CONFIG_FILE"))?;
    let (secret, secure) = parsed(first("secure", "OS_CLIENT_SECURE_FILE"))?;
    merge(&mut whole, secure);
    let clouds = match whole.get_mut("clouds").map(Value::take) {
        Some(Value::Object(clouds)) => clouds,
        _ => Map::new(),
    };
    Ok((file.into_iter().chain(secret).collect(), clouds))
}

/// Puts `new` over `old`, map by map.
fn merge(old: &mut Value, new: Value) {
    match (old, new) {
        (_, Value::Null) => {}
        (Value::Object(old), Value::Object(new)) => merge_maps(old, new),
        (old, new) => *old = new,
    }
}

/// The same of two maps.
pub(super) fn merge_maps(old: &mut Map<String, Value>, new: Map<String, Value>) {
    for (key, value) in new {
        match old.get_mut(&key) {
            Some(place) if value.is_object() => merge(place, value),
            _ => drop(old.insert(key, value)),
        }
    }
}
