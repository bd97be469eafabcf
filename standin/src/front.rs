//! Between the wire and the world: the ledger's pen, the faults, and the lock.
//!
//! Every request passes here: written down on arrival, met by a fault or not, carried out on
//! the world, answered. The world is only touched under the lock, and never across a wait. In a
//! relay it is real services that carry it out, and the world holds no more than the ledger.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures::StreamExt as _;
use http_body_util::StreamBody;
use hyper::body::Frame;
use hyper::{Response, StatusCode};
use rhizome_engine::time::{BoxFuture, Clock, Monotonic, Timestamp};
use serde_json::Value;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::cloud::{Outcome, Server};
use crate::faults::{Fault, Faults, Met};
use crate::http::{Answer, Api, Broken, Content, OutBody, Request, whole};
use crate::kube::watch::WatchRequest;
use crate::ledger::{Effect, Entry, operation_in};
use crate::relay::Behind;
use crate::world::World;
use crate::{Sink, hosts, keystone, kube, neutron, nova};

/// Watch lines that may wait for a slow reader.
const WATCH_QUEUE: usize = 64;

/// What goes back to the connection.
pub(crate) enum Reply {
    Answer(Response<OutBody>),
    /// Close it.
    Break,
}

/// The stand-ins' state and everything around it.
pub(crate) struct Front {
    state: Mutex<(World, Faults)>,
    clock: Arc<dyn Clock>,
    started: (Timestamp, Monotonic),
    changed: watch::Sender<u64>,
    sink: Mutex<Option<Arc<Sink>>>,
    /// Real services, where they and not the world carry requests out.
    behind: Option<Behind>,
    pub(crate) stop: CancellationToken,
    pub(crate) tasks: TaskTracker,
}

impl Front {
    pub(crate) fn new(world: World, clock: Arc<dyn Clock>) -> Self {
        Self {
            started: (world.now, clock.now().mono),
            state: Mutex::new((world, Faults::default())),
            clock,
            changed: watch::Sender::new(0),
            sink: Mutex::new(None),
            behind: None,
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
        }
    }

    /// The same in front of real services.
    pub(crate) fn before(behind: Behind, world: World, clock: Arc<dyn Clock>) -> Self {
        Self {
            behind: Some(behind),
            ..Self::new(world, clock)
        }
    }

    pub(crate) fn clock(&self) -> Arc<dyn Clock> {
        Arc::clone(&self.clock)
    }

    /// Wakes when the cluster's objects or the faults have changed.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    pub(crate) fn set_sink(&self, sink: Arc<Sink>) {
        *self.sink.lock().unwrap_or_else(PoisonError::into_inner) = Some(sink);
    }

    /// Looks at or changes the world, brought up to now; then tells watches and the sink.
    ///
    /// The cloud's time runs on the monotonic clock: a wall clock that is stepped is
    /// Rhizome's machine's trouble, not the cloud's.
    pub(crate) fn with<T>(&self, look: impl FnOnce(&mut World, &mut Faults) -> T) -> T {
        let (answer, records, changed) = {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            let (world, faults) = &mut *state;
            let before = (world.cluster.store.version(), faults.switches());
            let passed = self.clock.now().mono.since(self.started.1);
            world.advance(self.started.0.plus(passed));
            let answer = look(world, faults);
            let after = (world.cluster.store.version(), faults.switches());
            (answer, std::mem::take(&mut world.outbox), before != after)
        };
        if changed {
            self.changed.send_modify(|count| *count += 1);
        }
        if !records.is_empty() {
            let sink = self
                .sink
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clone();
            if let Some(sink) = sink {
                for (node, record) in records {
                    sink(&node, record);
                }
            }
        }
        answer
    }

    /// Lets time run while nobody asks anything.
    pub(crate) async fn tick(self: Arc<Self>) {
        loop {
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = self.clock.sleep(crate::world::STEP) => self.with(|_, _| ()),
            }
        }
    }

    /// Answers one request.
    pub(crate) async fn handle(self: Arc<Self>, request: Request) -> Reply {
        let (number, met) = self.with(|world, faults| {
            let met = faults.meet(&request);
            let entry = arrival(world, &request, met.as_ref());
            (world.ledger.arrive(entry), met)
        });
        let Some(Met { fault, snapshot }) = met else {
            let answer = self.perform(&request, number, None).await;
            return self.send(answer, None);
        };
        match fault {
            Fault::Refuse(refusal) => {
                let answer = refusal.answer();
                self.settle(number, Some(answer.status), Effect::None);
                self.send(answer, None)
            }
            Fault::Delay(time) => {
                self.clock.sleep(time).await;
                let answer = self.perform(&request, number, None).await;
                self.send(answer, None)
            }
            Fault::Withdrawn(after) => {
                self.withdraw(&request).await;
                self.clock.sleep(after).await;
                let answer = self.perform(&request, number, None).await;
                self.send(answer, None)
            }
            Fault::DropBefore => Reply::Break,
            Fault::DropAfter => {
                self.perform(&request, number, None).await;
                self.settle_status(number, None);
                Reply::Break
            }
            Fault::DoneBut(refusal) => {
                self.perform(&request, number, None).await;
                let answer = refusal.answer();
                self.settle_status(number, Some(answer.status));
                self.send(answer, None)
            }
            Fault::DoLate(after, refusal) => {
                let status = refusal.as_ref().map(|refusal| refusal.status);
                self.settle(number, status, Effect::Pending);
                // The time runs from now, not from when the task gets its turn.
                let wait = self.clock.sleep(after);
                let late = Arc::clone(&self).do_late(request, number, wait);
                self.tasks.spawn(late);
                match refusal {
                    Some(refusal) => self.send(refusal.answer(), None),
                    None => Reply::Break,
                }
            }
            Fault::Hang => self.never().await,
            Fault::HangDone => {
                self.perform(&request, number, None).await;
                self.settle_status(number, None);
                self.never().await
            }
            Fault::PartialList(keep) => {
                let mut answer = self.perform(&request, number, None).await;
                if let Content::Json(body) = &mut answer.content {
                    shorten(body, keep);
                }
                self.send(answer, None)
            }
            Fault::Stale => {
                let answer = match snapshot {
                    Some(old) => self.perform_on_snapshot(&request, number, *old).await,
                    None => self.perform(&request, number, None).await,
                };
                self.send(answer, None)
            }
            shape @ (Fault::SlowBody(..) | Fault::CutBody) => {
                let answer = self.perform(&request, number, None).await;
                self.send(answer, Some(shape))
            }
            outcome => {
                let answer = self.perform(&request, number, Some(&outcome)).await;
                self.send(answer, None)
            }
        }
    }

    /// Waits until the stand-ins stop: the client gives up first.
    async fn never(&self) -> Reply {
        self.stop.cancelled().await;
        Reply::Break
    }

    async fn do_late(
        self: Arc<Self>,
        request: Request,
        number: usize,
        wait: BoxFuture<'static, ()>,
    ) {
        tokio::select! {
            () = self.stop.cancelled() => return,
            () = wait => {}
        }
        let settle = |world: &mut World, answer: &Answer| {
            let at = world.now();
            if let Some(entry) = world.ledger.entry(number) {
                entry.effect = if answer.effect {
                    Effect::DoneLate(at)
                } else {
                    Effect::None
                };
            }
        };
        match &self.behind {
            Some(behind) => {
                let answer = behind.carry_out(&request).await;
                self.with(|world, _| settle(world, &answer));
            }
            None => self.with(|world, faults| {
                let answer = carry_out(world, faults, &request, None);
                settle(world, &answer);
            }),
        }
    }

    /// Carries a request out and writes down what came of it.
    async fn perform(&self, request: &Request, number: usize, fault: Option<&Fault>) -> Answer {
        if let Some(behind) = &self.behind {
            let answer = behind.carry_out(request).await;
            self.with(|world, _| note(world, number, &answer));
            return answer;
        }
        self.with(|world, faults| {
            let answer = carry_out(world, faults, request, fault);
            note(world, number, &answer);
            answer
        })
    }

    /// Takes the token that a request shows out of Keystone.
    async fn withdraw(&self, request: &Request) {
        let Some(token) = request.header("x-auth-token") else {
            return;
        };
        match &self.behind {
            Some(behind) => behind.withdraw(token).await,
            None => self.with(|world, _| {
                world.cloud.tokens.remove(token);
            }),
        }
    }

    /// Answers a reading request from an old world; one that changes meets the present one.
    async fn perform_on_snapshot(
        &self,
        request: &Request,
        number: usize,
        mut old: World,
    ) -> Answer {
        if request.method != "GET" {
            return self.perform(request, number, None).await;
        }
        self.with(|world, faults| {
            old.cloud.tokens = world.cloud.tokens.clone();
            let answer = carry_out(&mut old, faults, request, None);
            note(world, number, &answer);
            answer
        })
    }

    fn settle(&self, number: usize, status: Option<u16>, effect: Effect) {
        self.with(|world, _| {
            if let Some(entry) = world.ledger.entry(number) {
                entry.status = status;
                entry.effect = effect;
            }
        });
    }

    fn settle_status(&self, number: usize, status: Option<u16>) {
        self.with(|world, _| {
            if let Some(entry) = world.ledger.entry(number) {
                entry.status = status;
            }
        });
    }

    /// Puts an answer on the wire.
    fn send(self: &Arc<Self>, answer: Answer, shape: Option<Fault>) -> Reply {
        let (usual_type, body) = match answer.content {
            Content::Empty => (None, whole(Bytes::new())),
            Content::Json(value) => (
                Some("application/json"),
                self.shaped(Bytes::from(value.to_string()), shape),
            ),
            Content::Text(text) => (
                Some("text/plain; charset=utf-8"),
                self.shaped(Bytes::from(text), shape),
            ),
            Content::Watch(watch) => (Some("application/json"), self.stream(*watch)),
            Content::Open(watch) => (Some("application/json"), self.pass_on(*watch)),
        };
        let mut response = Response::new(body);
        *response.status_mut() =
            StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let headers = response.headers_mut();
        if let Some(content_type) = answer.content_type.or(usual_type) {
            headers.insert(
                "content-type",
                hyper::header::HeaderValue::from_static(content_type),
            );
        }
        for (name, value) in answer.headers {
            let name = hyper::header::HeaderName::from_bytes(name.as_bytes());
            if let (Ok(name), Ok(value)) = (name, hyper::header::HeaderValue::from_str(&value)) {
                headers.append(name, value);
            }
        }
        Reply::Answer(response)
    }

    fn stream(self: &Arc<Self>, watch: WatchRequest) -> OutBody {
        let (out, lines) = mpsc::channel(WATCH_QUEUE);
        self.tasks
            .spawn(kube::watch::run(Arc::clone(self), watch, out));
        Self::lines(lines)
    }

    fn pass_on(self: &Arc<Self>, watch: reqwest::Response) -> OutBody {
        let (out, lines) = mpsc::channel(WATCH_QUEUE);
        self.tasks
            .spawn(crate::relay::pass_on(Arc::clone(self), watch, out));
        Self::lines(lines)
    }

    fn lines(lines: mpsc::Receiver<Result<Bytes, Broken>>) -> OutBody {
        let lines = futures::stream::unfold(lines, |mut lines| async {
            let line = lines.recv().await?;
            Some((line.map(Frame::data), lines))
        });
        StreamBody::new(lines.boxed())
    }

    /// A body in one piece, in slow pieces, or cut off in the middle.
    fn shaped(&self, bytes: Bytes, shape: Option<Fault>) -> OutBody {
        match shape {
            Some(Fault::SlowBody(size, pause)) => {
                let pieces: Vec<Bytes> = bytes
                    .chunks(size.max(1))
                    .map(Bytes::copy_from_slice)
                    .collect();
                let clock = self.clock();
                let slow = futures::stream::iter(pieces).then(move |piece| {
                    let pause = clock.sleep(pause);
                    async move {
                        pause.await;
                        Ok(Frame::data(piece))
                    }
                });
                StreamBody::new(slow.boxed())
            }
            Some(Fault::CutBody) => {
                let half = bytes.slice(..bytes.len() / 2);
                let parts = [Ok(Frame::data(half)), Err(Broken)];
                // hyper writes what it has when it must wait for more: without a pause the
                // half would be thrown away with the connection.
                let parts = futures::stream::iter(parts).then(|part| async {
                    tokio::task::yield_now().await;
                    part
                });
                StreamBody::new(parts.boxed())
            }
            _ => whole(bytes),
        }
    }
}

/// Carries a request out on a world, under what a fault says of the outcome.
fn carry_out(
    world: &mut World,
    faults: &Faults,
    request: &Request,
    fault: Option<&Fault>,
) -> Answer {
    world.keystone_away = faults.keystone_down;
    world.next_build = match fault {
        Some(Fault::BuildForever) => Some(Outcome::Never),
        Some(Fault::NoAddress) => Some(Outcome::NoAddress),
        Some(Fault::BuildFails(message)) => Some(Outcome::Fails(message)),
        _ => None,
    };
    world.next_task_stuck = matches!(fault, Some(Fault::DeleteStuck | Fault::HostDead));
    let answer = match request.api {
        Api::Kubernetes => {
            let audit = world.ids.uuid();
            kube::handle(world, request).with_header("audit-id", audit)
        }
        Api::OpenStack => {
            let id = format!("req-{}", world.ids.uuid());
            // Their lists of versions stand before what gives ids.
            if matches!(request.path.as_str(), "/compute" | "/compute/") {
                nova::handle(world, request)
            } else if matches!(request.path.as_str(), "/network" | "/network/") {
                neutron::handle(world, request)
            } else if request.path.starts_with("/compute") {
                nova::handle(world, request)
                    .with_header("x-compute-request-id", id.clone())
                    .with_header("x-openstack-request-id", id)
            } else if request.path.starts_with("/hosts/") {
                hosts::handle(world, request)
            } else if request.path.starts_with("/network") {
                neutron::handle(world, request).with_header("x-openstack-request-id", id)
            } else {
                keystone::handle(world, request).with_header("x-openstack-request-id", id)
            }
        }
    };
    world.next_build = None;
    world.next_task_stuck = false;
    answer
}

fn note(world: &mut World, number: usize, answer: &Answer) {
    if let Some(entry) = world.ledger.entry(number) {
        entry.status = Some(answer.status);
        entry.effect = if answer.effect && entry.mutates {
            Effect::Done
        } else {
            Effect::None
        };
    }
}

/// What is known of a request when it arrives.
fn arrival(world: &World, request: &Request, met: Option<&Met>) -> Entry {
    let text = String::from_utf8_lossy(&request.body);
    let mut entry = Entry {
        number: 0,
        at: world.now(),
        api: request.api,
        method: request.method.to_string(),
        path: request.path.clone(),
        query: request.raw_query.clone(),
        user_agent: request.header("user-agent").unwrap_or_default().to_owned(),
        mutates: mutates(request, &text),
        operation: None,
        ours: None,
        status: None,
        effect: Effect::None,
        fault: met.map(|met| met.fault.name()),
    };
    let server = entry.server().and_then(|id| world.cloud.servers.get(id));
    let (ours, operation) = (
        server.map(Server::is_ours),
        server.and_then(Server::operation),
    );
    // A port, or an address, by the operation in its description.
    let network = request.path.rsplit('/').next().and_then(|id| {
        let port = world.cloud.ports.get(id).map(|port| &port.description);
        let address = world.cloud.floating_ips.get(id);
        port.or(address.map(|address| &address.description))
    });
    entry.ours = ours;
    entry.operation = operation_in(&text)
        .or(operation)
        .or(network.and_then(|text| operation_in(text)));
    entry
}

fn mutates(request: &Request, body: &str) -> bool {
    let reads = matches!(request.method.as_str(), "GET" | "HEAD" | "OPTIONS");
    let asks = request.path.starts_with("/v3/auth/")
        || request.path.ends_with("/selfsubjectaccessreviews")
        || request.parameter("dryRun") == Some("All")
        || (request.path.ends_with("/eviction") && body.contains("\"dryRun\""));
    !reads && !asks
}

/// Keeps the first items of a list, whichever API's.
fn shorten(body: &mut Value, keep: usize) {
    for field in ["servers", "items"] {
        if let Some(Value::Array(items)) = body.get_mut(field) {
            items.truncate(keep);
        }
    }
}
