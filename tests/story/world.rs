//! What the story is told on: the world outside of Rhizome, and what can happen to it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// A cloud, a cluster, a broker and the machines between them.
///
/// Two of these exist, and the courses cannot tell which one they are played on.
pub(crate) trait World {
    /// Where everything is, for the program's configuration.
    fn place(&self) -> &Place;

    /// How fast things go here.
    fn pace(&self) -> &Pace;

    /// Sets how many of the workers would be kept busy altogether: 1.0 is one whole worker.
    fn set_demand(&mut self, workers: f64);

    /// What goes on here by itself; called again and again while something is waited for.
    fn go_on(&mut self);

    /// Puts so many pods to work, of which so many must stay healthy.
    fn put_to_work(&mut self, pods: usize, healthy: usize);

    /// Something befalls a worker.
    fn strike(&mut self, worker: &Worker, what: Strike);

    /// Takes back what does not pass by itself.
    fn mend(&mut self, worker: &Worker, what: Strike);

    /// Stops the broker, or lets it go on.
    fn set_kafka(&mut self, up: bool);

    /// Stops Keystone, or lets it go on.
    fn set_keystone(&mut self, up: bool);

    /// What Nova, Neutron and the API server say there is; nothing while one does not answer.
    fn truth(&mut self) -> Option<Truth>;

    /// What this world alone can find wrong, once everything is over.
    fn wrong(&mut self) -> Vec<String>;

    /// What it has to say when the story does not go on.
    fn tell(&mut self) -> String;
}

/// What can befall a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Strike {
    /// Its plug is pulled, and no reboot brings it back.
    PlugPulled,
    /// It reboots by itself, sooner than anybody misses it.
    QuickReboot,
    /// It hangs, and Nova goes on saying ACTIVE.
    Hung,
    /// Its network cable is pulled.
    Cut,
    /// Somebody stops it by the cloud's API.
    Stopped,
    /// Its metrics agent alone dies.
    AgentDead,
}

/// A worker as its operators know it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Worker {
    /// Its server's id.
    pub(crate) server: String,
    /// Its node's name, which is its server's, too.
    pub(crate) node: String,
}

/// Where everything is.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    /// The one pool; what is in it is named by it, and the rest of the world is not.
    pub(crate) pool: String,
    /// What Rhizome calls the cluster, in the marks of all that is its own.
    pub(crate) cluster_name: String,
    /// Keystone, with `/v3`.
    pub(crate) keystone: String,
    /// The part of the configuration that says who we are there.
    pub(crate) login: String,
    /// The secret of it.
    pub(crate) secret: String,
    /// The API server's address.
    pub(crate) cluster: String,
    /// Its CA, where it has one.
    pub(crate) ca: Option<PathBuf>,
    /// The token of a service account with Rhizome's rights.
    pub(crate) token: String,
    /// The API server as machines reach it.
    pub(crate) endpoint: String,
    /// The pin of its CA.
    pub(crate) pin: String,
    /// The pool's image, flavor and network, by id.
    pub(crate) image: String,
    pub(crate) flavor: String,
    pub(crate) network: String,
    /// A template of user data in place of the one that is shipped.
    pub(crate) template: Option<String>,
    /// The broker.
    pub(crate) broker: String,
    /// The topic of the metrics.
    pub(crate) topic: String,
}

/// How fast things go: what an operator would write into policies and configuration here.
#[derive(Debug, Clone)]
pub(crate) struct Pace {
    /// How often a state is looked at: real services are asked less often.
    pub(crate) look: Duration,
    /// The window of cpu, and for how long a condition must hold.
    pub(crate) window: &'static str,
    pub(crate) hold: &'static str,
    pub(crate) cooldown: &'static str,
    /// From when on an agent is missed.
    pub(crate) silent: &'static str,
    /// How long a lease may be overdue.
    pub(crate) lease_grace: &'static str,
    /// How long a rung has to show effect: a reboot that helps must be over by then.
    pub(crate) rung: &'static str,
    /// The same where no reboot helps, so that it is waited for in vain.
    pub(crate) rung_in_vain: &'static str,
    /// How often the servers are listed.
    pub(crate) poll: &'static str,
    /// The waits of the guard, and those for a create of unknown outcome.
    pub(crate) calm: &'static str,
    pub(crate) settle: &'static str,
    /// How long the broker is away.
    pub(crate) kafka_away: Duration,
    /// Longer than anything that is missed takes to have consequences.
    pub(crate) quiet: Duration,
}

/// What there is, by those who must know.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Truth {
    /// Nova: id to name and status.
    pub(crate) servers: BTreeMap<String, (String, String)>,
    /// Neutron: id to the server that it belongs to, if any.
    pub(crate) ports: BTreeMap<String, String>,
    /// The API server's nodes.
    pub(crate) nodes: BTreeMap<String, Node>,
    /// Its bootstrap tokens.
    pub(crate) tokens: Vec<String>,
    /// The pods put to work: those that run, and on which node.
    pub(crate) running: BTreeMap<String, String>,
}

/// A node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Node {
    /// The server in its provider id.
    pub(crate) server: String,
    pub(crate) uid: String,
    pub(crate) ready: bool,
    pub(crate) cordoned: bool,
}
