//! The real services, which all tests of this process share.

use std::collections::BTreeMap;

use crate::scripts::{self, Shared};

/// Addresses, ids and credentials of the services that run.
pub struct Openstack(BTreeMap<String, String>);

impl Openstack {
    pub fn get(&self, name: &str) -> &str {
        &self.0[name]
    }
}

/// The services, fresh: what an earlier run left behind is forgotten. None if they cannot be had.
pub fn openstack() -> Option<&'static Openstack> {
    static OPENSTACK: Shared<Openstack> = Shared::new("openstack");
    OPENSTACK.get(|| {
        let fresh = std::env::var_os("RHIZOME_SERVERS_KEEP").is_none();
        let up = (!fresh || scripts::run("openstack", "down", &["--wipe"], &[]))
            && scripts::run("openstack", "up", &[], &[]);
        up.then(|| Openstack(scripts::env("openstack")))
    })
}
