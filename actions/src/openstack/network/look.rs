//! What Neutron has: ports, floating addresses and security groups, each list read to its end.
//!
//! A list that is not whole is none: on half of one a second port would be made, or one that was
//! left over never be seen.

use reqwest::StatusCode;
use rhizome_engine::action::{Failure, FailureKind};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::openstack::client::{MAX_PAGES, Nova, Service, Trace};
use crate::openstack::errors::Effect;
use crate::openstack::protocol::{Link, next_marker};
use crate::query;

/// Length of a UUID as text: a security group that is named by one is not looked up.
const UUID_LENGTH: usize = 36;

/// A port, as far as it matters here.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Port {
    pub(super) id: String,
    #[serde(default)]
    pub(super) name: String,
    #[serde(default)]
    pub(super) network_id: String,
    #[serde(default)]
    pub(super) description: String,
    #[serde(default)]
    pub(super) device_id: String,
}

/// A floating address, as far as it matters here.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct FloatingIp {
    pub(super) id: String,
    #[serde(default)]
    pub(super) description: String,
}

/// A security group, as far as it matters here.
#[derive(Debug, Clone, Deserialize)]
struct Group {
    id: String,
    #[serde(default)]
    name: String,
}

/// One page of a list.
struct Page<T> {
    rows: Vec<T>,
    /// The marker of the next; none on the last.
    next: Option<String>,
}

impl<T: DeserializeOwned> Page<T> {
    /// Reads the list `key`, and `<key>_links` beside it.
    fn read(key: &str, text: &str) -> Option<Self> {
        let mut body: Value = serde_json::from_str(text).ok()?;
        let rows = serde_json::from_value(body.get_mut(key)?.take()).ok()?;
        let links: Vec<Link> = match body.get_mut(format!("{key}_links")).map(Value::take) {
            Some(links) => serde_json::from_value(links).ok()?,
            None => Vec::new(),
        };
        Some(Self {
            rows,
            next: next_marker(&links),
        })
    }
}

impl Nova {
    /// Whether the catalog has a network service.
    pub(in crate::openstack) async fn has_network(&self) -> Result<bool, Failure> {
        Ok(self.ready().await?.network.is_some())
    }

    /// Whether the ports can be listed, without which none is made.
    pub(in crate::openstack) async fn may_list_ports(&self, trace: &Trace) -> Result<(), Failure> {
        const CALL: &str = "list ports";
        let path = "/v2.0/ports?fields=id&limit=1";
        let answer = self.look_at(Service::Network, CALL, path, trace).await?;
        match answer.status {
            StatusCode::OK => Ok(()),
            _ => Err(answer.failure(CALL, Effect::Looks, &[])),
        }
    }

    /// Every port of the project, by its name and description alone.
    pub(super) async fn all_ports(&self, trace: &Trace) -> Result<Vec<Port>, Failure> {
        let query = "fields=id&fields=name&fields=description";
        self.found("list ports", "ports", query, trace).await
    }

    /// Every floating address of the project, by its description alone.
    pub(super) async fn all_floating_ips(&self, trace: &Trace) -> Result<Vec<FloatingIp>, Failure> {
        let query = "fields=id&fields=description";
        self.found("list floating ips", "floatingips", query, trace)
            .await
    }

    /// The ports with this description.
    pub(super) async fn ports(
        &self,
        description: &str,
        trace: &Trace,
    ) -> Result<Vec<Port>, Failure> {
        let query = format!("description={description}");
        let mut ports: Vec<Port> = self.found("list ports", "ports", &query, trace).await?;
        ports.retain(|port| port.description == description);
        Ok(ports)
    }

    /// The floating addresses with this description.
    pub(super) async fn floating_ips(
        &self,
        description: &str,
        trace: &Trace,
    ) -> Result<Vec<FloatingIp>, Failure> {
        let query = format!("description={description}");
        let mut addresses: Vec<FloatingIp> = self
            .found("list floating ips", "floatingips", &query, trace)
            .await?;
        addresses.retain(|address| address.description == description);
        Ok(addresses)
    }

    /// The ids of security groups, which ports want and configurations need not.
    pub(super) async fn group_ids(
        &self,
        groups: &[String],
        trace: &Trace,
    ) -> Result<Vec<String>, Failure> {
        let mut ids = Vec::new();
        for group in groups {
            let is_id = group.len() == UUID_LENGTH && uuid::Uuid::parse_str(group).is_ok();
            ids.push(if is_id {
                group.clone()
            } else {
                self.group_id(group, trace).await?
            });
        }
        Ok(ids)
    }

    /// The id of the one security group of this name.
    async fn group_id(&self, name: &str, trace: &Trace) -> Result<String, Failure> {
        let query = format!("name={}&fields=id&fields=name", query::escape(name));
        let groups: Vec<Group> = self
            .found("list security groups", "security-groups", &query, trace)
            .await?;
        let mut named = groups.into_iter().filter(|group| group.name == name);
        let why = match (named.next(), named.next()) {
            (Some(group), None) => return Ok(group.id),
            (None, _) => format!("there is no security group `{name}`"),
            (Some(_), Some(_)) => {
                format!("several security groups are called `{name}`: write its id")
            }
        };
        Err(Failure::new(FailureKind::Refused, why))
    }

    /// All rows of a list of Neutron's, page by page: where its operators have set
    /// `pagination_max_limit`, no answer is longer than that, though no limit is asked for.
    async fn found<T: DeserializeOwned>(
        &self,
        call: &str,
        kind: &str,
        query: &str,
        trace: &Trace,
    ) -> Result<Vec<T>, Failure> {
        let trouble = |what: String| {
            Failure::new(
                FailureKind::Retry { after: None },
                format!("{call}: {what}"),
            )
        };
        let first = format!("/v2.0/{kind}?{query}");
        let mut rows = Vec::new();
        let mut marker: Option<String> = None;
        for _ in 0..MAX_PAGES {
            let path = match &marker {
                Some(marker) => format!("{first}&marker={marker}"),
                None => first.clone(),
            };
            let answer = self.look_at(Service::Network, call, &path, trace).await?;
            if answer.status != StatusCode::OK {
                return Err(answer.failure(call, Effect::Looks, &[]));
            }
            let page: Page<T> = Page::read(&kind.replace('-', "_"), &answer.text)
                .ok_or_else(|| trouble("the answer cannot be read".to_owned()))?;
            rows.extend(page.rows);
            match page.next {
                None => return Ok(rows),
                next if next == marker => {
                    return Err(trouble("the pages go round in a circle".to_owned()));
                }
                next => marker = next,
            }
        }
        Err(trouble(format!("there are more than {MAX_PAGES} pages")))
    }
}
