//! Ports and floating addresses.

use serde_json::{Value, json};

use super::UNKNOWN;
use super::servers::server;
use crate::real::target::{Ask, Target};

pub(super) async fn network(t: &mut Target) -> String {
    let (network, public) = (t.network_id.clone(), t.public.clone());
    let port = |more: Value| {
        let mut port = json!({"network_id": network, "name": "w-1", "description": "op-1"});
        port.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        Some(json!({"port": port}))
    };
    let versions = Ask {
        method: "GET",
        url: format!("{}/", t.network),
        token: Some(""),
        ..Ask::default()
    };
    t.ask("neutron's versions, without a token", versions).await;
    let made = t.neutron("a port", "POST", "/ports", port(json!({}))).await;
    let id = made["port"]["id"].as_str().unwrap().to_owned();
    t.name(&id, "port");
    let tagged = t
        .neutron(
            "tags in a create are thrown away",
            "POST",
            "/ports",
            port(json!({"tags": ["t"], "name": "w-2", "description": "op-2"})),
        )
        .await;
    let second = tagged["port"]["id"].as_str().unwrap().to_owned();
    t.name(&second, "second port");
    for (what, more) in [
        (
            "a port of an unknown network",
            json!({"network_id": UNKNOWN}),
        ),
        (
            "a port of an unknown group",
            json!({"security_groups": [UNKNOWN]}),
        ),
        ("a port with a field that is none", json!({"nothing": 1})),
    ] {
        t.neutron(what, "POST", "/ports", port(more)).await;
    }
    for (what, path) in [
        ("ports by their description", "/ports?description=op-1"),
        ("ports by a field that is none", "/ports?nothing=1"),
        (
            "ports with a few fields",
            "/ports?description=op-1&fields=id&fields=name&fields=description",
        ),
        (
            "ports by names, one of them nobody's",
            "/ports?name=w-1&name=w-9&fields=name",
        ),
        (
            "ports by a tag that was thrown away",
            "/ports?tags=t&fields=id",
        ),
        ("no ports", "/ports?description=op-3"),
        ("a port that is none", "/ports/nothing"),
        (
            "security groups by name",
            "/security-groups?name=nodes&fields=id&fields=name",
        ),
        ("nothing there in neutron", "/nothing"),
    ] {
        t.neutron(what, "GET", path, None).await;
    }
    let ask = Ask {
        method: "GET",
        url: format!("{}/v2.0/ports", t.network),
        token: Some("bad"),
        ..Ask::default()
    };
    t.ask("a bad token for neutron", ask).await;
    t.neutron("a port less", "DELETE", &format!("/ports/{second}"), None)
        .await;
    t.neutron(
        "a port less that is none",
        "DELETE",
        &format!("/ports/{second}"),
        None,
    )
    .await;
    let floating = |network: &str, port: &str| {
        Some(json!({"floatingip":
            {"floating_network_id": network, "port_id": port, "description": "op-1"}}))
    };
    for (what, network, port) in [
        (
            "a floating address of an unknown network",
            UNKNOWN,
            id.as_str(),
        ),
        (
            "a floating address for a port that is none",
            public.as_str(),
            UNKNOWN,
        ),
        ("a floating address", public.as_str(), id.as_str()),
        ("a second one for the port", public.as_str(), id.as_str()),
    ] {
        t.neutron(what, "POST", "/floatingips", floating(network, port))
            .await;
    }
    id
}

pub(super) async fn attached(t: &mut Target, port: &str) {
    let mut body = server(t, "w-1");
    body["networks"] = json!([{"port": port}]);
    let made = t
        .nova(
            "a create with a port",
            "2.57",
            "POST",
            "/servers",
            Some(json!({"server": body})),
        )
        .await;
    let id = made["server"]["id"].as_str().unwrap().to_owned();
    t.name(&id, "with a port");
    t.settle(&id, "ACTIVE").await;
    t.nova(
        "a server with a port",
        "2.69",
        "GET",
        &format!("/servers/{id}"),
        None,
    )
    .await;
    t.nova(
        "a port that is in use",
        "2.57",
        "POST",
        "/servers",
        Some(json!({"server": body})),
    )
    .await;
    let path = format!("/ports/{port}");
    t.neutron("a port in use", "GET", &path, None).await;
    let of_server = format!("/ports?device_id={id}&fields=id&fields=device_id");
    t.neutron("the ports of a server", "GET", &of_server, None)
        .await;
    let found = t
        .neutron(
            "its floating address",
            "GET",
            "/floatingips?description=op-1",
            None,
        )
        .await;
    let address = found["floatingips"][0]["id"].as_str().unwrap().to_owned();
    t.name(&address, "floating address");
    t.nova(
        "a delete of its server",
        "2.46",
        "DELETE",
        &format!("/servers/{id}"),
        None,
    )
    .await;
    t.settle(&id, "gone").await;
    t.neutron("a port outlives its server", "GET", &path, None)
        .await;
    t.neutron(
        "a floating address outlives it too",
        "GET",
        "/floatingips?description=op-1",
        None,
    )
    .await;
    let floating = format!("/floatingips/{address}");
    for (what, method, path) in [
        ("a floating address less", "DELETE", &floating),
        ("a floating address less that is none", "DELETE", &floating),
        ("the port less", "DELETE", &path),
        ("the port is gone", "GET", &path),
    ] {
        t.neutron(what, method, path, None).await;
    }
    let ask = Ask {
        method: "GET",
        url: format!("{}/v2.0/quotas/{}/details.json", t.network, t.project_id),
        ..Ask::default()
    };
    t.ask("the quota", ask).await;
}
