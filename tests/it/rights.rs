//! Who may do what, on every endpoint of a running program: nothing without a token, nothing
//! with the token of another right, and the probes open to anybody.

use crate::harness::{Setup, Site, token};

/// An endpoint, and the one who may use it. An operator may also read.
const ENDPOINTS: [(&str, &str, &str); 14] = [
    ("GET", "/metrics", "readers"),
    ("GET", "/v1/status", "readers"),
    ("GET", "/v1/why?pool=workers", "readers"),
    ("POST", "/v1/events", "agents"),
    ("POST", "/v1/alerts", "alerts"),
    ("POST", "/api/v2/alerts", "alerts"),
    ("POST", "/v1/pause", "operators"),
    ("POST", "/v1/resume", "operators"),
    ("POST", "/v1/scale", "operators"),
    ("POST", "/v1/replace", "operators"),
    ("POST", "/v1/cancel", "operators"),
    ("POST", "/v1/protect", "operators"),
    ("POST", "/v1/maintenance", "operators"),
    ("POST", "/v1/adopt", "operators"),
];

#[test]
fn every_endpoint_asks_for_its_right_and_the_probes_for_none() {
    let mut site = Site::new(Setup {
        tokens: true,
        ..Setup::default()
    });
    site.start(&[]);
    let ask = |method: &str, path: &str, token: Option<&str>| match method {
        "GET" => site.get(path, token).0,
        _ => site.post(path, "{}", token).0,
    };
    for (method, path, right) in ENDPOINTS {
        let what = format!("{method} {path}");
        assert_eq!(ask(method, path, None), 401, "{what} without a token");
        let wrong = token("somebody");
        assert_eq!(ask(method, path, Some(&wrong)), 401, "{what}, unknown");
        for who in ["agents", "alerts", "readers", "operators"] {
            let code = ask(method, path, Some(&token(who)));
            if who == right || (who == "operators" && right == "readers") {
                assert!(code != 0 && code != 401 && code != 403, "{what}: {code}");
            } else {
                assert_eq!(code, 403, "{what} by {who}");
            }
        }
    }
    for probe in ["/livez", "/readyz"] {
        assert_eq!(ask("GET", probe, None), 200, "{probe}");
    }
    assert!(
        site.records()
            .iter()
            .all(|record| !matches!(record, rhizome_engine::journal::Record::Wish { .. })),
        "bodies that are no order changed nothing"
    );
    // An agent's token feeds the engine, and the journal says whose word an order was.
    site.wait("the nodes to be heard", |site| {
        let pool = site.try_status()?.engine.pools.into_iter().next()?;
        pool.nodes
            .iter()
            .any(|node| node.heard.is_some())
            .then_some(())
    });
    let body = r#"{"why": "upgrade", "pool": "workers", "key": "p1"}"#;
    let (code, text) = site.post("/v1/pause", body, Some(&token("operators")));
    assert_eq!(code, 200, "{text}");
    let said = site.order(&[
        "status",
        "--token-file",
        site.path("readers.token").to_str().unwrap(),
    ]);
    assert!(said.contains("paused"), "{said}");
    let by_operators = site.records().iter().any(|record| {
        matches!(record, rhizome_engine::journal::Record::Wish { who, .. } if who.contains("operators"))
    });
    assert!(by_operators);
}
