//! What a doctor finds: by whose credentials we come, whether we are let in and may make
//! machines, whether the clocks agree, and whether the quotas hold what the pools may come to.
//! Nothing is changed by it.

mod quotas;

use std::collections::BTreeMap;

use reqwest::header::DATE;
use rhizome_engine::action::mark;
use rhizome_engine::event::{Observation, ServerView};
use rhizome_engine::names::PoolName;

use super::client::{Service, Trace};
use super::{Credentials, Named, Openstack};
use crate::findings::clocks;
use crate::{Executor, Finding};
use quotas::Pool;

/// Roles that may make servers by OpenStack's own policies. A cloud's policies may differ, so
/// that none of them is there is told and no more.
const MAKERS: [&str; 4] = ["member", "_member_", "manager", "admin"];

impl Openstack {
    /// Looks at everything that has to be right before Rhizome can work in the cloud.
    ///
    /// `source` says where the credentials come from, and `most` how many machines each pool may
    /// come to.
    pub async fn examine(&self, source: &str, most: &BTreeMap<PoolName, u32>) -> Vec<Finding> {
        let trace = Trace::new();
        let mut found = vec![Finding::ok(
            "credentials",
            format!("{}, from {source}", describe(&self.options.credentials)),
        )];
        let token = match self.nova.ready().await {
            Ok(token) => token,
            Err(failure) => {
                let advice = "check `openstack`: the address, the CA and the credentials";
                found.push(Finding::bad("cloud", failure.message, advice));
                return found;
            }
        };
        found.push(roles(&token.roles));
        let servers = match self.observe().await {
            Ok(seen) => listed(seen),
            Err(failure) => {
                let advice = "give our project's role the right to list its servers";
                found.push(Finding::bad("cloud", failure.message, advice));
                return found;
            }
        };
        let said = format!("we are let in, and see {} servers", servers.len());
        found.push(Finding::ok("cloud", said));
        found.extend(self.clocks(&trace).await);
        let pools: Vec<_> = self
            .options
            .machines
            .iter()
            .map(|(name, machine)| {
                let ours = servers.iter().filter(|server| self.is_of(server, name));
                Pool {
                    name,
                    machine,
                    most: most.get(name).copied().map_or(0, i64::from),
                    ours: i64::try_from(ours.count()).unwrap_or(i64::MAX),
                }
            })
            .collect();
        found.extend(self.compute_quotas(&pools, &trace).await);
        found.extend(self.network_quotas(&pools, &trace).await);
        found
    }

    fn is_of(&self, server: &ServerView, pool: &PoolName) -> bool {
        let mark = |key: &str| server.metadata.get(key);
        mark(mark::CLUSTER) == Some(self.options.cluster.as_str())
            && mark(mark::POOL) == Some(pool.as_str())
    }

    /// Our clock and Nova's.
    async fn clocks(&self, trace: &Trace) -> Option<Finding> {
        let answer = self
            .nova
            .look_at(Service::Compute, "look at the clock", "/limits", trace)
            .await
            .ok()?;
        let date = answer.headers.get(DATE)?.to_str().ok()?;
        clocks(self.clock.now().wall, date)
    }
}

fn listed(seen: Vec<Observation>) -> Vec<ServerView> {
    let lists = seen.into_iter().filter_map(|one| match one {
        Observation::Servers { servers, .. } => Some(servers),
        _ => None,
    });
    lists.flatten().collect()
}

fn roles(roles: &[String]) -> Finding {
    let said = format!("in this project we are: {}", roles.join(", "));
    if roles.is_empty() || roles.iter().any(|role| MAKERS.contains(&role.as_str())) {
        return Finding::ok("roles", said);
    }
    Finding::warning(
        "roles",
        said,
        "making and deleting servers is usually the right of `member`: have it given to us",
    )
}

/// Who we are. No part of a secret is told.
fn describe(credentials: &Credentials) -> String {
    let name = |named: &Named| match named {
        Named::Name(name) => format!("`{name}`"),
        Named::Id(id) => format!("with the id `{id}`"),
    };
    match credentials {
        Credentials::Password {
            username, project, ..
        } => format!(
            "the password (****) of the user {}, project {}",
            name(username),
            name(project)
        ),
        Credentials::ApplicationCredential { id, .. } => {
            format!("the application credential `{id}` (****)")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Health;

    #[test]
    fn who_we_are_is_told_without_our_secret() {
        let secret = "s3cr3t-of-ours";
        let password = Credentials::Password {
            username: "rhizome".into(),
            user_domain: "Default".into(),
            password: secret.to_owned().into(),
            project: Named::Id("p1".to_owned()),
            project_domain: "Default".into(),
        };
        let credential = Credentials::ApplicationCredential {
            id: "a1".to_owned(),
            secret: secret.to_owned().into(),
        };
        for (credentials, name) in [(password, "`rhizome`"), (credential, "`a1`")] {
            let said = describe(&credentials);
            assert!(said.contains(name) && said.contains("****"), "{said}");
            assert!(!said.contains(secret), "{said}");
        }
    }

    #[test]
    fn a_role_that_may_only_read_is_told() {
        let health = |names: &[&str]| {
            let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
            roles(&names).health
        };
        assert_eq!(health(&["reader"]), Health::Warning);
        assert_eq!(health(&["reader", "member"]), Health::Ok);
    }
}
