//! The server in front of every endpoint: the collector's, the webhook's and the program's.
//!
//! Beyond loopback it speaks TLS and asks who is there, or it does not start, unless told in
//! so many words (`without_tls`, `without_auth`). It bounds connections and the time that a header may take, and
//! when all places are taken it closes the connection that has been idle longest: a thousand
//! silent connections keep nobody out.

mod connections;
mod guard;
mod tls;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::pin;
use std::time::Duration;

use axum::Router;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::auth::{AuthError, AuthOptions};
use connections::{Connections, Place};
pub use guard::require;

/// Bytes of a request's header, its line included.
const MAX_HEADER_BYTES: usize = 32 * 1024;

/// Header fields of a request.
const MAX_HEADERS: usize = 64;

/// How long to leave the socket alone after the system refused a connection (no descriptors).
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Where and how to listen.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ListenOptions {
    /// Address and port.
    pub address: SocketAddr,
    /// Certificate and key. Needed on any address that is not loopback.
    pub tls: Option<TlsOptions>,
    /// Who may speak. Needed on any address that is not loopback.
    pub auth: AuthOptions,
    /// Listen beyond loopback without TLS all the same: the operator vouches for what stands
    /// in front.
    pub without_tls: bool,
    /// Listen beyond loopback without asking who is there all the same.
    pub without_auth: bool,
    /// Connections at once. More close the one that has been idle longest.
    pub max_connections: usize,
    /// Seconds that a TLS handshake or a request's header may take, and a connection may idle.
    pub header_timeout_seconds: u64,
    /// Seconds that requests under way are given when the server stops.
    pub drain_seconds: u64,
    /// Paths that anybody may read, for the probes of Kubernetes.
    pub open_paths: Vec<String>,
}

/// The server's certificate.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsOptions {
    /// The certificate and those that vouch for it, in PEM, its own first.
    pub certificate: PathBuf,
    /// The private key, in PEM.
    pub key: PathBuf,
}

impl Default for ListenOptions {
    fn default() -> Self {
        Self {
            address: SocketAddr::from(([127, 0, 0, 1], 8750)),
            tls: None,
            auth: AuthOptions::default(),
            without_tls: false,
            without_auth: false,
            // Under the usual limit of 1,024 descriptors a process.
            max_connections: 768,
            // Agents report every ten seconds on one connection.
            header_timeout_seconds: 20,
            drain_seconds: 10,
            open_paths: vec!["/livez".to_owned(), "/readyz".to_owned()],
        }
    }
}

/// Why the server cannot start.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Open to others without TLS.
    #[error(
        "`{address}` is not loopback and has no `tls`: give `certificate` and `key`, listen on 127.0.0.1, or say that it is done `without` if something in front of it does this"
    )]
    NoTls {
        /// The address.
        address: SocketAddr,
    },
    /// Open to others without asking who is there.
    #[error(
        "`{address}` is not loopback and has no `auth`: give a `bearer` token or a `basic` user, listen on 127.0.0.1, or say that it is done `without` if something in front of it does this"
    )]
    NoAuth {
        /// The address.
        address: SocketAddr,
    },
    /// A bound of zero would let nobody in.
    #[error("`{key}` is 0: give at least 1")]
    Zero {
        /// The setting.
        key: &'static str,
    },
    /// The secrets cannot be read.
    #[error(transparent)]
    Auth(#[from] AuthError),
    /// The certificate or the key cannot be used.
    #[error("`{}` cannot be used for TLS: {detail}", path.display())]
    Tls {
        /// The file.
        path: PathBuf,
        /// Why.
        detail: String,
    },
    /// The address cannot be bound.
    #[error("cannot listen on `{address}`: {}", way_out(source))]
    Bind {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        source: std::io::Error,
    },
}

/// What to do about an address that cannot be bound.
fn way_out(source: &std::io::Error) -> &'static str {
    match source.kind() {
        std::io::ErrorKind::AddrInUse => {
            "stop the other program that listens there, or choose another `listen.address`"
        }
        std::io::ErrorKind::PermissionDenied => {
            "this user may not; choose a port of 1024 or more in `listen.address`"
        }
        _ => "choose an address of this machine in `listen.address`",
    }
}

impl ListenOptions {
    /// Refuses what would leave a door open. Touches neither files nor network.
    ///
    /// # Errors
    ///
    /// Returns every [`ListenError`] found, so that all can be mended at once.
    pub fn validate(&self) -> Result<(), Vec<ListenError>> {
        let mut errors = Vec::new();
        let address = self.address;
        // `::ffff:127.0.0.1` is loopback too; `0.0.0.0` and `::` are everybody.
        let exposed = !address.ip().to_canonical().is_loopback();
        if exposed && self.tls.is_none() && !self.without_tls {
            errors.push(ListenError::NoTls { address });
        }
        if exposed && self.auth.is_empty() && !self.without_auth {
            errors.push(ListenError::NoAuth { address });
        }
        for (key, value) in [
            ("max_connections", self.max_connections as u64),
            ("header_timeout_seconds", self.header_timeout_seconds),
        ] {
            if value == 0 {
                errors.push(ListenError::Zero { key });
            }
        }
        if errors.is_empty() {
            Ok(())
        } else {
            Err(errors)
        }
    }
}

/// A server that has its address and its secrets, and does not answer yet.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    tls: Option<TlsAcceptorBox>,
    guard: guard::Guard,
    header_timeout: Duration,
    drain: Duration,
    connections: Connections,
}

/// `TlsAcceptor` has no `Debug`.
struct TlsAcceptorBox(TlsAcceptor);

impl std::fmt::Debug for TlsAcceptorBox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TlsAcceptor")
    }
}

/// Binds and serves until `stop`.
///
/// # Errors
///
/// Returns [`ListenError`] if it cannot start; once it runs nothing ends it but `stop`.
pub async fn serve(
    router: Router,
    options: ListenOptions,
    stop: CancellationToken,
) -> Result<(), ListenError> {
    Listener::bind(options).await?.serve(router, stop).await;
    Ok(())
}

impl Listener {
    /// Checks the options, reads secrets and certificate, and takes the address.
    ///
    /// # Errors
    ///
    /// Returns the first [`ListenError`].
    pub async fn bind(options: ListenOptions) -> Result<Self, ListenError> {
        if let Err(errors) = options.validate()
            && let Some(first) = errors.into_iter().next()
        {
            return Err(first);
        }
        let credentials = options.auth.load()?;
        let tls = match &options.tls {
            Some(tls) => Some(TlsAcceptorBox(tls::acceptor(tls)?)),
            None => None,
        };
        let address = options.address;
        let socket = TcpListener::bind(address)
            .await
            .map_err(|source| ListenError::Bind { address, source })?;
        Ok(Self {
            socket,
            tls,
            guard: guard::Guard::new(credentials, options.open_paths),
            header_timeout: Duration::from_secs(options.header_timeout_seconds),
            drain: Duration::from_secs(options.drain_seconds),
            connections: Connections::new(options.max_connections),
        })
    }

    /// The address that was taken; its port when 0 was asked for.
    pub fn address(&self) -> Option<SocketAddr> {
        self.socket.local_addr().ok()
    }

    /// Serves `router` until `stop`, then lets requests under way end within the deadline.
    pub async fn serve(self, router: Router, stop: CancellationToken) {
        let router = self.guard.clone().wrap(router);
        let mut tasks = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => break,
                // Finished tasks are forgotten as they end, not all at the end.
                Some(_) = tasks.join_next(), if !tasks.is_empty() => continue,
                accepted = self.socket.accept() => accepted,
            };
            match accepted {
                Ok((stream, _)) => {
                    let Some(place) = self.connections.take() else {
                        // Every place is in the middle of a request: the newest has to wait.
                        drop(stream);
                        continue;
                    };
                    let connection = Connection {
                        router: router.clone(),
                        place,
                        tls: self.tls.as_ref().map(|tls| tls.0.clone()),
                        header_timeout: self.header_timeout,
                        stop: stop.clone(),
                    };
                    tasks.spawn(connection.run(stream));
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    self.connections.close_idlest();
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        drop(self.socket);
        let drained = tokio::time::timeout(self.drain, async {
            while tasks.join_next().await.is_some() {}
        });
        if drained.await.is_err() {
            tracing::warn!("requests were still under way at the deadline and were cut off");
            tasks.shutdown().await;
        }
    }
}

/// One connection.
struct Connection {
    router: Router,
    place: Place,
    tls: Option<TlsAcceptor>,
    header_timeout: Duration,
    stop: CancellationToken,
}

impl Connection {
    async fn run(self, stream: TcpStream) {
        // Answers are small; waiting to fill a packet only delays them.
        let _ = stream.set_nodelay(true);
        let Some(tls) = &self.tls else {
            return self.http(stream).await;
        };
        let evicted = self.place.evicted();
        let handshake = tokio::time::timeout(self.header_timeout, tls.accept(stream));
        let stream = tokio::select! {
            () = evicted.cancelled() => return,
            () = self.stop.cancelled() => return,
            shaken = handshake => match shaken {
                Ok(Ok(stream)) => stream,
                Ok(Err(error)) => return tracing::debug!(%error, "a TLS handshake failed"),
                Err(_) => return tracing::debug!("a TLS handshake took too long"),
            },
        };
        self.http(stream).await;
    }

    async fn http<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(self, stream: S) {
        let evicted = self.place.evicted();
        let service = TowerToHyperService::new(self.place.watch(self.router));
        let connection = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.header_timeout)
            .max_headers(MAX_HEADERS)
            .max_buf_size(MAX_HEADER_BYTES)
            .serve_connection(TokioIo::new(stream), service);
        let mut connection = pin!(connection);
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = evicted.cancelled() => return,
            () = self.stop.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "a connection ended early");
        }
    }
}

#[cfg(test)]
mod tests;
