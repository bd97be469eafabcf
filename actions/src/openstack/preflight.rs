//! Before a server is asked for: whether the quotas leave room for it.
//!
//! A look that cannot be made stops nothing: then the services say it themselves. But a quota
//! that is seen to be full costs no port, no token and no server in ERROR.

use reqwest::StatusCode;
use rhizome_engine::action::{Failure, FailureKind};
use serde_json::Value;

use super::client::{Nova, Service, Trace};
use super::{Machine, Openstack};

/// One quota: what it is of, how much of it is wanted, used and allowed.
struct Row {
    what: &'static str,
    wanted: i64,
    used: Option<i64>,
    most: Option<i64>,
}

impl Row {
    /// The refusal, if it is seen that there is no room. A negative limit is none.
    fn refusal(&self) -> Option<Failure> {
        let (used, most) = (self.used?, self.most?);
        (most >= 0 && used + self.wanted > most).then(|| {
            Failure::new(
                FailureKind::NoCapacity,
                format!(
                    "the quota leaves no room: {} wanted of {}, {used} of {most} used; ask the cloud's operators for more, or lower the pool's `max`",
                    self.wanted, self.what
                ),
            )
        })
    }
}

impl Openstack {
    /// Whether there is room for one more machine of this flavor.
    ///
    /// # Errors
    ///
    /// `NoCapacity` with the quota that is full.
    pub(super) async fn room_for(
        &self,
        machine: &Machine,
        flavor: &str,
        trace: &Trace,
    ) -> Result<(), Failure> {
        let rows = self.compute_rows(machine, flavor, trace).await;
        rows.iter().find_map(Row::refusal).map_or(Ok(()), Err)
    }

    /// Whether there is room for so many more ports and floating addresses.
    ///
    /// # Errors
    ///
    /// `NoCapacity` with the quota that is full.
    pub(super) async fn room_on_network(
        &self,
        ports: usize,
        addresses: usize,
        trace: &Trace,
    ) -> Result<(), Failure> {
        if ports + addresses == 0 {
            return Ok(());
        }
        let rows = self.network_rows(ports, addresses, trace).await;
        rows.iter().find_map(Row::refusal).map_or(Ok(()), Err)
    }

    async fn compute_rows(&self, machine: &Machine, flavor: &str, trace: &Trace) -> Vec<Row> {
        let Some(limits) = self.nova.seen(Service::Compute, "/limits", trace).await else {
            return Vec::new();
        };
        let number = |key: &str| limits.pointer(&format!("/limits/absolute/{key}"))?.as_i64();
        let mut rows = vec![Row {
            what: "instances",
            wanted: 1,
            used: number("totalInstancesUsed"),
            most: number("maxTotalInstances"),
        }];
        let size = match super::client::segment(flavor) {
            Ok(id) => {
                self.nova
                    .seen(Service::Compute, &format!("/flavors/{id}"), trace)
                    .await
            }
            Err(_) => None,
        };
        for (what, key, used, most) in [
            ("cores", "vcpus", "totalCoresUsed", "maxTotalCores"),
            ("MiB of memory", "ram", "totalRAMUsed", "maxTotalRAMSize"),
        ] {
            let wanted = size
                .as_ref()
                .and_then(|size| size.pointer(&format!("/flavor/{key}")));
            if let Some(wanted) = wanted.and_then(Value::as_i64) {
                rows.push(Row {
                    what,
                    wanted,
                    used: number(used),
                    most: number(most),
                });
            }
        }
        if let Some(id) = machine
            .server_group
            .as_deref()
            .and_then(|id| super::client::segment(id).ok())
            && let Some(group) = self
                .nova
                .seen(Service::Compute, &format!("/os-server-groups/{id}"), trace)
                .await
        {
            let members = group
                .pointer("/server_group/members")
                .and_then(Value::as_array);
            rows.push(Row {
                what: "members of the server group",
                wanted: 1,
                used: members.and_then(|members| i64::try_from(members.len()).ok()),
                most: number("maxServerGroupMembers"),
            });
        }
        rows
    }

    async fn network_rows(&self, ports: usize, addresses: usize, trace: &Trace) -> Vec<Row> {
        let Some(quota) = self.network_quota(trace).await else {
            return Vec::new();
        };
        let row = |what, key: &str, wanted: usize| Row {
            what,
            wanted: i64::try_from(wanted).unwrap_or(i64::MAX),
            used: quota
                .pointer(&format!("/quota/{key}/used"))
                .and_then(Value::as_i64),
            most: quota
                .pointer(&format!("/quota/{key}/limit"))
                .and_then(Value::as_i64),
        };
        vec![
            row("ports", "port", ports),
            row("floating addresses", "floatingip", addresses),
        ]
    }
}

impl Openstack {
    /// Neutron's quotas and what is used of them; none if they cannot be seen.
    pub(super) async fn network_quota(&self, trace: &Trace) -> Option<Value> {
        let token = self.nova.ready().await.ok()?;
        let (_, project) = token.network.as_ref().zip(token.project.as_ref())?;
        let path = format!("/v2.0/quotas/{project}/details.json");
        self.nova.seen(Service::Network, &path, trace).await
    }
}

impl Nova {
    /// What a look shows; none if it cannot be made.
    pub(super) async fn seen(&self, service: Service, path: &str, trace: &Trace) -> Option<Value> {
        const CALL: &str = "look before a create";
        match self.look_at(service, CALL, path, trace).await {
            Ok(answer) if answer.status == StatusCode::OK => {
                serde_json::from_str(&answer.text).ok()
            }
            Ok(answer) => {
                tracing::debug!(
                    path,
                    status = answer.status.as_u16(),
                    "a quota cannot be seen"
                );
                None
            }
            Err(error) => {
                tracing::debug!(path, %error, "a quota cannot be seen");
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quota_that_is_not_seen_or_has_no_limit_refuses_nothing() {
        let rows = [
            (Some(9), Some(10), true),
            (Some(10), Some(10), false),
            (Some(10), Some(-1), true),
            (None, Some(10), true),
            (Some(10), None, true),
        ];
        for (used, most, fine) in rows {
            let row = Row {
                what: "instances",
                wanted: 1,
                used,
                most,
            };
            assert_eq!(row.refusal().is_none(), fine, "{used:?} of {most:?}");
        }
    }
}
