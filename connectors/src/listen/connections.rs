//! The places for connections: bounded, and given up by the idlest when they run out.
//!
//! A connection is busy from the head of a request to the end of its answer's making, and
//! idle otherwise: in its handshake, before its first request, between two.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use axum::Router;
use axum::body::Body;
use axum::response::Response;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use hyper::Request;
use hyper::body::Incoming;
use tokio_util::sync::CancellationToken;
use tower::Service;

/// All the places of a listener. Clones share them.
#[derive(Debug, Clone)]
pub(super) struct Connections {
    max: usize,
    open: Arc<Mutex<Open>>,
}

#[derive(Debug, Default)]
struct Open {
    next: u64,
    /// By number, which is by age.
    places: BTreeMap<u64, (CancellationToken, Arc<AtomicBool>)>,
}

impl Connections {
    pub(super) fn new(max: usize) -> Self {
        Self {
            max,
            open: Arc::default(),
        }
    }

    /// A place for a new connection, if need be that of the one that has been idle longest.
    /// `None` if all are in the middle of a request.
    pub(super) fn take(&self) -> Option<Place> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.places.len() >= self.max && !open.close_idlest() {
            return None;
        }
        let number = open.next;
        open.next += 1;
        let evicted = CancellationToken::new();
        let busy = Arc::new(AtomicBool::new(false));
        open.places
            .insert(number, (evicted.clone(), Arc::clone(&busy)));
        Some(Place {
            number,
            evicted,
            busy,
            open: Arc::clone(&self.open),
        })
    }

    /// Closes the oldest idle connection, to win a descriptor back.
    pub(super) fn close_idlest(&self) {
        self.open
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .close_idlest();
    }
}

impl Open {
    /// The oldest connection that is idle stands for the one idle longest.
    fn close_idlest(&mut self) -> bool {
        let idlest = self
            .places
            .iter()
            .find(|(_, (_, busy))| !busy.load(Ordering::Acquire))
            .map(|(number, _)| *number);
        match idlest.and_then(|number| self.places.remove(&number)) {
            Some((evicted, _)) => {
                evicted.cancel();
                true
            }
            None => false,
        }
    }
}

/// The place of one connection; free again when dropped.
#[derive(Debug)]
pub(super) struct Place {
    number: u64,
    evicted: CancellationToken,
    busy: Arc<AtomicBool>,
    open: Arc<Mutex<Open>>,
}

impl Place {
    /// Cancelled when the place is given to another.
    pub(super) fn evicted(&self) -> CancellationToken {
        self.evicted.clone()
    }

    /// `router`, noting when it is busy. The place lives as long as it does.
    pub(super) fn watch(self, router: Router) -> Watched {
        Watched {
            router,
            place: Arc::new(self),
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.open
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .places
            .remove(&self.number);
    }
}

/// A router that notes in its connection's place when it is busy.
#[derive(Debug, Clone)]
pub(super) struct Watched {
    router: Router,
    place: Arc<Place>,
}

impl Service<Request<Incoming>> for Watched {
    type Response = Response;
    type Error = std::convert::Infallible;
    type Future = BoxFuture<'static, Result<Response, Self::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Incoming>) -> Self::Future {
        self.place.busy.store(true, Ordering::Release);
        let place = Arc::clone(&self.place);
        let answer = self.router.call(request.map(Body::new));
        async move {
            let answer = answer.await;
            place.busy.store(false, Ordering::Release);
            answer
        }
        .boxed()
    }
}
