//! A stand-in cloud and a stand-in cluster over real HTTP, with guests, faults and a ledger.
//!
//! It serves `rhizome demo`, the simulation and the tests, and knows no story: what happens
//! follows from what is asked of it, from its [`Options`], from the [`Rule`]s that are added
//! and from the clock that it is given. Clients must not be able to tell it from the real
//! services, as far as it goes; where a text or a time was seen on a real one, the place
//! says so. It may not be used by the engine or by the rooms that act.
//!
//! A request's way: `http.rs` reads it → `front.rs` writes it into the ledger and asks the
//! faults → `keystone.rs`, `nova/` or `kube/` carry it out on the `World` → it is answered.
//! Meanwhile `World::step` moves `cloud.rs`, `guest.rs`, the controllers in `kube/` and
//! `agent.rs` on. `kubelet.rs` is a guest for real clusters, and for containers that play machines
//! (`hosts.rs`); `certificate.rs` is what servers in such containers show. `checker.rs` judges ledger and world at any moment.
//! `relay.rs` puts the same faults and the same ledger in front of real services.

mod agent;
mod certificate;
pub mod checker;
mod clock;
mod cloud;
mod faults;
mod front;
mod guest;
mod hosts;
mod http;
mod ids;
mod json;
mod keystone;
mod kube;
pub mod kubelet;
mod ledger;
mod neutron;
mod nova;
mod options;
mod relay;
mod user_data;
mod world;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use rhizome_engine::time::Clock;
use tokio::net::TcpListener;

pub use agent::Load;
pub use certificate::{Certificate, certify};
pub use clock::{ManualClock, ScaledClock};
pub use cloud::{Cloud, FloatingIp, Port, Server, ServerFault, Task, VmState};
pub use faults::{Fault, Faults, NO_VALID_HOST, Refusal, Rule, RuleId};
pub use guest::{Cure, Guest, Guests, Illness, Phase};
pub use http::Api;
pub use kube::{Cluster, Kind, Workload};
pub use ledger::{Effect, Entry, Fact, Fate, Ledger};
pub use options::{Credentials, Flavor, Options, Quota};
pub use relay::{Real, Relay};
pub use world::World;

use front::Front;

/// Takes what the agents publish: the node and the record.
pub type Sink = dyn Fn(&str, Vec<u8>) + Send + Sync;

/// Where the stand-ins listen.
#[derive(Debug, Clone)]
pub struct Place {
    /// OpenStack's address.
    pub openstack: SocketAddr,
    /// Kubernetes' address.
    pub kubernetes: SocketAddr,
    /// The name under which they are reached, for the links in their answers; without one, the
    /// address.
    pub name: Option<String>,
}

impl Default for Place {
    /// Two free ports of the loopback address.
    fn default() -> Self {
        let free = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        Self {
            openstack: free,
            kubernetes: free,
            name: None,
        }
    }
}

/// Running stand-ins. They stop when [`Standin::stop`] is called or this is dropped.
pub struct Standin {
    front: Arc<Front>,
    credentials: Credentials,
    openstack: SocketAddr,
    kubernetes: SocketAddr,
}

impl Standin {
    /// Starts a cloud and a cluster, empty, on two free ports of the loopback address.
    ///
    /// # Errors
    ///
    /// Returns the error of the system when no port can be had.
    pub async fn start(options: Options, clock: Arc<dyn Clock>) -> io::Result<Self> {
        Self::start_at(Place::default(), options, clock).await
    }

    /// The same, at a place of the caller's choice. Nothing is encrypted, and its passwords are
    /// known: no place for the world to see.
    ///
    /// # Errors
    ///
    /// Returns the error of the system when a port cannot be had.
    pub async fn start_at(
        place: Place,
        options: Options,
        clock: Arc<dyn Clock>,
    ) -> io::Result<Self> {
        let credentials = options.credentials.clone();
        let world = World::new(Arc::new(options), clock.now().wall);
        let front = Arc::new(Front::new(world, clock));
        let name = place.name.as_deref();
        let openstack = listen(Api::OpenStack, place.openstack, name, &front).await?;
        let kubernetes = listen(Api::Kubernetes, place.kubernetes, name, &front).await?;
        front.tasks.spawn(Arc::clone(&front).tick());
        Ok(Self {
            front,
            credentials,
            openstack,
            kubernetes,
        })
    }

    /// Where Keystone is: `http://127.0.0.1:port`. `/v3` may be added, as on a real one; Nova
    /// is found through the catalogue.
    pub fn openstack_url(&self) -> String {
        format!("http://{}", self.openstack)
    }

    /// Where the API server is: `http://127.0.0.1:port`.
    pub fn kubernetes_url(&self) -> String {
        format!("http://{}", self.kubernetes)
    }

    /// Who may use them.
    pub fn credentials(&self) -> &Credentials {
        &self.credentials
    }

    /// Looks at the world, or changes it from outside, brought up to the clock's time.
    pub fn world<T>(&self, look: impl FnOnce(&mut World) -> T) -> T {
        self.front.with(|world, _| look(world))
    }

    /// Adds a rule.
    pub fn fault(&self, rule: Rule) -> RuleId {
        self.front.with(|world, faults| faults.add(rule, world))
    }

    /// Looks at the faults, or changes them.
    pub fn faults<T>(&self, change: impl FnOnce(&mut Faults) -> T) -> T {
        self.front.with(|_, faults| change(faults))
    }

    /// What was asked and what happened up to now.
    pub fn ledger(&self) -> Ledger {
        self.world(|world| world.ledger.clone())
    }

    /// Hands what the agents publish from now on to `sink`. It is called outside of every
    /// lock of the stand-ins, and should not take long.
    pub fn deliver_to(&self, sink: impl Fn(&str, Vec<u8>) + Send + Sync + 'static) {
        self.front.set_sink(Arc::new(sink));
    }

    /// Stops: closes both ports and every connection, and waits for what is under way.
    pub async fn stop(self) {
        self.front.stop.cancel();
        self.front.tasks.close();
        self.front.tasks.wait().await;
    }
}

impl Drop for Standin {
    fn drop(&mut self) {
        self.front.stop.cancel();
    }
}

async fn listen(
    api: Api,
    address: SocketAddr,
    name: Option<&str>,
    front: &Arc<Front>,
) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind(address).await?;
    let address = listener.local_addr()?;
    let base = match name {
        Some(name) => format!("http://{name}:{}", address.port()),
        None => format!("http://{address}"),
    };
    front
        .tasks
        .spawn(http::serve(listener, api, base, Arc::clone(front)));
    Ok(address)
}
