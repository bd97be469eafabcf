//! The poll: lists our servers, says how well they can be seen, and asks by id for those that
//! are no longer in the list.

use std::collections::BTreeSet;
use std::time::Duration;

use rhizome_engine::action::{Failure, FailureKind, mark};
use rhizome_engine::event::{Observation, ServerStatus, ServerView, SourceName, SourceReport};
use rhizome_engine::names::VmId;
use rhizome_engine::time::Monotonic;
use tokio::sync::mpsc;

use super::Openstack;
use super::client::Trace;
use super::protocol::ServerBody;
use crate::Seen;

/// Servers asked for by id in one poll. More that go missing at once are an incomplete list
/// rather than so many deletions; they are asked for in the polls after.
const MAX_ASKED: usize = 20;
/// How often ports are looked at. What is left over there costs an address, and is taken away
/// when it has been seen for five minutes: at the fourth look.
const PORTS_EVERY: Duration = Duration::from_secs(120);
/// A source is to be reported on at least this often.
const REPORT_EVERY: Duration = SourceReport::EVERY;

impl Openstack {
    /// Lists until nobody listens. May be dropped at any point.
    pub(super) async fn poll(&self, out: mpsc::Sender<Seen>) {
        let interval = self.options.poll.min(REPORT_EVERY);
        let mut known: BTreeSet<VmId> = BTreeSet::new();
        let mut last_whole: Monotonic = self.clock.now().mono;
        // At once: what a restart left undone is told soon.
        let mut ports_due = last_whole;
        let mut was_flowing = true;
        loop {
            let (mut seen, trouble) = self.look_once(&mut known).await;
            let now = self.clock.now().mono;
            if now >= ports_due && trouble.is_empty() {
                ports_due = now.plus(PORTS_EVERY);
                seen.extend(self.ports().await);
            }
            if trouble.is_empty() {
                last_whole = now;
            }
            let flowing = trouble.is_empty();
            match (was_flowing, flowing) {
                (true, false) => tracing::warn!(%trouble, "openstack cannot be seen well"),
                (false, true) => tracing::info!("openstack is seen again"),
                _ => {}
            }
            was_flowing = flowing;
            let report = SourceReport {
                source: SourceName::Openstack,
                flowing,
                lag: now.since(last_whole),
                refilled: true,
                trouble,
            };
            for seen in seen
                .into_iter()
                .map(Seen::Observation)
                .chain([Seen::Source(report)])
            {
                if out.send(seen).await.is_err() {
                    return;
                }
            }
            tokio::select! {
                () = self.clock.sleep(interval) => {}
                () = self.nudge.notified() => {}
            }
        }
    }

    /// One listing, and by id what is missing from it.
    async fn look_once(&self, known: &mut BTreeSet<VmId>) -> (Vec<Observation>, String) {
        let trace = Trace::new();
        let (listing, trouble) = match self.listing(&trace).await {
            Ok(listed) => listed,
            Err(failure) => return (Vec::new(), failure.message),
        };
        let listed: BTreeSet<VmId> = match &listing {
            Observation::Servers { servers, .. } => {
                servers.iter().map(|server| server.id.clone()).collect()
            }
            _ => BTreeSet::new(),
        };
        let touched: Vec<VmId> = self
            .touched
            .iter()
            .map(|entry| entry.key().clone())
            .collect();
        let missing: BTreeSet<VmId> = known
            .iter()
            .chain(&touched)
            .filter(|id| !listed.contains(*id))
            .cloned()
            .collect();
        let mut seen = vec![listing];
        for id in missing.iter().take(MAX_ASKED) {
            match self.nova.server(id, &trace).await {
                Err(Failure {
                    kind: FailureKind::NotFound,
                    ..
                }) => {
                    known.remove(id);
                    self.touched.remove(id);
                    seen.push(Observation::ServerGone(id.clone()));
                }
                // No longer ours by its marks, or in a down cell: the engine sees what it is.
                Ok(server) => seen.push(Observation::Server(server.view())),
                Err(failure) => tracing::debug!(vm = %id, error = %failure, "cannot ask for it"),
            }
        }
        known.extend(listed);
        (seen, trouble)
    }

    /// Whose ports there are, if it can be seen.
    async fn ports(&self) -> Option<Observation> {
        let trace = Trace::new();
        let seen = match self.nova.has_network().await {
            Ok(true) => self.look_at_ports(&trace).await,
            Ok(false) => return None,
            Err(failure) => Err(failure),
        };
        match seen {
            Ok(ports) => Some(Observation::Ports(ports)),
            Err(error) => {
                // Nothing rests on it: what is left over is found at a later look.
                tracing::debug!(%error, "ports cannot be looked at");
                None
            }
        }
    }

    /// Why servers are in ERROR: of one that never had a host (`No valid host`) Nova tells it by
    /// the id alone, and not in a list (seen on Nova 26).
    async fn ask_why(&self, servers: &mut [ServerView], trace: &Trace) {
        let untold = servers
            .iter_mut()
            .filter(|server| server.status == ServerStatus::Error && server.fault.is_none());
        for server in untold.take(MAX_ASKED) {
            // The list was whole without it: a failure here costs the reason and no more.
            if let Ok(asked) = self.nova.server(&server.id, trace).await {
                server.fault = asked.view().fault;
            }
        }
    }

    /// Which flavors and zones there was no room for, by the servers that came to nothing.
    fn learn_room(&self, servers: &[ServerView]) {
        let now = self.clock.now().mono;
        for server in servers {
            let operation = server.metadata.get(mark::OPERATION);
            let Some(operation) = operation.and_then(|mark| mark.parse().ok()) else {
                continue;
            };
            match (&server.status, &server.fault) {
                (ServerStatus::Error, Some(fault)) => {
                    self.candidates.in_error(operation, fault, now);
                }
                (ServerStatus::Active, _) => self.candidates.over(operation),
                _ => {}
            }
        }
    }

    /// All our servers, and what is wrong with the listing.
    pub(super) async fn listing(&self, trace: &Trace) -> Result<(Observation, String), Failure> {
        let at = self.clock.now().wall;
        let ours = |server: ServerBody| server.ours(&self.options.cluster).then(|| server.view());
        let listing = self.nova.servers(trace, ours).await?;
        let complete = listing.complete();
        let trouble = listing.troubles.join("; ");
        let mut servers = listing.servers;
        self.ask_why(&mut servers, trace).await;
        self.learn_room(&servers);
        Ok((
            Observation::Servers {
                at,
                complete,
                servers,
            },
            trouble,
        ))
    }
}
