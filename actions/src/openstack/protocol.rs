//! What Nova writes and what it reads. Words that are not listed here fail nothing.

use std::collections::BTreeMap;

use rhizome_engine::action::mark;
use rhizome_engine::event::{ServerStatus, ServerView};
use rhizome_engine::names::{NodeName, OperationId, VmId};
use rhizome_engine::time::Timestamp;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Machine;

/// Rows of a listing that are looked at for what is wrong with it.
const MAX_TROUBLES: usize = 5;

/// A server as Nova writes it. A row of a down cell has an id, a status and little else.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct ServerBody {
    pub(super) id: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    status: String,
    #[serde(rename = "OS-EXT-STS:task_state", default)]
    task_state: Option<String>,
    #[serde(default)]
    created: Option<jiff::Timestamp>,
    /// None when the row does not say, which is not the same as none.
    #[serde(default)]
    pub(super) metadata: Option<BTreeMap<String, String>>,
    #[serde(default)]
    addresses: BTreeMap<String, Vec<Address>>,
    #[serde(default)]
    fault: Option<Fault>,
    #[serde(rename = "OS-EXT-AZ:availability_zone", default)]
    zone: Option<String>,
    #[serde(rename = "hostId", default)]
    host_id: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
struct Address {
    #[serde(default)]
    addr: String,
}

#[derive(Debug, Clone, Deserialize)]
struct Fault {
    #[serde(default)]
    message: String,
}

impl ServerBody {
    /// Reads the answer to a GET of one server.
    pub(super) fn read(text: &str) -> Option<Self> {
        #[derive(Deserialize)]
        struct Envelope {
            server: ServerBody,
        }
        serde_json::from_str::<Envelope>(text)
            .ok()
            .map(|envelope| envelope.server)
    }

    /// Whether Nova has nothing at work on it.
    pub(super) fn idle(&self) -> bool {
        self.task_state.is_none()
    }

    /// Whether its cell is down: then nothing else that it says, or does not say, counts.
    pub(super) fn unknown(&self) -> bool {
        self.status == "UNKNOWN" || self.metadata.is_none()
    }

    /// The value of one mark.
    pub(super) fn mark(&self, name: &str) -> Option<&str> {
        self.metadata.as_ref()?.get(name).map(String::as_str)
    }

    /// Whether its marks say that it is of this cluster of Rhizome's.
    pub(super) fn ours(&self, cluster: &str) -> bool {
        self.mark(mark::OWNER) == Some(mark::OWNER_VALUE)
            && self.mark(mark::CLUSTER) == Some(cluster)
    }

    /// The operation in its mark.
    pub(super) fn operation(&self) -> Option<OperationId> {
        self.mark(mark::OPERATION)?.parse().ok()
    }

    pub(super) fn created(&self) -> Timestamp {
        Timestamp(self.created.map_or(0, jiff::Timestamp::as_millisecond))
    }

    pub(super) fn status(&self) -> ServerStatus {
        match self.status.as_str() {
            "BUILD" => ServerStatus::Build,
            "ACTIVE" => ServerStatus::Active,
            "SHUTOFF" => ServerStatus::Shutoff,
            "REBOOT" | "HARD_REBOOT" => ServerStatus::Reboot,
            "REBUILD" => ServerStatus::Rebuild,
            "ERROR" => ServerStatus::Error,
            "DELETED" | "SOFT_DELETED" => ServerStatus::Deleted,
            "UNKNOWN" => ServerStatus::Unknown,
            other => ServerStatus::Other(other.into()),
        }
    }

    pub(super) fn view(self) -> ServerView {
        ServerView {
            status: self.status(),
            created: self.created(),
            id: VmId::new(&self.id),
            name: self.name,
            task_state: self.task_state,
            metadata: self.metadata.iter().flatten().collect(),
            addresses: self
                .addresses
                .into_values()
                .flatten()
                .map(|address| address.addr)
                .collect(),
            fault: self.fault.map(|fault| fault.message.trim().to_owned()),
            zone: self.zone.filter(|zone| !zone.is_empty()),
            host_id: self.host_id.filter(|host| !host.is_empty()),
        }
    }
}

/// One page of a listing, its rows not yet read: one bad row must not cost the others.
#[derive(Deserialize)]
pub(super) struct Page {
    servers: Vec<Value>,
    #[serde(default)]
    servers_links: Vec<Link>,
}

/// A link of a list, as Nova and Neutron write it.
#[derive(Deserialize)]
pub(super) struct Link {
    #[serde(default)]
    rel: String,
    #[serde(default)]
    href: String,
}

impl Page {
    pub(super) fn read(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }

    /// The marker of the next page.
    pub(super) fn next(&self) -> Option<String> {
        next_marker(&self.servers_links)
    }
}

/// The marker of the next page. Only that is taken from the link: its host is what the service
/// takes itself for, which behind a proxy is another.
pub(super) fn next_marker(links: &[Link]) -> Option<String> {
    let next = links.iter().find(|link| link.rel == "next")?;
    let (_, query) = next.href.split_once('?')?;
    query
        .split('&')
        .find_map(|pair| pair.strip_prefix("marker="))
        .map(str::to_owned)
}

/// All pages: what matters of each server, which is a part of what Nova writes.
pub(super) struct Listing<T> {
    pub(super) servers: Vec<T>,
    /// What was not seen; empty if the listing is complete.
    pub(super) troubles: Vec<String>,
}

impl<T> Listing<T> {
    pub(super) fn new() -> Self {
        Self {
            servers: Vec::new(),
            troubles: Vec::new(),
        }
    }

    pub(super) fn complete(&self) -> bool {
        self.troubles.is_empty()
    }

    pub(super) fn trouble(&mut self, what: String) {
        if self.troubles.len() < MAX_TROUBLES {
            self.troubles.push(what);
        }
    }

    pub(super) fn add(&mut self, page: Page, of: impl Fn(ServerBody) -> Option<T>) {
        for row in page.servers {
            match serde_json::from_value::<ServerBody>(row) {
                Ok(server) if server.unknown() => {
                    self.trouble(format!("the cell of server {} is down", server.id));
                }
                Ok(server) => self.servers.extend(of(server)),
                Err(_) => self.trouble("a row cannot be read".to_owned()),
            }
        }
    }
}

/// The body of a create. Never given to a log: it holds the user data.
#[derive(Serialize)]
struct NewServer<'a> {
    name: &'a str,
    #[serde(rename = "imageRef")]
    image: &'a str,
    #[serde(rename = "flavorRef")]
    flavor: &'a str,
    networks: Value,
    metadata: &'a BTreeMap<String, String>,
    tags: &'a [String],
    #[serde(skip_serializing_if = "Vec::is_empty")]
    security_groups: Vec<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    availability_zone: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_data: Option<&'a str>,
}

/// What a server is made with, beside what its pool says.
pub(super) struct Making<'a> {
    pub(super) node: &'a NodeName,
    pub(super) flavor: &'a str,
    pub(super) zone: Option<&'a str>,
    pub(super) metadata: &'a BTreeMap<String, String>,
    /// Marks by which it is found, beside those in its metadata.
    pub(super) tags: Vec<String>,
    /// Ports of our own; none lets Nova make them.
    pub(super) ports: Option<&'a [String]>,
    pub(super) user_data: Option<&'a SecretString>,
}

/// The body of a create.
pub(super) fn new_server(machine: &Machine, making: &Making<'_>) -> Value {
    let networks = match (making.ports, machine.networks.as_slice()) {
        (Some(ports), _) => ports.iter().map(|id| json!({"port": id})).collect(),
        (None, []) => json!("auto"),
        (None, networks) => networks
            .iter()
            .map(|network| json!({"uuid": network.id}))
            .collect(),
    };
    // Ports of our own have their groups, and Nova would not look at these.
    let groups = match making.ports {
        Some(_) => Vec::new(),
        None => machine
            .security_groups
            .iter()
            .map(|group| json!({"name": group}))
            .collect(),
    };
    let server = NewServer {
        name: making.node.as_str(),
        image: &machine.image,
        flavor: making.flavor,
        networks,
        metadata: making.metadata,
        tags: &making.tags,
        security_groups: groups,
        key_name: machine.key_name.as_deref(),
        availability_zone: making.zone,
        user_data: making.user_data.map(ExposeSecret::expose_secret),
    };
    match &machine.server_group {
        Some(group) => json!({"server": server, "os:scheduler_hints": {"group": group}}),
        None => json!({"server": server}),
    }
}

/// The body of a rebuild. Its metadata takes the place of all that the server has.
pub(super) fn rebuild(
    machine: &Machine,
    metadata: &BTreeMap<String, String>,
    user_data: Option<&SecretString>,
) -> Value {
    match user_data.map(ExposeSecret::expose_secret) {
        Some(user_data) => {
            json!({"imageRef": machine.image, "metadata": metadata, "user_data": user_data})
        }
        None => json!({"imageRef": machine.image, "metadata": metadata}),
    }
}

/// The id of a server that was just created.
pub(super) fn created_id(text: &str) -> Option<VmId> {
    let body: Value = serde_json::from_str(text).ok()?;
    body.get("server")?.get("id")?.as_str().map(VmId::new)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn row(status: &str) -> Value {
        json!({"id": "a", "name": "w-1", "status": status, "metadata": {"rhizome-owner": "rhizome"},
            "created": "2026-11-22T07:42:54Z", "hostId": "", "flavor": {"vcpus": 1},
            "addresses": {"private": [{"version": 4, "addr": "10.0.0.5"}]}})
    }

    fn listing(rows: Vec<Value>) -> Listing<ServerBody> {
        let mut listing = Listing::new();
        let page = json!({"servers": rows}).to_string();
        listing.add(Page::read(&page).unwrap(), Some);
        listing
    }

    #[test]
    fn a_status_that_is_not_listed_fails_nothing() {
        let listing = listing(vec![
            row("VERIFY_RESIZE"),
            row("ACTIVE"),
            row("HARD_REBOOT"),
        ]);
        assert!(listing.complete());
        let statuses: Vec<ServerStatus> = listing.servers.iter().map(ServerBody::status).collect();
        assert_eq!(
            statuses,
            [
                ServerStatus::Other("VERIFY_RESIZE".into()),
                ServerStatus::Active,
                ServerStatus::Reboot
            ]
        );
    }

    #[test]
    fn a_row_of_a_down_cell_or_a_bad_row_makes_the_listing_incomplete() {
        for bad in [
            json!({"id": "b", "status": "UNKNOWN", "created": "2026-11-22T07:42:54Z"}),
            json!({"name": "no id"}),
            json!(7),
        ] {
            let listing = listing(vec![row("ACTIVE"), bad.clone()]);
            assert!(!listing.complete(), "{bad}");
            assert_eq!(listing.servers.len(), 1, "{bad}");
        }
    }

    #[test]
    fn a_server_is_read_as_nova_writes_it() {
        let mut wire = row("ERROR");
        wire["fault"] = json!({"code": 500, "message": "No valid host was found. "});
        wire["OS-EXT-STS:task_state"] = json!(null);
        let view = ServerBody::read(&json!({"server": wire}).to_string())
            .unwrap()
            .view();
        assert_eq!(view.created.to_string(), "2026-11-22T07:42:54.000Z");
        assert_eq!(view.fault.as_deref(), Some("No valid host was found."));
        assert_eq!(view.addresses, ["10.0.0.5"]);
        assert_eq!(view.host_id, None);
    }

    proptest! {
        #[test]
        fn no_answer_can_make_the_reader_panic(text in "\\PC*") {
            let _ = ServerBody::read(&text);
            let _ = Page::read(&text).as_ref().map(Page::next);
            let _ = created_id(&text);
        }
    }
}
