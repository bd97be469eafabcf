//! Our client on the real services: a server's whole life, and the ways in which it fails.
//!
//! It waits for states by the client's own eyes, and leaves nothing behind.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rhizome_actions::openstack::{Credentials, Interface, Machine, Openstack, OpenstackOptions};
use rhizome_actions::{Executor, JoinOptions, Seen, TokenVault, UserData};
use rhizome_engine::action::{
    Action, ActionKey, ActionKind, ActionResult, Done, FailureKind, VmRef, mark,
};
use rhizome_engine::event::{Observation, ServerStatus, ServerView};
use rhizome_engine::names::OperationId;
use rhizome_engine::time::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::acting::{Open, wall_clock};
use crate::real::servers::{self, Openstack as Real};

/// How long a state is waited for. Generous: the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(240);
const CLUSTER: &str = "blue";
const POOL: &str = "mongo";

struct Bench {
    client: Openstack,
}

fn machine(real: &Real, project: &str) -> Machine {
    let text = "#cloud-config\nhostname: <{ node }>\n";
    Machine {
        image: real.get("image").to_owned(),
        flavors: vec![real.get("flavor_small").to_owned()],
        networks: vec![real.get(&format!("{project}_network")).into()],
        security_groups: vec!["nodes".to_owned()],
        availability_zones: vec!["nova".to_owned()],
        metadata: [("team".to_owned(), "storage".to_owned())].into(),
        user_data: Some(Arc::new(
            UserData::new(text, JoinOptions::default(), false).unwrap(),
        )),
        ..Machine::default()
    }
}

fn credential(real: &Real) -> Credentials {
    Credentials::ApplicationCredential {
        id: real.get("credential_id").to_owned(),
        secret: real.get("credential_secret").to_owned().into(),
    }
}

fn password(real: &Real, project: &str) -> Credentials {
    Credentials::Password {
        username: project.into(),
        user_domain: "Default".into(),
        password: real.get("password").to_owned().into(),
        project: project.into(),
        project_domain: "Default".into(),
    }
}

fn bench(real: &Real, credentials: Credentials, machine: Machine) -> Bench {
    rhizome_actions::install_crypto_provider();
    let options = OpenstackOptions {
        auth_url: real.get("keystone").to_owned(),
        credentials,
        region: Some("RegionOne".to_owned()),
        interface: Interface::Public,
        ca_file: None,
        cluster: CLUSTER.to_owned(),
        poll: Duration::from_secs(5),
        machines: BTreeMap::from([(POOL.into(), machine)]),
    };
    let clock = wall_clock();
    Bench {
        client: Openstack::new(options, clock, Arc::new(TokenVault::new())).unwrap(),
    }
}

fn operation(number: u64) -> OperationId {
    OperationId {
        journal: 0xa1b2_c3d4,
        number,
    }
}

fn marks(number: u64) -> BTreeMap<String, String> {
    [
        (mark::OWNER, mark::OWNER_VALUE.to_owned()),
        (mark::CLUSTER, CLUSTER.to_owned()),
        (mark::POOL, POOL.to_owned()),
        (mark::OPERATION, operation(number).to_string()),
        (mark::NETWORK, operation(number).to_string()),
        (mark::EPOCH, "1".to_owned()),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .into()
}

fn create(node: &str, number: u64) -> ActionKind {
    ActionKind::CreateServer {
        node: node.into(),
        metadata: marks(number),
    }
}

impl Bench {
    async fn act(&self, number: u64, kind: ActionKind) -> ActionResult {
        let action = Action {
            key: ActionKey {
                operation: operation(number),
                sequence: 0,
            },
            epoch: 1,
            pool: POOL.into(),
            expires: Timestamp(i64::MAX),
            timeout: PATIENCE,
            kind,
        };
        self.client.execute(&action, Arc::new(Open)).await
    }

    async fn servers(&self) -> Vec<ServerView> {
        let seen = self.client.observe().await.unwrap();
        let [
            Observation::Servers {
                complete, servers, ..
            },
        ] = seen.as_slice()
        else {
            panic!("{seen:?}")
        };
        assert!(complete);
        servers.clone()
    }

    /// Waits until `wanted` is true of the server, or it is gone.
    async fn until(
        &self,
        id: &str,
        wanted: impl Fn(Option<&ServerView>) -> bool,
    ) -> Option<ServerView> {
        let end = Instant::now() + PATIENCE;
        loop {
            let servers = self.servers().await;
            let server = servers.iter().find(|server| server.id.as_str() == id);
            if wanted(server) {
                return server.cloned();
            }
            assert!(Instant::now() < end, "not in {PATIENCE:?}: {server:?}");
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    }

    async fn is(&self, id: &str, status: ServerStatus) -> ServerView {
        let found = self.until(id, |server| {
            server.is_some_and(|server| server.status == status && server.task_state.is_none())
        });
        found.await.unwrap()
    }

    /// Whether a watch that begins now tells of ports that this operation made.
    async fn has_ports(&self, number: u64) -> bool {
        let (sender, mut seen) = tokio::sync::mpsc::channel(100);
        let stop = CancellationToken::new();
        let watch = self.client.watch(sender, stop.clone());
        let look = async {
            let ports = loop {
                if let Seen::Observation(Observation::Ports(ports)) = seen.recv().await.unwrap() {
                    break ports;
                }
            };
            stop.cancel();
            ports
                .iter()
                .any(|ports| ports.operation == operation(number))
        };
        let patient = tokio::time::timeout(PATIENCE, async { tokio::join!(watch, look).1 });
        patient.await.expect("a look at the ports")
    }

    async fn gone(&self, id: &str) {
        self.until(id, |server| server.is_none()).await;
    }
}

fn vm(server: &ServerView, number: u64) -> VmRef {
    VmRef {
        id: server.id.clone(),
        created: server.created,
        operation: Some(operation(number)),
    }
}

async fn created(bench: &Bench, node: &str, number: u64) -> String {
    match bench.act(number, create(node, number)).await {
        Ok(Done::Created { vm }) => vm.as_str().to_owned(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_server_lives_and_dies_by_our_actions() {
    let Some(real) = servers::openstack() else {
        return;
    };
    let bench = bench(real, credential(real), machine(real, "demo"));
    let id = created(&bench, "mongo-1", 1).await;
    let server = bench.is(&id, ServerStatus::Active).await;
    assert_eq!(server.name, "mongo-1");
    assert_eq!(server.addresses.len(), 1, "{server:?}");
    assert_eq!(server.metadata.get("team"), Some("storage"));
    assert_eq!(
        server.metadata.get(mark::OPERATION),
        Some(&*operation(1).to_string())
    );
    let again = created(&bench, "mongo-1", 1).await;
    assert_eq!(again, id, "the same operation makes no second one");

    let first = vm(&server, 1);
    let reboot = |hard| ActionKind::RebootServer {
        vm: first.clone(),
        hard,
    };
    assert_eq!(bench.act(2, reboot(false)).await, Ok(Done::Accepted));
    bench.is(&id, ServerStatus::Active).await;
    let stop = ActionKind::StopServer { vm: first.clone() };
    assert_eq!(bench.act(2, stop.clone()).await, Ok(Done::Accepted));
    bench.is(&id, ServerStatus::Shutoff).await;
    assert_eq!(bench.act(2, stop).await, Ok(Done::Already));
    let refused = bench.act(2, reboot(false)).await.unwrap_err();
    assert_eq!(
        refused.kind,
        FailureKind::Retry { after: None },
        "{refused}"
    );
    assert_eq!(bench.act(2, reboot(true)).await, Ok(Done::Accepted));
    bench.is(&id, ServerStatus::Active).await;

    // As the rung does it: fenced first, and then off again, however new it is.
    let stop = ActionKind::StopServer { vm: first.clone() };
    assert_eq!(bench.act(3, stop).await, Ok(Done::Accepted));
    bench.is(&id, ServerStatus::Shutoff).await;
    let rebuild = ActionKind::RebuildServer {
        vm: first.clone(),
        node: "mongo-1".into(),
        metadata: marks(3),
    };
    assert_eq!(bench.act(3, rebuild.clone()).await, Ok(Done::Accepted));
    let server = bench.is(&id, ServerStatus::Shutoff).await;
    assert_eq!(
        server.metadata.get(mark::OPERATION),
        Some(&*operation(3).to_string())
    );
    assert_eq!(bench.act(3, rebuild).await, Ok(Done::Already));
    let start = ActionKind::StartServer { vm: vm(&server, 3) };
    assert_eq!(bench.act(3, start.clone()).await, Ok(Done::Accepted));
    let server = bench.is(&id, ServerStatus::Active).await;
    assert_eq!(bench.act(3, start).await, Ok(Done::Already));

    let stale = bench.act(4, ActionKind::DeleteServer { vm: first }).await;
    assert_eq!(stale.unwrap_err().kind, FailureKind::NotOwned);
    let delete = ActionKind::DeleteServer { vm: vm(&server, 3) };
    assert_eq!(bench.act(4, delete.clone()).await, Ok(Done::Accepted));
    bench.gone(&id).await;
    assert_eq!(bench.act(4, delete).await, Ok(Done::Already));
}

#[tokio::test]
async fn no_host_is_an_error_that_says_so_and_a_quota_is_told_before() {
    let Some(real) = servers::openstack() else {
        return;
    };
    let big = Machine {
        flavors: vec![real.get("flavor_too_big").to_owned()],
        ..machine(real, "small")
    };
    let bench_of = |machine| bench(real, password(real, "small"), machine);
    let too_big = bench_of(big);
    let id = created(&too_big, "mongo-1", 1).await;
    // The list does not say why: the client has to ask for it by its id.
    let told = |server: Option<&ServerView>| {
        server.is_some_and(|server| server.status == ServerStatus::Error && server.fault.is_some())
    };
    let server = too_big.until(&id, told).await.unwrap();
    assert_eq!(server.fault.as_deref(), Some("No valid host was found."));

    // The project may have one server, and one in ERROR counts.
    let full = bench_of(machine(real, "small"));
    let failure = full.act(2, create("mongo-2", 2)).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::NoCapacity, "{failure}");

    let delete = ActionKind::DeleteServer { vm: vm(&server, 1) };
    too_big.act(3, delete).await.unwrap();
    too_big.gone(&id).await;
}

#[tokio::test]
async fn what_is_not_there_is_refused_with_novas_words() {
    let Some(real) = servers::openstack() else {
        return;
    };
    let nothing = "00000000-0000-4000-8000-000000000000".to_owned();
    let good = machine(real, "demo");
    let rows: [(&str, Machine); 3] = [
        (
            "image",
            Machine {
                image: nothing.clone(),
                ..good.clone()
            },
        ),
        (
            "zone",
            Machine {
                availability_zones: vec!["nowhere".to_owned()],
                ..good.clone()
            },
        ),
        (
            "network",
            Machine {
                networks: vec![nothing.as_str().into()],
                ..good
            },
        ),
    ];
    for (number, (what, machine)) in (10..).zip(rows) {
        let bench = bench(real, credential(real), machine);
        let failure = bench
            .act(number, create("mongo-9", number))
            .await
            .unwrap_err();
        assert_eq!(failure.kind, FailureKind::Refused, "{what}: {failure}");
        assert!(
            failure.message.to_lowercase().contains(what),
            "{what}: {failure}"
        );
    }
}

/// A pool whose machines have ports and floating addresses of ours.
fn with_ports(real: &Real) -> Machine {
    Machine {
        own_ports: true,
        floating_network: Some(real.get("public").to_owned()),
        ..machine(real, "demo")
    }
}

#[tokio::test]
async fn a_port_of_our_own_outlives_its_server_until_it_is_released() {
    let Some(real) = servers::openstack() else {
        return;
    };
    let bench = bench(real, credential(real), with_ports(real));
    let id = created(&bench, "mongo-1", 31).await;
    let server = bench.is(&id, ServerStatus::Active).await;
    assert_eq!(server.addresses.len(), 2, "fixed and floating: {server:?}");
    let release = ActionKind::ReleasePorts {
        operation: operation(31),
    };
    let lived_on = bench.act(32, release.clone()).await.unwrap_err();
    assert_eq!(lived_on.kind, FailureKind::NotOwned, "{lived_on}");
    let delete = ActionKind::DeleteServer {
        vm: vm(&server, 31),
    };
    assert_eq!(bench.act(32, delete).await, Ok(Done::Accepted));
    bench.gone(&id).await;
    assert!(bench.has_ports(31).await, "Nova keeps it");
    assert_eq!(bench.act(32, release.clone()).await, Ok(Done::Accepted));
    assert_eq!(bench.act(32, release).await, Ok(Done::Already));
    assert!(!bench.has_ports(31).await);
}

#[tokio::test]
async fn a_port_whose_server_never_came_is_seen_and_swept() {
    let Some(real) = servers::openstack() else {
        return;
    };
    // The port is made first, and then Nova knows no such image: as far as a kill would get.
    let imageless = Machine {
        image: "00000000-0000-4000-8000-000000000000".to_owned(),
        ..with_ports(real)
    };
    let bench = bench(real, credential(real), imageless);
    let failure = bench.act(41, create("mongo-1", 41)).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Refused, "{failure}");
    assert!(bench.has_ports(41).await);
    let sweep = ActionKind::ReleasePorts {
        operation: operation(41),
    };
    assert_eq!(bench.act(42, sweep).await, Ok(Done::Accepted));
    assert!(!bench.has_ports(41).await);
}
