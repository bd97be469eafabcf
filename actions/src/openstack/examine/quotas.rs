//! Whether the quotas hold what the pools may come to.

use rhizome_engine::names::PoolName;
use serde_json::Value;

use crate::Finding;
use crate::openstack::client::{Service, Trace, segment};
use crate::openstack::{Machine, Openstack};

const ASK_FOR_MORE: &str =
    "ask the cloud's operators for more, or lower the `max` of the pools that share it";

/// A pool, how many machines it may come to, and how many it has.
pub(super) struct Pool<'a> {
    pub(super) name: &'a PoolName,
    pub(super) machine: &'a Machine,
    pub(super) most: i64,
    pub(super) ours: i64,
}

/// A quota, and what the pools may come to need of it.
struct Need {
    what: String,
    /// What all pools need at their `max` and surge.
    wanted: i64,
    /// What the machines that we have already take of it.
    ours: i64,
    used: Option<i64>,
    most: Option<i64>,
}

impl Need {
    /// None where the cloud does not tell, or nothing is wanted.
    fn finding(&self) -> Option<Finding> {
        let (used, most) = (self.used?, self.most?);
        if self.wanted == 0 {
            return None;
        }
        let (what, wanted) = (&self.what, self.wanted);
        if most < 0 {
            let said = format!("{what}: {used} used, no limit; the pools may come to {wanted}");
            return Some(Finding::ok("quota", said));
        }
        let others = (used - self.ours).max(0);
        let lacking = others + wanted - most;
        let said = format!(
            "{what}: {used} of {most} used, {others} of them by others; the pools may come to {wanted}"
        );
        Some(if lacking <= 0 {
            Finding::ok("quota", said)
        } else {
            Finding::warning("quota", format!("{said}: {lacking} too many"), ASK_FOR_MORE)
        })
    }
}

/// What all pools together need of something, and have.
#[derive(Default)]
struct Sum {
    wanted: i64,
    ours: i64,
}

impl Sum {
    fn add(&mut self, pool: &Pool<'_>, each: i64) {
        self.wanted += pool.most.saturating_mul(each);
        self.ours += pool.ours.saturating_mul(each);
    }

    fn need(&self, what: &str, used: Option<i64>, most: Option<i64>) -> Need {
        Need {
            what: what.to_owned(),
            wanted: self.wanted,
            ours: self.ours,
            used,
            most,
        }
    }
}

impl Openstack {
    /// Nova's quotas, and the flavors and server groups that the pools name.
    pub(super) async fn compute_quotas(&self, pools: &[Pool<'_>], trace: &Trace) -> Vec<Finding> {
        let limits = self.nova.seen(Service::Compute, "/limits", trace).await;
        let Some(limits) = limits else {
            let said = "Nova does not tell them, so they are seen only when they are full";
            let advice = "let our role read `/limits`";
            return vec![Finding::warning("quota", said.to_owned(), advice)];
        };
        let number = |key: &str| limits.pointer(&format!("/limits/absolute/{key}"))?.as_i64();
        let mut found = Vec::new();
        let (mut cores, mut memory) = (Sum::default(), Sum::default());
        for pool in pools {
            match self.flavor(pool.machine, trace).await {
                Ok((vcpus, ram)) => {
                    cores.add(pool, vcpus);
                    memory.add(pool, ram);
                }
                Err(said) => found.push(Finding::bad(
                    "flavor",
                    format!("{}: {said}", pool.name),
                    "`openstack flavor list` shows those that there are",
                )),
            }
        }
        let mut machines = Sum::default();
        pools.iter().for_each(|pool| machines.add(pool, 1));
        let needs = [
            machines.need(
                "instances",
                number("totalInstancesUsed"),
                number("maxTotalInstances"),
            ),
            cores.need("cores", number("totalCoresUsed"), number("maxTotalCores")),
            memory.need(
                "MiB of memory",
                number("totalRAMUsed"),
                number("maxTotalRAMSize"),
            ),
        ];
        found.extend(needs.iter().filter_map(Need::finding));
        for pool in pools {
            let most = number("maxServerGroupMembers");
            found.extend(self.server_group(pool, most, trace).await);
        }
        found
    }

    /// The cores and MiB of a pool's first flavor.
    async fn flavor(&self, machine: &Machine, trace: &Trace) -> Result<(i64, i64), String> {
        let id = machine.flavors.first().map_or("", String::as_str);
        let gone = || format!("there is no flavor `{id}` that we can see");
        let id = segment(id).map_err(|failure| failure.message)?;
        let path = format!("/flavors/{id}");
        let seen = self.nova.seen(Service::Compute, &path, trace).await;
        let seen = seen.ok_or_else(gone)?;
        let number = |key: &str| {
            seen.pointer(&format!("/flavor/{key}"))
                .and_then(Value::as_i64)
        };
        number("vcpus").zip(number("ram")).ok_or_else(gone)
    }

    async fn server_group(
        &self,
        pool: &Pool<'_>,
        most: Option<i64>,
        trace: &Trace,
    ) -> Option<Finding> {
        let id = pool.machine.server_group.as_deref()?;
        let path = format!("/os-server-groups/{}", segment(id).ok()?);
        let Some(group) = self.nova.seen(Service::Compute, &path, trace).await else {
            return Some(Finding::bad(
                "server group",
                format!(
                    "{}: there is no server group `{id}` that we can see",
                    pool.name
                ),
                "`openstack server group list` shows those that there are",
            ));
        };
        let members = group.pointer("/server_group/members")?.as_array()?;
        let mut sum = Sum::default();
        sum.add(pool, 1);
        let used = i64::try_from(members.len()).ok();
        let what = format!("members of the server group of {}", pool.name);
        sum.need(&what, used, most).finding()
    }

    /// Neutron's quotas, or why they are not seen.
    pub(super) async fn network_quotas(&self, pools: &[Pool<'_>], trace: &Trace) -> Vec<Finding> {
        let Some(quota) = self.network_quota(trace).await else {
            return vec![self.network_unseen(pools, trace).await];
        };
        let number = |key: &str, which: &str| {
            let path = format!("/quota/{key}/{which}");
            quota.pointer(&path).and_then(Value::as_i64)
        };
        let (mut ports, mut addresses) = (Sum::default(), Sum::default());
        for pool in pools {
            // Where no network is named, Nova makes one port.
            let networks = pool.machine.networks.len().max(1);
            ports.add(pool, i64::try_from(networks).unwrap_or(i64::MAX));
            addresses.add(pool, i64::from(pool.machine.floating_network.is_some()));
        }
        let needs = [
            ("ports", "port", ports),
            ("floating addresses", "floatingip", addresses),
        ];
        let needs =
            needs.map(|(what, key, sum)| sum.need(what, number(key, "used"), number(key, "limit")));
        needs.iter().filter_map(Need::finding).collect()
    }

    /// Why nothing is seen of Neutron's quotas, and whether machines can be made all the same.
    async fn network_unseen(&self, pools: &[Pool<'_>], trace: &Trace) -> Finding {
        let finding = |bad: bool, said: String, advice: &str| match bad {
            true => Finding::bad("network", said, advice),
            false => Finding::warning("network", said, advice),
        };
        let any = |wanted: fn(&Machine) -> bool| pools.iter().any(|pool| wanted(pool.machine));
        let listed = match self.nova.has_network().await {
            Ok(true) => self.nova.may_list_ports(trace).await,
            // Nova makes the ports then, but gives no floating address.
            Ok(false) => {
                return finding(
                    any(|machine| machine.floating_network.is_some()),
                    "the catalog has no network service: Nova makes all ports, and no machine \
                     gets a floating address"
                        .to_owned(),
                    "if there is one, check `openstack.region` and `openstack.interface`",
                );
            }
            Err(failure) => Err(failure),
        };
        match listed {
            Ok(()) => Finding::warning(
                "quota",
                "Neutron does not tell them, so they are seen only when they are full".to_owned(),
                "let our role read its project's quotas",
            ),
            Err(failure) => finding(
                any(Machine::wants_ports),
                failure.message,
                "while Neutron cannot be asked, no port is made and none that is left over taken \
                 away: ask the cloud's operators, and whether we may list ports",
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Health;

    #[test]
    fn a_quota_is_held_against_what_the_pools_may_come_to() {
        for (used, most, health) in [
            (Some(4), Some(10), Some(Health::Ok)),
            (Some(6), Some(10), Some(Health::Warning)),
            (Some(6), Some(-1), Some(Health::Ok)),
            (None, Some(10), None),
        ] {
            // Two of those that are used are ours.
            let sum = Sum { wanted: 7, ours: 2 };
            let found = sum.need("instances", used, most).finding();
            assert_eq!(found.map(|found| found.health), health, "{used:?} {most:?}");
        }
        let nothing = Sum::default().need("floating addresses", Some(0), Some(0));
        assert_eq!(nothing.finding(), None, "nothing is wanted of it");
        let said = Sum { wanted: 9, ours: 2 }.need("instances", Some(4), Some(10));
        let said = said.finding().unwrap().said;
        assert!(
            said.ends_with("the pools may come to 9: 1 too many"),
            "{said}"
        );
    }
}
