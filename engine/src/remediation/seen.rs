//! What the steps of an operation are measured by: what is observed of its machines, the settings
//! and the time.

use super::Moment;
use crate::names::{NodeName, VmId};
use crate::settings::{Limits, PoolSettings};
use crate::time::{Monotonic, Now};

/// Whether a thing is there.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Sight<T> {
    /// Not known: not observed in this run, or no whole listing since its start.
    Unknown,
    /// There, as last observed.
    There(T),
    /// Not there: 404 for its id, or absent from a *whole* listing.
    Gone {
        /// When the newest such listing was asked for.
        asked: Now,
    },
}

/// What is observed of an operation's machines. The cluster answers.
pub trait Seen {
    /// The VM of this id.
    fn server(&self, id: &VmId) -> Sight<crate::cluster::Server>;

    /// The Node of this name.
    fn node(&self, name: &NodeName) -> Sight<crate::cluster::Node>;

    /// When a sign of life of the node's agent last came in, in this run.
    fn heard(&self, node: &NodeName) -> Option<Now>;

    /// When the node's lease was last seen to be another than before, in this run.
    fn lease(&self, node: &NodeName) -> Option<Monotonic>;
}

/// What the steps are measured by: settings, limits and the time.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// The cluster's name, for the marks.
    pub cluster: &'a str,
    /// The operation's pool.
    pub pool: &'a PoolSettings,
    /// The guard's limits.
    pub limits: &'a Limits,
    /// The epoch that runs.
    pub epoch: u64,
    /// The time.
    pub now: Now,
    /// What cannot be seen.
    pub blind: Blind,
}

/// What cannot be seen just now: to have waited for it in vain proves nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Blind {
    /// The cloud or the cluster.
    pub cluster: bool,
    /// The agents.
    pub agents: bool,
}

impl Context<'_> {
    /// Now, as something that survives a restart.
    pub fn here(&self) -> Moment {
        self.moment(self.now)
    }

    /// A time of this run, as something that survives a restart.
    pub fn moment(&self, at: Now) -> Moment {
        Moment {
            epoch: self.epoch,
            at,
        }
    }
}
