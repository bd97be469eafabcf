//! How busy each machine says that it is: put into the socket of its collectd, once a second, from
//! inside of it.
//!
//! ```text
//! this test --PUTVAL--> `machine sh`: socat --> unixsock of collectd --write_kafka--> the topic
//! ```
//!
//! Each machine has a thread here: what one that hangs does not take holds up no other.

use std::collections::BTreeMap;
use std::io::Write;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use crate::forks;

/// Where a machine's collectd listens.
pub(super) const SOCKET: &str = "/run/collectd-unixsock";

/// How often a value is put in, and a collectd that is not there is looked for.
const BEAT: Duration = Duration::from_secs(1);

/// The machines' agents.
pub(super) struct Agents {
    /// The switchboard.
    machine: String,
    /// By the server's id.
    fed: BTreeMap<String, Arc<Fed>>,
}

/// What one agent is told.
struct Fed {
    percent: AtomicU32,
    over: AtomicBool,
}

impl Agents {
    pub(super) fn new(machine: &str) -> Self {
        Self {
            machine: machine.to_owned(),
            fed: BTreeMap::new(),
        }
    }

    /// From now on the server is so busy.
    pub(super) fn set(&mut self, server: &str, node: &str, percent: u32) {
        if let Some(fed) = self.fed.get(server) {
            fed.percent.store(percent, Ordering::SeqCst);
            return;
        }
        let fed = Arc::new(Fed {
            percent: AtomicU32::new(percent),
            over: AtomicBool::new(false),
        });
        self.fed.insert(server.to_owned(), Arc::clone(&fed));
        let (machine, server, node) = (self.machine.clone(), server.to_owned(), node.to_owned());
        std::thread::spawn(move || fed.feed(&machine, &server, &node));
    }

    /// Forgets the others, which are gone.
    pub(super) fn keep(&mut self, wanted: impl Fn(&String) -> bool) {
        self.fed.retain(|server, fed| {
            let stays = wanted(server);
            fed.over.store(!stays, Ordering::SeqCst);
            stays
        });
    }
}

impl Drop for Agents {
    fn drop(&mut self) {
        self.keep(|_| false);
    }
}

impl Fed {
    fn feed(&self, machine: &str, server: &str, node: &str) {
        while !self.over.load(Ordering::SeqCst) {
            let mut socket = connect(machine, server);
            let mut input = socket.stdin.take().unwrap();
            while !self.over.load(Ordering::SeqCst) && self.put(&mut input, node).is_ok() {
                std::thread::sleep(BEAT);
            }
            drop(input);
            // Where the machine hangs it does not see that nothing more comes.
            let _ = socket.kill();
            let _ = socket.wait();
            std::thread::sleep(BEAT);
        }
    }

    fn put(&self, socket: &mut impl Write, node: &str) -> std::io::Result<()> {
        let busy = self.percent.load(Ordering::SeqCst);
        let idle = 100 - busy;
        let values = format!(
            "PUTVAL \"{node}/cpu/percent-user\" interval=1 N:{busy}\n\
             PUTVAL \"{node}/cpu/percent-idle\" interval=1 N:{idle}\n"
        );
        socket.write_all(values.as_bytes())
    }
}

/// A conversation with the server's collectd, which ends by itself where nobody listens.
fn connect(machine: &str, server: &str) -> Child {
    let listens = format!("UNIX-CONNECT:{SOCKET}");
    let mut socat = Command::new(machine);
    socat
        .args(["sh", server, "socat", "STDIO", &listens])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    forks::begin(|| socat.spawn()).unwrap()
}
