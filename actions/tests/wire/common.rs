//! What the wire tests share: a scripted server over real HTTP, a clock that is moved by
//! hand, gates, and a log that can be searched for secrets.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::Write;
use std::sync::{Arc, Mutex, Once};
use std::time::Duration;

use rhizome_actions::{Gate, Pass, Seen};
use rhizome_engine::action::{Action, ActionKey, ActionKind, Failure, FailureKind};
use rhizome_engine::names::OperationId;
use rhizome_engine::time::{BoxFuture, Clock, Now, Timestamp};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};

/// The operation of all tests.
pub const OPERATION: OperationId = OperationId {
    journal: 0xa1b2_c3d4,
    number: 17,
};

/// One request as it came over the wire.
#[derive(Debug, Clone)]
pub struct Request {
    pub method: String,
    pub path: String,
    pub headers: BTreeMap<String, String>,
    pub body: String,
}

impl Request {
    /// `GET /servers/a`, to be compared with.
    pub fn line(&self) -> String {
        format!("{} {}", self.method, self.path)
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or(Value::Null)
    }
}

/// What the server does with a request.
pub enum Reply {
    /// Status, content type, further headers, body.
    Answer(u16, &'static str, Vec<(&'static str, String)>, String),
    /// The connection is closed without a word.
    Drop,
    /// No answer, and the connection stays.
    Hang,
}

pub fn json(status: u16, body: Value) -> Reply {
    Reply::Answer(status, "application/json", Vec::new(), body.to_string())
}

pub fn text(status: u16, body: &str) -> Reply {
    Reply::Answer(status, "text/plain", Vec::new(), body.to_owned())
}

type Script = dyn Fn(&Request) -> Reply + Send + Sync;

/// A server that does what its script says, and remembers what it was asked.
pub struct Scripted {
    pub url: String,
    requests: Arc<Mutex<Vec<Request>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Scripted {
    pub async fn start(script: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        Log::capture();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let script: Arc<Script> = Arc::new(script);
        let seen = Arc::clone(&requests);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&script), Arc::clone(&seen)));
            }
        });
        Self {
            url,
            requests,
            task,
        }
    }

    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }

    /// The lines of the requests that could change something; tokens of Keystone are none.
    pub fn mutations(&self) -> Vec<String> {
        self.requests()
            .iter()
            .filter(|request| request.method != "GET" && !request.path.contains("/auth/tokens"))
            .map(Request::line)
            .collect()
    }
}

async fn serve(mut stream: TcpStream, script: Arc<Script>, seen: Arc<Mutex<Vec<Request>>>) {
    let Some(request) = read_request(&mut stream).await else {
        return;
    };
    seen.lock().unwrap().push(request.clone());
    match script(&request) {
        Reply::Drop => {}
        Reply::Hang => std::future::pending().await,
        Reply::Answer(status, content_type, headers, body) => {
            let mut head = format!(
                "HTTP/1.1 {status} X\r\ncontent-type: {content_type}\r\ncontent-length: {}\r\n\
                 connection: close\r\nx-openstack-request-id: req-theirs\r\n",
                body.len()
            );
            for (name, value) in headers {
                head.push_str(&format!("{name}: {value}\r\n"));
            }
            head.push_str("\r\n");
            head.push_str(&body);
            let _ = stream.write_all(head.as_bytes()).await;
            let _ = stream.shutdown().await;
        }
    }
}

async fn read_request(stream: &mut TcpStream) -> Option<Request> {
    let mut bytes = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        let read = stream.read(&mut chunk).await.ok()?;
        if read == 0 {
            return None;
        }
        bytes.extend_from_slice(&chunk[..read]);
        let Some(end) = bytes.windows(4).position(|part| part == b"\r\n\r\n") else {
            continue;
        };
        let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
        let mut lines = head.split("\r\n");
        let mut first = lines.next()?.split(' ');
        let headers: BTreeMap<String, String> = lines
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect();
        let length: usize = headers
            .get("content-length")
            .map_or(0, |text| text.parse().unwrap());
        if bytes.len() < end + 4 + length {
            continue;
        }
        return Some(Request {
            method: first.next()?.to_owned(),
            path: first.next()?.to_owned(),
            headers,
            body: String::from_utf8_lossy(&bytes[end + 4..]).into_owned(),
        });
    }
}

/// A clock that nobody waits for: a short sleep moves it on, a long one (a deadline) ends when
/// the short ones have moved it there.
pub struct TestClock {
    now: watch::Sender<Now>,
}

/// Sleeps up to this long move the clock.
const SHORT: Duration = Duration::from_secs(15);

impl TestClock {
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            now: watch::Sender::new(Now {
                wall: Timestamp(1_795_333_374_000),
                ..Now::default()
            }),
        })
    }

    pub fn advance(&self, by: Duration) {
        self.now.send_modify(|now| *now = now.plus(by));
    }
}

impl Clock for TestClock {
    fn now(&self) -> Now {
        *self.now.borrow()
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        let until = self.now().plus(duration).mono;
        let sender = self.now.clone();
        Box::pin(async move {
            if duration <= SHORT {
                tokio::task::yield_now().await;
                sender.send_modify(|now| {
                    if now.mono < until {
                        *now = now.plus(until.since(now.mono));
                    }
                });
                tokio::task::yield_now().await;
            } else {
                let mut receiver = sender.subscribe();
                let _ = receiver.wait_for(|now| now.mono >= until).await;
            }
        })
    }
}

/// A gate that remembers what it was asked, and lets through while it is open.
pub struct TestGate {
    /// How many calls are let through.
    pub left: Mutex<u32>,
    pub asked: Mutex<Vec<&'static str>>,
}

impl TestGate {
    pub fn open() -> Arc<Self> {
        Self::after(u32::MAX)
    }

    pub fn shut() -> Arc<Self> {
        Self::after(0)
    }

    /// Shuts after so many calls.
    pub fn after(left: u32) -> Arc<Self> {
        Arc::new(Self {
            left: Mutex::new(left),
            asked: Mutex::new(Vec::new()),
        })
    }

    pub fn asked(&self) -> Vec<&'static str> {
        self.asked.lock().unwrap().clone()
    }
}

impl Gate for TestGate {
    fn pass(&self, _: &Action, call: &'static str) -> Result<Pass, Failure> {
        self.asked.lock().unwrap().push(call);
        let mut left = self.left.lock().unwrap();
        match left.checked_sub(1) {
            Some(rest) => {
                *left = rest;
                Ok(Pass::granted())
            }
            None => Err(Failure::new(FailureKind::Gate, "paused")),
        }
    }
}

pub fn action(kind: ActionKind) -> Action {
    Action {
        key: ActionKey {
            operation: OPERATION,
            sequence: 0,
        },
        epoch: 1,
        pool: "workers".into(),
        expires: Timestamp(i64::MAX),
        timeout: Duration::from_secs(600),
        kind,
    }
}

/// Messages of a watch that are read before what is waited for counts as not coming.
const PATIENCE: u32 = 10_000;

/// Reads what a watch says until `wanted` comes.
pub async fn until(seen: &mut mpsc::Receiver<Seen>, wanted: impl Fn(&Seen) -> bool) -> Seen {
    for _ in 0..PATIENCE {
        let next = seen.recv().await.unwrap();
        if wanted(&next) {
            return next;
        }
    }
    panic!("what was waited for did not come in {PATIENCE} messages");
}

thread_local! {
    static LOGGED: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Everything that this test logs, at every level, by us and by the crates below.
///
/// One subscriber serves the process, because subscribers that come and go on threads beside
/// each other race for what is enabled. Each test has a thread of its own, and so its own log.
#[derive(Clone, Copy)]
pub struct Log;

impl Log {
    pub fn capture() -> Self {
        static ONCE: Once = Once::new();
        ONCE.call_once(|| {
            tracing_subscriber::fmt()
                .with_max_level(tracing::Level::TRACE)
                .with_ansi(false)
                .with_writer(|| Log)
                .init();
        });
        Self
    }

    pub fn text(self) -> String {
        LOGGED.with_borrow(|bytes| String::from_utf8_lossy(bytes).into_owned())
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        LOGGED.with_borrow_mut(|logged| logged.extend_from_slice(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
