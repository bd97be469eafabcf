//! Zones and hypervisors: how many VMs of our pools stand on each.
//!
//! Counted as VMs come, go and move, so that nobody looks at all of them to tell whether half of a
//! zone is ill. Their names are kept once, however many VMs have them.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Server;

/// What kind of thing fails as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// An availability zone.
    Zone,
    /// The host under the VM, as Nova names it to a project.
    Hypervisor,
}

/// See the head of the file.
#[derive(Debug, Default)]
pub(super) struct Domains {
    sizes: BTreeMap<(Kind, Arc<str>), usize>,
}

impl Server {
    /// What the VM stands on.
    pub(crate) fn domains(&self) -> impl Iterator<Item = (Kind, &Arc<str>)> {
        let zone = self.zone.as_ref().map(|zone| (Kind::Zone, zone));
        let host = self.host.as_ref().map(|host| (Kind::Hypervisor, host));
        zone.into_iter().chain(host)
    }
}

impl Domains {
    /// How many stand on it.
    pub(super) fn size(&self, kind: Kind, name: &Arc<str>) -> usize {
        let size = self.sizes.get(&(kind, Arc::clone(name)));
        size.copied().unwrap_or_default()
    }

    /// A VM is in a pool from now on. Its names become those that the others have.
    pub(super) fn enter(&mut self, server: &mut Server) {
        let zone = server.zone.as_mut().map(|zone| (Kind::Zone, zone));
        let host = server.host.as_mut().map(|host| (Kind::Hypervisor, host));
        for (kind, name) in zone.into_iter().chain(host) {
            let key = (kind, Arc::clone(name));
            if let Some(((_, kept), _)) = self.sizes.get_key_value(&key) {
                *name = Arc::clone(kept);
            }
            *self.sizes.entry(key).or_default() += 1;
        }
    }

    /// It is in none any more, or is another.
    pub(super) fn leave(&mut self, server: &Server) {
        for (kind, name) in server.domains() {
            let key = (kind, Arc::clone(name));
            if let Some(size) = self.sizes.get_mut(&key) {
                *size -= 1;
                if *size == 0 {
                    self.sizes.remove(&key);
                }
            }
        }
    }
}
