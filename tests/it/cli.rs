//! The program as a person runs it: what it prints, and its exit code.

use std::path::Path;
use std::process::{Command, Output};

use rhizome::api::{OrderAnswer, StatusReport, WhyReport};
use rhizome::journal::{FILE, Journal};
use rhizome_engine::decision::{Decision, Evidence, Observed, Origin, Reason, Refusal, Witness};
use rhizome_engine::event::{PauseSource, Ready, SourceName, SourceReport, StandingPause, Target};
use rhizome_engine::journal::Record;
use rhizome_engine::names::{NodeName, OperationId, PoolName, RuleId, VmId};
use rhizome_engine::remediation::OperationKind;
use rhizome_engine::status::{
    BrakeStatus, NodeStatus, OperationStatus, PauseStatus, PoolStatus, RuleStatus, Status, Why,
};
use rhizome_engine::sweep::Unclaimed;
use rhizome_engine::time::{Now, Timestamp};

fn rhizome(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_rhizome"))
        .args(arguments)
        .env_remove("RHIZOME_SERVER")
        .env_remove("RHIZOME_TOKEN_FILE")
        .env_remove("RHIZOME_CONFIG")
        .env("USER", "ann")
        .output()
        .unwrap()
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Compares with `tests/cli/<name>.txt`; `UPDATE_EXPECT=1` rewrites it.
fn expect(name: &str, said: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/cli/{name}.txt"));
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        std::fs::write(&path, said).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(said, expected, "{name}: UPDATE_EXPECT=1 rewrites it");
}

#[test]
fn a_configuration_is_checked_with_the_exit_codes_of_the_table() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config");
    let check = |file: &str| {
        let path = folder.join(file);
        rhizome(&["config", "check", path.to_str().unwrap()])
    };
    let good = check("good/minimal.yaml");
    assert_eq!(code(&good), 0);
    assert!(text(&good.stdout).ends_with("ok, with the pools workers\n"));
    let bad = check("bad/unknown-keys.yaml");
    assert_eq!(code(&bad), 78);
    assert!(text(&bad.stderr).contains("did you mean `kafka`?"));
    assert_eq!(code(&check("no/such/file.yaml")), 78);
    assert_eq!(code(&rhizome(&["config", "chekc"])), 2);
}

#[test]
fn the_example_that_is_printed_passes_the_check_and_the_schema_is_json() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("rhizome.yaml");
    std::fs::write(&file, rhizome(&["config", "example"]).stdout).unwrap();
    let checked = rhizome(&["config", "check", file.to_str().unwrap()]);
    assert_eq!(code(&checked), 0, "{}", text(&checked.stderr));
    let schema = rhizome(&["config", "schema"]);
    let schema: serde_json::Value = serde_json::from_slice(&schema.stdout).unwrap();
    assert!(schema["properties"]["pools"].is_object());
}

#[test]
fn policies_are_checked_and_a_bad_one_is_shown_with_a_caret() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let good = write(
        "good.rhai",
        "scale_up(\"workers\")\n    .when(mean(\"cpu\", \"5m\") > 0.75)\n    .for_at_least(\"1m\").cooldown(\"20m\");\n",
    );
    let checked = rhizome(&["check", &good]);
    let said = text(&checked.stdout);
    assert_eq!(code(&checked), 0, "{said}{}", text(&checked.stderr));
    assert!(said.contains("scale_up(workers): native"), "{said}");
    let bad = write(
        "bad.rhai",
        "scale_up(\"workers\")\n    .when(maen(\"cpu\", \"5m\") > 0.75);\n",
    );
    let checked = rhizome(&["check", &bad]);
    let said = text(&checked.stdout);
    assert_eq!(code(&checked), 1, "{said}");
    assert!(said.contains("bad.rhai:2:") && said.contains('^'), "{said}");
    let json = rhizome(&["check", &bad, "--output", "json"]);
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(json["ok"], false);
    assert_eq!(json["findings"][0]["line"], 2);
    let folder_name = folder.path().to_str().unwrap();
    assert_eq!(
        code(&rhizome(&["check", folder_name])),
        1,
        "a folder of both"
    );
    assert_eq!(code(&rhizome(&["check"])), 2);
}

#[test]
fn scenarios_are_played_and_what_differs_is_shown() {
    let folder = tempfile::tempdir().unwrap();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("policies");
    let named = |ending: &str| {
        let name = format!("target-tracking-cpu.{ending}");
        let path = folder.path().join(&name);
        std::fs::copy(root.join(&name), &path).unwrap();
        path
    };
    named("rhai");
    let file = named("scenario");
    let name = file.to_str().unwrap();
    let good = rhizome(&["test", folder.path().to_str().unwrap()]);
    let said = text(&good.stdout);
    assert_eq!(code(&good), 0, "{said}{}", text(&good.stderr));
    assert!(said.starts_with(&format!("{name}: ok, ")), "{said}");
    assert!(said.ends_with("1 scenario: ok\n"), "{said}");

    let right = std::fs::read_to_string(&file).unwrap();
    let right = right.replace("expect\n", "expect\n  # Kept.\n");
    let wrong = right.replace("1h7m2s end remove", "1h8m end remove");
    std::fs::write(&file, &wrong).unwrap();
    let bad = rhizome(&["test", name]);
    let said = text(&bad.stdout);
    assert_eq!(code(&bad), 1, "{said}");
    let differs = "  - 1h8m end remove workers-4oovh7o5: done\n  + 1h7m2s end remove workers-4oovh7o5: done\n";
    assert!(said.contains(differs), "{said}");
    assert!(said.contains("1 scenario: 1 failed\n"), "{said}");
    let json = rhizome(&["test", name, "--output", "json"]);
    assert_eq!(code(&json), 1);
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(json["ok"], false);
    assert_eq!(json["scenarios"][0]["error"], serde_json::Value::Null);
    assert_ne!(
        json["scenarios"][0]["came"],
        json["scenarios"][0]["expected"]
    );

    let updated = rhizome(&["test", "--update", "--output", "json", name]);
    assert_eq!(code(&updated), 0);
    let json: serde_json::Value = serde_json::from_slice(&updated.stdout).unwrap();
    assert_eq!(json["scenarios"][0]["rewritten"], true);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), right);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
}

#[test]
fn a_scenario_that_cannot_be_played_says_where() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.scenario");
    let name = file.to_str().unwrap();
    let said = |text_of: &str| {
        std::fs::write(&file, text_of).unwrap();
        let output = rhizome(&["test", name]);
        assert_eq!(code(&output), 1);
        text(&output.stdout)
    };
    let unread = said("policy a.rhai\nevents\n  2m explode w1\n");
    assert!(unread.contains(&format!(" --> {name}:3:3\n")), "{unread}");
    assert!(unread.contains("3 |   2m explode w1\n"), "{unread}");
    let none = said("policy a.rhai\n");
    assert!(none.contains("a.rhai` cannot be read"), "{none}");
    std::fs::write(folder.path().join("a.rhai"), "scale_up(\"p\").wenn(1);").unwrap();
    let policy = said("policy a.rhai\n");
    assert!(
        policy.contains("a.rhai:1:") && policy.contains('^'),
        "{policy}"
    );
    std::fs::remove_file(&file).unwrap();
    let empty = rhizome(&["test", folder.path().to_str().unwrap()]);
    assert_eq!(code(&empty), 1);
    assert!(
        text(&empty.stderr).contains("there is no scenario in"),
        "{}",
        text(&empty.stderr)
    );
    assert_eq!(code(&rhizome(&["test"])), 2);
}

#[test]
fn a_journal_is_verified_and_shown() {
    let folder = tempfile::tempdir().unwrap();
    let record = |pool: &str, size| Record::Desired {
        pool: PoolName::new(pool),
        size,
        origin: Origin::Operator("ann".to_owned()),
        at: Now::default(),
    };
    {
        let mut journal = Journal::open(folder.path(), Timestamp(0)).unwrap().journal;
        journal.append(&[record("a", 3), record("b", 4)]).unwrap();
    }
    let path = folder.path().join(FILE);
    let file = path.to_str().unwrap();
    let verified = rhizome(&["journal", "verify", file]);
    assert_eq!(code(&verified), 0);
    assert!(text(&verified.stdout).contains("whole, 2 records"));
    let shown = rhizome(&["journal", "show", file, "--pool", "b"]);
    assert_eq!(
        text(&shown.stdout),
        "1970-01-01T00:00:00.000Z b shall have 4 nodes (operator ann)\n"
    );
    let mut bytes = std::fs::read(&path).unwrap();
    let place = bytes.len() - 10;
    bytes[place] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let damaged = rhizome(&["journal", "verify", file]);
    assert_eq!(code(&damaged), 1);
    assert!(text(&damaged.stderr).contains("line 3 (byte "));
}

#[test]
fn no_engine_and_a_wrong_word_are_told_with_what_to_do() {
    let none = rhizome(&["status", "--server", "http://127.0.0.1:1"]);
    assert_eq!(code(&none), 1);
    let said = text(&none.stderr);
    assert!(said.contains("is `rhizome run` up there?"), "{said}");
    assert_eq!(code(&rhizome(&["sttaus"])), 2);
    assert_eq!(code(&rhizome(&["pause"])), 2, "an order needs its why");
    assert!(text(&rhizome(&["completions", "bash"]).stdout).contains("rhizome"));
}

fn operation() -> OperationId {
    OperationId {
        journal: 0x0a1b_2c3d,
        number: 17,
    }
}

fn evidence() -> Evidence {
    Evidence {
        values: vec![Observed {
            signal: "mean(\"cpu\", \"5m\")".into(),
            value: Some(0.81),
            coverage: Some(0.97),
            bound: Some(0.75),
        }],
        witnesses: Vec::new(),
        policy: "ab12".into(),
    }
}

fn node(name: &str, ready: Ready, heard: Option<i64>) -> NodeStatus {
    NodeStatus {
        name: NodeName::new(name),
        vm: Some(VmId::new("vm")),
        vm_status: Some("ACTIVE".to_owned()),
        ready: Some(ready),
        cordoned: false,
        heard: heard.map(Timestamp),
        marked: true,
        owned: true,
        protected: name == "workers-1",
    }
}

fn report() -> StatusReport {
    let at = 1_795_333_374_192;
    StatusReport {
        version: "0.1.0".to_owned(),
        dry_run: true,
        policies_refused: Some("a.rhai:2:5: `maen` is not known".to_owned()),
        engine: Status {
            at: Timestamp(at),
            cluster: "prod".to_owned(),
            epoch: 4,
            started: Timestamp(at - 3_600_000),
            journal_well: false,
            policies: "ab12".to_owned(),
            pools: vec![PoolStatus {
                name: PoolName::new("workers"),
                size: 3,
                ready: 1,
                desired: Some(3),
                min: 1,
                max: 5,
                paused: true,
                maintenance: None,
                nodes: vec![
                    node("workers-1", Ready::True, Some(at - 8_400)),
                    node("workers-2", Ready::Unknown, None),
                ],
            }],
            sources: vec![SourceReport {
                source: SourceName::Kafka,
                flowing: false,
                lag: std::time::Duration::from_secs(42),
                refilled: true,
                trouble: "broker kafka-1 is\u{1b}[2J away".to_owned(),
            }],
            brakes: vec![BrakeStatus {
                brake: "blind kafka".to_owned(),
                since: Timestamp(at - 60_000),
                detail: "42s behind".to_owned(),
            }],
            pauses: vec![PauseStatus {
                source: PauseSource::File,
                since: Timestamp(at - 60_000),
                pause: StandingPause {
                    pools: [PoolName::new("workers")].into(),
                    who: "uid 0, in `/etc/rhizome/pause`".to_owned(),
                    why: "upgrade".to_owned(),
                },
            }],
            operations: vec![OperationStatus {
                id: operation(),
                kind: OperationKind::Add,
                pool: PoolName::new("workers"),
                node: Some(NodeName::new("workers-3")),
                step: "wait_active".to_owned(),
                began: Timestamp(at - 90_500),
                step_began: Timestamp(at - 30_000),
                waits: "the VM to become ACTIVE".to_owned(),
            }],
            unclaimed: vec![Unclaimed {
                node: NodeName::new("workers-7"),
                pool: PoolName::new("workers"),
                vm: Some(VmId::new("vm-7")),
                what: "not adopted: no operation of this journal made it".to_owned(),
            }],
            decisions: vec![Decision {
                at: Timestamp(at - 90_500),
                operation: Some(operation()),
                pool: PoolName::new("workers"),
                node: None,
                what: "add 1 node".to_owned(),
                origin: Origin::Rule(RuleId::new("scale.rhai:1")),
                why: "busy".to_owned(),
                evidence: evidence(),
            }],
            refusals: vec![refusal(at)],
            unknown_records: 7,
            unknown_names: vec!["laptop".to_owned()],
        },
    }
}

fn refusal(at: i64) -> Refusal {
    Refusal {
        at: Timestamp(at - 1_000),
        pool: PoolName::new("workers"),
        node: Some(NodeName::new("workers-2")),
        what: "replace workers-2".to_owned(),
        origin: Origin::Rule(RuleId::new("heal.rhai:3")),
        reason: Reason::OneWitness,
        detail: "only heartbeat says so".to_owned(),
        evidence: Evidence {
            witnesses: vec![Witness::Heartbeat],
            ..Evidence::default()
        },
    }
}

/// A server that answers as an engine would, on a thread of its own; returns its address.
fn engine() -> String {
    use axum::http::StatusCode;
    use axum::routing::{get, post};
    use axum::{Json, Router};
    let why = WhyReport {
        now: Some(Why {
            target: Target::Node(NodeName::new("workers-2")),
            rules: vec![RuleStatus {
                rule: RuleId::new("heal.rhai:3"),
                verdict: "true".to_owned(),
                hold: std::time::Duration::from_secs(60),
                held: Some(std::time::Duration::from_secs(42)),
                evidence: evidence(),
            }],
            stories: Vec::new(),
        }),
        history: vec![
            Record::Refusal {
                refusal: refusal(1_795_333_374_192),
            }
            .into(),
        ],
    };
    let answer = |granted, reason: Option<&str>, text: &str| OrderAnswer {
        granted,
        reason: reason.map(str::to_owned),
        text: text.to_owned(),
        key: "k".to_owned(),
    };
    let paused = answer(true, None, "paused workers");
    let refused = answer(false, Some("at_maximum"), "workers has 5 of 5 nodes");
    let router = Router::new()
        .route("/v1/status", get(|| async { Json(report()) }))
        .route("/v1/why", get(|| async { Json(why) }))
        .route("/v1/pause", post(|| async { Json(paused) }))
        .route(
            "/v1/scale",
            post(|| async { (StatusCode::CONFLICT, Json(refused)) }),
        );
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    socket.set_nonblocking(true).unwrap();
    let address = format!("http://{}", socket.local_addr().unwrap());
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let socket = tokio::net::TcpListener::from_std(socket).unwrap();
            axum::serve(socket, router).await.unwrap();
        });
    });
    address
}

#[test]
fn status_why_and_orders_are_shown_as_in_the_golden_files() {
    let server = engine();
    let ask = |arguments: &[&str]| {
        let mut all = arguments.to_vec();
        all.extend(["--server", &server]);
        rhizome(&all)
    };
    let status = ask(&["status"]);
    assert_eq!(code(&status), 0, "{}", text(&status.stderr));
    expect("status", &text(&status.stdout));
    assert!(
        !status.stdout.contains(&0x1b),
        "no colour and no control character in a pipe"
    );
    let json = ask(&["status", "--output", "json"]);
    let json: StatusReport = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(json, report());
    expect("why", &text(&ask(&["why", "workers-2"]).stdout));
    let paused = ask(&["pause", "workers", "--why", "upgrade"]);
    assert_eq!(
        (code(&paused), text(&paused.stdout)),
        (0, "paused workers\n".to_owned())
    );
    let refused = ask(&["scale", "workers", "9", "--why", "load test"]);
    assert_eq!(code(&refused), 1);
    expect("refused", &text(&refused.stderr));
}
