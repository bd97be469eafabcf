//! `GET /servers`, `/servers/detail` and `/servers/{id}`: filters, paging and their traps.
//!
//! The traps are Nova's own: a filter that the microversion does not know is ignored and
//! everything comes back (until 2.75, where it is 400); `name` is a regular expression that
//! may match anywhere; rows of a cell that is down are left out (until 2.69, where they come
//! back as `UNKNOWN`).

use std::collections::BTreeSet;

use regex_lite::Regex;
use serde_json::{Value, json};

use super::{Call, error, not_found, wire};
use crate::cloud::Server;
use crate::http::{Answer, percent_encode};
use crate::world::{World, parse_time};

/// Most rows of one answer (`[api] max_limit`).
const MAX_LIMIT: usize = 1_000;

/// Query parameters and the microversion from which they mean something.
const PARAMETERS: [(&str, u32); 34] = [
    ("limit", 1),
    ("marker", 1),
    ("name", 1),
    ("status", 1),
    ("flavor", 1),
    ("image", 1),
    ("metadata", 1),
    ("changes-since", 1),
    ("deleted", 1),
    ("all_tenants", 1),
    ("sort_key", 1),
    ("sort_dir", 1),
    ("host", 1),
    ("ip", 1),
    ("ip6", 1),
    ("reservation_id", 1),
    ("uuid", 1),
    ("project_id", 1),
    ("tenant_id", 1),
    ("user_id", 1),
    ("vm_state", 1),
    ("task_state", 1),
    ("power_state", 1),
    ("availability_zone", 1),
    ("key_name", 1),
    ("created_at", 1),
    ("launched_at", 1),
    ("locked", 73),
    ("changes-before", 66),
    ("tags", 26),
    ("tags-any", 26),
    ("not-tags", 26),
    ("not-tags-any", 26),
    ("soft_deleted", 1),
];

/// From this minor number an unknown query parameter is refused.
const STRICT_QUERY: u32 = 75;

/// From this minor number servers of a cell that is down are shown as UNKNOWN.
const DOWN_CELLS_SHOWN: u32 = 69;

/// `GET /servers` and `/servers/detail`.
pub(super) fn servers(world: &World, call: &Call<'_>, detailed: bool) -> Answer {
    if call.minor >= STRICT_QUERY
        && let Some((key, _)) = call.request.query.iter().find(|(key, _)| !known(call, key))
    {
        return error(
            400,
            &format!("'{key}' does not match any of the regexes: '^_'"),
        );
    }
    let filter = match Filter::read(call) {
        Ok(filter) => filter,
        Err(message) => return error(400, &message),
    };
    let mut rows: Vec<&Server> = world
        .cloud
        .servers
        .values()
        .chain(
            filter
                .with_deleted
                .then_some(&world.cloud.deleted)
                .into_iter()
                .flat_map(|map| map.values()),
        )
        .filter(|server| filter.takes(server))
        .filter(|server| call.minor >= DOWN_CELLS_SHOWN || !is_down(world, server))
        .collect();
    // Nova's order: the newest first; times have whole seconds, so ids decide within one.
    rows.sort_by(|a, b| {
        (b.created.millis() / 1_000, &b.id).cmp(&(a.created.millis() / 1_000, &a.id))
    });
    if let Some(marker) = call.request.parameter("marker") {
        match rows.iter().position(|server| server.id == marker) {
            Some(place) => drop(rows.drain(..=place)),
            None => return error(400, &format!("marker [{marker}] not found")),
        }
    }
    let limit = filter.limit.unwrap_or(MAX_LIMIT).min(MAX_LIMIT);
    // A page that is full has a link to the next, which may be empty.
    let more = rows.len() >= limit;
    rows.truncate(limit);
    let shown: Vec<Value> = rows
        .iter()
        .map(|server| match (is_down(world, server), detailed) {
            (true, _) => wire::unknown(world, call, server),
            (false, true) => wire::listed(world, call, server),
            (false, false) => wire::brief(call, server),
        })
        .collect();
    let mut body = json!({"servers": shown});
    if more && let Some(last) = rows.last() {
        let link = next_link(call, detailed, &last.id);
        crate::json::set(&mut body, "/servers_links", vec![link]);
    }
    Answer::json(200, body)
}

/// `GET /servers/{id}`.
pub(super) fn server(world: &World, call: &Call<'_>, id: &str) -> Answer {
    let Some(server) = world.cloud.servers.get(id) else {
        return not_found(id);
    };
    if is_down(world, server) {
        return if call.minor >= DOWN_CELLS_SHOWN {
            Answer::json(200, json!({"server": wire::unknown(world, call, server)}))
        } else {
            error(
                500,
                "Unexpected API Error. Please report this at http://bugs.launchpad.net/nova/ and attach the Nova API log if possible.",
            )
        };
    }
    Answer::json(200, json!({"server": wire::detail(world, call, server)}))
}

fn is_down(world: &World, server: &Server) -> bool {
    world.cloud.down_cells.contains(&server.id)
}

fn known(call: &Call<'_>, key: &str) -> bool {
    PARAMETERS
        .iter()
        .any(|(name, since)| *name == key && call.minor >= *since)
}

fn next_link(call: &Call<'_>, detailed: bool, marker: &str) -> Value {
    let path = if detailed {
        "servers/detail"
    } else {
        "servers"
    };
    let mut query: Vec<String> = call
        .request
        .query
        .iter()
        .filter(|(key, _)| key != "marker")
        .map(|(key, value)| format!("{}={}", percent_encode(key), percent_encode(value)))
        .collect();
    query.push(format!("marker={marker}"));
    json!({"rel": "next",
        "href": format!("{}/compute/v2.1/{path}?{}", call.request.base, query.join("&"))})
}

/// Which servers a list asks for.
#[derive(Default)]
struct Filter {
    limit: Option<usize>,
    name: Option<Regex>,
    status: Option<String>,
    flavor: Option<String>,
    image: Option<String>,
    metadata: Vec<(String, String)>,
    since: Option<i64>,
    before: Option<i64>,
    tags: BTreeSet<String>,
    tags_any: BTreeSet<String>,
    not_tags: BTreeSet<String>,
    not_tags_any: BTreeSet<String>,
    locked: Option<bool>,
    uuid: Option<String>,
    ip: Option<Regex>,
    with_deleted: bool,
}

impl Filter {
    fn read(call: &Call<'_>) -> Result<Self, String> {
        let mut filter = Self::default();
        for (key, value) in &call.request.query {
            if known(call, key) {
                filter.take(call, key, value)?;
            }
        }
        Ok(filter)
    }

    fn take(&mut self, call: &Call<'_>, key: &str, value: &str) -> Result<(), String> {
        let regex = |text: &str| {
            Regex::new(text).map_err(|_| format!("Invalid input for query parameters {key}."))
        };
        let time = |text: &str| {
            parse_time(text)
                .map(|at| at.millis() / 1_000)
                .ok_or_else(|| format!("Invalid input for query parameters {key}. Value: {text}. '{text}' is not a 'date-time'"))
        };
        let set = |text: &str| text.split(',').map(str::to_owned).collect::<BTreeSet<_>>();
        match key {
            "limit" => {
                self.limit = Some(value.parse().map_err(|_| {
                    format!("Invalid input for query parameters limit. Value: {value}. '{value}' does not match '^[0-9]*$'")
                })?);
            }
            "name" => self.name = Some(regex(value)?),
            "ip" => self.ip = Some(regex(value)?),
            "status" => self.status = Some(value.to_uppercase()),
            "flavor" => self.flavor = Some(value.to_owned()),
            "image" => self.image = Some(value.to_owned()),
            "uuid" => self.uuid = Some(value.to_owned()),
            "locked" => self.locked = Some(value.eq_ignore_ascii_case("true")),
            "metadata" => {
                if let Ok(Value::Object(pairs)) = serde_json::from_str(value) {
                    self.metadata = pairs
                        .iter()
                        .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
                        .collect();
                }
            }
            "changes-since" => {
                self.since = Some(time(value)?);
                self.with_deleted = true;
            }
            "changes-before" => {
                self.before = Some(time(value)?);
                self.with_deleted = true;
            }
            // Seen: of a user it is not heard.
            "deleted" if call.admin => {
                self.with_deleted = value.eq_ignore_ascii_case("true");
            }
            "tags" => self.tags = set(value),
            "tags-any" => self.tags_any = set(value),
            "not-tags" => self.not_tags = set(value),
            "not-tags-any" => self.not_tags_any = set(value),
            _ => {}
        }
        Ok(())
    }

    fn takes(&self, server: &Server) -> bool {
        let is = |wanted: &Option<String>, found: &str| {
            wanted.as_deref().is_none_or(|wanted| wanted == found)
        };
        let updated = server.updated.millis() / 1_000;
        self.name
            .as_ref()
            .is_none_or(|name| name.is_match(&server.name))
            && self
                .ip
                .as_ref()
                .is_none_or(|ip| ip.is_match(&server.address()))
            && is(&self.status, server.status())
            && is(&self.flavor, &server.flavor)
            && is(&self.image, &server.image)
            && is(&self.uuid, &server.id)
            && self.locked.is_none_or(|locked| locked == server.locked)
            && self.since.is_none_or(|since| updated >= since)
            && self.before.is_none_or(|before| updated <= before)
            && self
                .metadata
                .iter()
                .all(|(key, value)| server.metadata.get(key) == Some(value))
            && self.tags.is_subset(&server.tags)
            && (self.tags_any.is_empty() || !self.tags_any.is_disjoint(&server.tags))
            && (self.not_tags.is_empty() || !self.not_tags.is_subset(&server.tags))
            && self.not_tags_any.is_disjoint(&server.tags)
    }
}
