//! What is refused before it listens, and what it stands once it does.

use std::net::IpAddr;

use axum::routing::get;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;
use crate::auth::{BearerOptions, Right, SecretSource};

const TOKEN: &str = "a-token-of-the-tests";

fn options() -> ListenOptions {
    ListenOptions {
        address: SocketAddr::from(([127, 0, 0, 1], 0)),
        ..ListenOptions::default()
    }
}

fn with_token(file: &tempfile::NamedTempFile) -> ListenOptions {
    std::fs::write(file.path(), TOKEN).unwrap();
    ListenOptions {
        auth: AuthOptions {
            bearer: vec![BearerOptions {
                who: "agents".into(),
                secret: SecretSource::File(file.path().into()),
                may: vec![Right::Ingest],
            }],
            basic: vec![],
        },
        ..options()
    }
}

fn router() -> Router {
    Router::new()
        .route("/livez", get(|| async { "ok" }))
        .route("/secret", get(|| async { "told" }))
        .merge(require(
            Right::Ingest,
            Router::new().route("/ingest", get(|| async { "taken" })),
        ))
        .merge(require(
            Right::Alert,
            Router::new().route("/alert", get(|| async { "heard" })),
        ))
        .merge(require(
            Right::Operate,
            Router::new().route("/operate", get(|| async { "done" })),
        ))
}

/// A running server, its address and its end.
struct Running {
    address: SocketAddr,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

async fn start(options: ListenOptions, router: Router) -> Running {
    let listener = Listener::bind(options).await.unwrap();
    let address = listener.address().unwrap();
    let stop = CancellationToken::new();
    let task = tokio::spawn(listener.serve(router, stop.clone()));
    Running {
        address,
        stop,
        task,
    }
}

/// The whole answer to a raw request on a connection of its own.
async fn ask(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

fn get_with(path: &str, header: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{header}\r\n")
}

#[test]
fn beyond_loopback_it_needs_both_tls_and_auth() {
    let tls = Some(TlsOptions {
        certificate: "c".into(),
        key: "k".into(),
    });
    let file = tempfile::NamedTempFile::new().unwrap();
    let auth = with_token(&file).auth;
    for (ip, tls, auth, without, errors) in [
        ("127.0.0.1", None, AuthOptions::default(), false, 0),
        ("::1", None, AuthOptions::default(), false, 0),
        ("::ffff:127.0.0.1", None, AuthOptions::default(), false, 0),
        ("0.0.0.0", None, AuthOptions::default(), false, 2),
        ("::", None, AuthOptions::default(), false, 2),
        ("10.0.0.1", tls.clone(), AuthOptions::default(), false, 1),
        ("10.0.0.1", None, auth.clone(), false, 1),
        ("10.0.0.1", tls, auth, false, 0),
        ("0.0.0.0", None, AuthOptions::default(), true, 0),
    ] {
        let options = ListenOptions {
            address: SocketAddr::new(ip.parse::<IpAddr>().unwrap(), 8750),
            tls,
            auth,
            without_tls: without,
            without_auth: without,
            ..ListenOptions::default()
        };
        let found = options
            .validate()
            .map_or_else(|errors| errors.len(), |()| 0);
        assert_eq!(found, errors, "{ip} without={without}");
    }
}

#[tokio::test]
async fn it_asks_who_is_there_except_at_the_probes() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let running = start(with_token(&file), router()).await;
    let status = async |path, header: &str| {
        let answer = ask(running.address, &get_with(path, header)).await;
        answer.split(' ').nth(1).unwrap().to_owned()
    };
    assert_eq!(status("/livez", "").await, "200");
    assert_eq!(status("/secret", "").await, "401");
    assert_eq!(
        status("/secret", "authorization: Bearer wrong-token-of-tests\r\n").await,
        "401"
    );
    let right = format!("authorization: Bearer {TOKEN}\r\n");
    assert_eq!(status("/secret", &right).await, "200");
    assert_eq!(status("/ingest", &right).await, "200");
    assert_eq!(status("/operate", &right).await, "403");
    let alert = ask(running.address, &get_with("/alert", &right)).await;
    assert!(alert.contains(" 403 "), "events are one witness: {alert}");
    assert!(alert.contains("may: [alert]"), "what to do: {alert}");
    let browser = format!("{right}origin: http://evil.example\r\n");
    assert_eq!(status("/secret", &browser).await, "403");
}

#[tokio::test]
async fn idle_connections_by_the_hundred_keep_nobody_out() {
    let running = start(
        ListenOptions {
            max_connections: 64,
            ..options()
        },
        router(),
    )
    .await;
    let mut idle = Vec::new();
    for n in 0..400 {
        let mut stream = TcpStream::connect(running.address).await.unwrap();
        if n % 2 == 0 {
            // Half of them begin a header that never ends.
            let _ = stream.write_all(b"GET /livez HTTP/1.1\r\nx: ").await;
        }
        idle.push(stream);
    }
    let answer = ask(running.address, &get_with("/livez", "")).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    // The first of them lost its place long ago.
    let mut rest = Vec::new();
    let closed = idle[0].read_to_end(&mut rest).await;
    assert!(closed.is_err() || rest.is_empty(), "{rest:?}");
}

#[tokio::test]
async fn a_request_under_way_is_let_end_and_no_new_one_begins() {
    let entered = CancellationToken::new();
    let go_on = CancellationToken::new();
    let router = {
        let (entered, go_on) = (entered.clone(), go_on.clone());
        Router::new().route(
            "/slow",
            get(move || async move {
                entered.cancel();
                go_on.cancelled().await;
                "done"
            }),
        )
    };
    let running = start(options(), router).await;
    let address = running.address;
    let request = tokio::spawn(async move { ask(address, &get_with("/slow", "")).await });
    entered.cancelled().await;
    running.stop.cancel();
    while TcpStream::connect(address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    go_on.cancel();
    assert!(request.await.unwrap().ends_with("done"));
    running.task.await.unwrap();
}

#[tokio::test]
async fn it_speaks_tls_with_the_files_it_is_given() {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (certificate, key) = (folder.path().join("c.pem"), folder.path().join("k.pem"));
    std::fs::write(&certificate, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let tls = |certificate: &PathBuf, key: &PathBuf| ListenOptions {
        tls: Some(TlsOptions {
            certificate: certificate.clone(),
            key: key.clone(),
        }),
        ..options()
    };
    let running = start(tls(&certificate, &key), router()).await;
    let mut roots = rustls::RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let config = rustls::ClientConfig::builder_with_provider(std::sync::Arc::new(
        rustls::crypto::ring::default_provider(),
    ))
    .with_safe_default_protocol_versions()
    .unwrap()
    .with_root_certificates(roots)
    .with_no_client_auth();
    let connector = tokio_rustls::TlsConnector::from(std::sync::Arc::new(config));
    let stream = TcpStream::connect(running.address).await.unwrap();
    let name = rustls::pki_types::ServerName::try_from("localhost").unwrap();
    let mut stream = connector.connect(name, stream).await.unwrap();
    stream
        .write_all(get_with("/livez", "").as_bytes())
        .await
        .unwrap();
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    // Bare HTTP is not answered there.
    let bare = ask(running.address, &get_with("/livez", "")).await;
    assert!(!bare.starts_with("HTTP"), "{bare}");

    let wrong = Listener::bind(tls(&key, &certificate)).await.unwrap_err();
    assert!(matches!(wrong, ListenError::Tls { .. }), "{wrong}");
}
