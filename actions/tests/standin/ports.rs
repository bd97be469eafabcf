//! Ports and floating addresses of our own: made once, found again, and gone with their server.

use rhizome_actions::Seen;
use rhizome_actions::openstack::{Machine, Network};
use rhizome_engine::action::{ActionKind, Done, FailureKind};
use rhizome_engine::event::{Observation, PortsView, ServerStatus};
use rhizome_standin::{Fault, Options, Quota, Refusal, Rule};

use crate::field::{Field, action, create, create_token, operation, server, vm_ref};

const SERVERS: &str = "/compute/v2.1/servers";
const PORTS: &str = "/network/v2.0/ports";

fn with_address(machine: Machine) -> Machine {
    Machine {
        floating_network: Some(Options::default().floating_network),
        ..machine
    }
}

/// How many ports and floating addresses there are.
fn left(field: &Field) -> (usize, usize) {
    field
        .standin
        .world(|world| (world.cloud.ports.len(), world.cloud.floating_ips.len()))
}

async fn token_and_create(field: &Field) -> Result<Done, rhizome_engine::action::Failure> {
    field.act(&create_token(1, "w-1")).await.unwrap();
    field.act(&create(1, "w-1")).await
}

#[tokio::test]
async fn a_server_lives_on_its_own_port_and_address_and_they_go_when_it_is_gone() {
    let field = Field::with(Options::default(), with_address).await;
    let Ok(Done::Created { vm }) = token_and_create(&field).await else {
        panic!("not created");
    };
    let seen = field.server_is(vm.as_str(), ServerStatus::Active).await;
    assert_eq!(seen.addresses.len(), 2, "{seen:?}");
    assert_eq!(left(&field), (1, 1));
    let delete = ActionKind::DeleteServer {
        vm: vm_ref(&seen, 1),
    };
    let release = ActionKind::ReleasePorts {
        operation: operation(1),
    };
    let failure = field.act(&action(2, release.clone())).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::NotOwned, "it lives: {failure}");
    assert_eq!(left(&field), (1, 1));
    assert_eq!(field.done(2, delete.clone()).await, Done::Accepted);
    field
        .until(|seen| server(seen, vm.as_str()).is_none().then_some(()))
        .await;
    assert_eq!(field.done(2, delete).await, Done::Already);
    assert_eq!(left(&field), (1, 1), "Nova keeps what it was given");
    assert_eq!(field.done(2, release.clone()).await, Done::Accepted);
    assert_eq!(left(&field), (0, 0));
    assert_eq!(field.done(2, release).await, Done::Already);
    let ledger = field.standin.ledger();
    let unmarked = ledger.mutations().find(|entry| entry.operation.is_none());
    assert_eq!(unmarked, None, "each call says for which operation it is");
}

#[tokio::test]
async fn a_lost_answer_about_a_port_makes_no_second_one() {
    for path in [PORTS, "/network/v2.0/floatingips"] {
        let field = Field::with(Options::default(), with_address).await;
        let lost = Rule::new(path, Fault::DropAfter).method("POST").times(1);
        field.standin.fault(lost);
        let failure = token_and_create(&field).await.unwrap_err();
        assert_eq!(
            failure.kind,
            FailureKind::Retry { after: None },
            "{failure}"
        );
        assert_eq!(field.standin.ledger().servers_of(operation(1)).count(), 0);
        assert!(matches!(
            field.act(&create(1, "w-1")).await,
            Ok(Done::Created { .. })
        ));
        assert_eq!(left(&field), (1, 1), "{path}");
    }
}

#[tokio::test]
async fn what_was_made_for_a_create_that_is_refused_goes_when_it_is_asked_for() {
    let field = Field::with(Options::default(), with_address).await;
    let refuse = Refusal::nova(400, "Invalid imageRef provided.");
    field.standin.fault(
        Rule::new(SERVERS, Fault::Refuse(refuse))
            .method("POST")
            .times(1),
    );
    let failure = token_and_create(&field).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Refused, "{failure}");
    assert_eq!(left(&field), (1, 1));
    let release = ActionKind::ReleasePorts {
        operation: operation(1),
    };
    assert_eq!(field.done(1, release).await, Done::Accepted);
    assert_eq!(left(&field), (0, 0));
}

#[tokio::test]
async fn a_full_quota_is_seen_before_anything_is_asked_for() {
    let quota = |change: fn(&mut Quota)| {
        let mut quota = Quota::default();
        change(&mut quota);
        Options {
            quota,
            ..Options::default()
        }
    };
    for (what, options) in [
        ("instances", quota(|quota| quota.instances = 0)),
        ("cores", quota(|quota| quota.cores = 1)),
        ("memory", quota(|quota| quota.ram_mib = 1)),
        ("ports", quota(|quota| quota.ports = 1)),
        ("floating", quota(|quota| quota.floating_ips = 0)),
    ] {
        let field = Field::with(options, with_address).await;
        field.act(&create_token(1, "w-1")).await.unwrap();
        let sent = field.mutations();
        let failure = field.act(&create(1, "w-1")).await.unwrap_err();
        assert_eq!(failure.kind, FailureKind::NoCapacity, "{what}: {failure}");
        assert!(failure.message.contains(what), "{what}: {failure}");
        assert_eq!(field.mutations(), sent, "{what}");
    }
}

#[tokio::test]
async fn the_next_flavor_zone_and_network_are_taken_where_the_first_has_no_room() {
    let options = Options {
        zones: vec!["z1".to_owned(), "z2".to_owned()],
        ..Options::default()
    };
    let network = options.networks[0].clone();
    let machine = |machine: Machine| Machine {
        flavors: vec!["no-such-flavor".to_owned(), "2".to_owned()],
        availability_zones: vec!["no-such-zone".to_owned(), "z2".to_owned()],
        networks: vec![Network {
            id: "00000000-0000-4000-8000-000000000000".to_owned(),
            fallback: vec![Options::default().networks[0].clone()],
        }],
        ..machine
    };
    let field = Field::with(options, machine).await;
    let Ok(Done::Created { vm }) = token_and_create(&field).await else {
        panic!("not created");
    };
    field.standin.world(|world| {
        let server = &world.cloud.servers[vm.as_str()];
        assert_eq!((server.flavor.as_str(), server.zone.as_str()), ("2", "z2"));
        assert!(
            world
                .cloud
                .ports
                .values()
                .all(|port| port.network == network)
        );
    });
    // Known by now: the next machine is asked for as the last one was.
    field.act(&create_token(2, "w-2")).await.unwrap();
    let sent = field.mutations();
    field.act(&create(2, "w-2")).await.unwrap();
    assert_eq!(
        field.mutations() - sent,
        3,
        "a port on each network, and the server"
    );
}

#[tokio::test]
async fn a_port_that_was_unbound_from_a_server_that_is_there_is_left_alone() {
    let field = Field::with(Options::default(), with_address).await;
    field
        .standin
        .fault(Rule::new(SERVERS, Fault::NoAddress).method("POST"));
    let Ok(Done::Created { vm }) = token_and_create(&field).await else {
        panic!("not created");
    };
    let seen = field.server_is(vm.as_str(), ServerStatus::Active).await;
    assert!(seen.addresses.is_empty(), "{seen:?}");
    let release = ActionKind::ReleasePorts {
        operation: operation(1),
    };
    let failure = field.act(&action(1, release.clone())).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::NotOwned, "{failure}");
    let delete = ActionKind::DeleteServer {
        vm: vm_ref(&seen, 1),
    };
    assert_eq!(field.done(1, delete).await, Done::Accepted);
    field
        .until(|seen| server(seen, vm.as_str()).is_none().then_some(()))
        .await;
    assert_eq!(field.done(1, release).await, Done::Accepted);
    assert_eq!(left(&field), (0, 0));
}

#[tokio::test]
async fn a_port_of_a_server_whose_marks_were_taken_off_is_left_alone() {
    let field = Field::with(Options::default(), with_address).await;
    let Ok(Done::Created { vm }) = token_and_create(&field).await else {
        panic!("not created");
    };
    field.standin.world(|world| {
        let server = world.cloud.servers.get_mut(vm.as_str()).unwrap();
        server.metadata.clear();
    });
    let release = ActionKind::ReleasePorts {
        operation: operation(1),
    };
    let failure = field.act(&action(2, release)).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::NotOwned, "{failure}");
    assert_eq!(left(&field), (1, 1));
}

#[tokio::test]
async fn ports_are_not_released_on_a_list_that_is_not_whole() {
    let field = Field::with(Options::default(), with_address).await;
    let Ok(Done::Created { vm }) = token_and_create(&field).await else {
        panic!("not created");
    };
    field.standin.world(|world| {
        world.cloud.down_cells.insert(vm.as_str().to_owned());
    });
    let release = ActionKind::ReleasePorts {
        operation: operation(1),
    };
    let failure = field.act(&action(2, release)).await.unwrap_err();
    assert!(
        matches!(failure.kind, FailureKind::Retry { .. }),
        "{failure}"
    );
    assert_eq!(left(&field), (1, 1));
}

#[tokio::test]
async fn a_port_whose_server_never_came_is_seen_and_can_be_released() {
    let field = Field::with(Options::default(), with_address).await;
    field.standin.fault(
        Rule::new(SERVERS, Fault::DropBefore)
            .method("POST")
            .times(1),
    );
    let failure = token_and_create(&field).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Unknown, "{failure}");
    let mut watching = field.watch();
    let [seen] = watching
        .until(&field, |seen| match seen {
            Seen::Observation(Observation::Ports(ports)) => ports.try_into().ok(),
            _ => None,
        })
        .await;
    let seen: PortsView = seen;
    assert_eq!(seen.operation, operation(1));
    // Another operation sweeps it.
    let release = ActionKind::ReleasePorts {
        operation: seen.operation,
    };
    assert_eq!(field.done(9, release).await, Done::Accepted);
    assert_eq!(left(&field), (0, 0));
    let none = watching
        .until(&field, |seen| match seen {
            Seen::Observation(Observation::Ports(ports)) => Some(ports),
            _ => None,
        })
        .await;
    assert_eq!(none, []);
    watching.stop.cancel();
}

#[tokio::test]
async fn the_watch_tells_whose_ports_there_are() {
    let field = Field::with(Options::default(), with_address).await;
    let Ok(Done::Created { .. }) = token_and_create(&field).await else {
        panic!("not created");
    };
    let mut watching = field.watch();
    let seen = watching
        .until(&field, |seen| match seen {
            Seen::Observation(Observation::Ports(ports)) => Some(ports),
            _ => None,
        })
        .await;
    let wanted = PortsView {
        operation: operation(1),
        pool: "workers".into(),
        node: "w-1".into(),
    };
    assert_eq!(seen, [wanted]);
    watching.stop.cancel();
}
