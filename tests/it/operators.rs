//! An operator's word on its whole way: the command, the listener with its tokens, the API,
//! the gate, and an engine that answers.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;

use rhizome::api::{Api, Parts};
use rhizome::clock::RealClock;
use rhizome::gate::ProgramGate;
use rhizome::handle::{Call, handle};
use rhizome::metrics::Metrics;
use rhizome::policies::Policies;
use rhizome_connectors::auth::{AuthOptions, BearerOptions, Right, SecretSource};
use rhizome_connectors::delivery;
use rhizome_connectors::listen::{ListenOptions, Listener};
use rhizome_engine::event::{OperatorRequest, Wish};
use rhizome_engine::names::PoolName;
use rhizome_engine::settings::Limits;
use rhizome_engine::time::Clock;
use rhizome_engine::{Answer, Counters};
use tokio_util::sync::CancellationToken;

struct Site {
    folder: tempfile::TempDir,
    server: String,
    wishes: std::sync::mpsc::Receiver<OperatorRequest>,
    stop: CancellationToken,
}

impl Site {
    fn token(&self, name: &str) -> PathBuf {
        token(self.folder.path(), name)
    }

    fn rhizome(&self, arguments: &[&str], token: Option<&str>) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rhizome"));
        command
            .args(arguments)
            .args(["--server", &self.server])
            .env("USER", "ann")
            .env_remove("RHIZOME_TOKEN_FILE");
        if let Some(name) = token {
            command.arg("--token-file").arg(self.token(name));
        }
        command.output().unwrap()
    }
}

fn token(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{name}.token"))
}

fn options(folder: &Path) -> ListenOptions {
    let bearer = |who: &str, right| {
        std::fs::write(token(folder, who), format!("{who}-0123456789abcdef\n")).unwrap();
        BearerOptions {
            who: who.to_owned(),
            secret: SecretSource::File(token(folder, who)),
            may: vec![right],
        }
    };
    ListenOptions {
        address: "127.0.0.1:0".parse().unwrap(),
        auth: AuthOptions {
            bearer: vec![
                bearer("agents", Right::Ingest),
                bearer("operators", Right::Operate),
            ],
            basic: Vec::new(),
        },
        ..ListenOptions::default()
    }
}

/// Everything but the engine, which grants whatever is asked.
async fn site() -> Site {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a.rhai"), "// nothing").unwrap();
    let (inlet, outlet) = delivery::channel(4);
    let (engine, calls) = handle(inlet);
    let (told, wishes) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let _outlet = outlet;
        while let Ok(call) = calls.recv() {
            match call {
                Call::Operator(request, reply) => {
                    told.send(request).unwrap();
                    let _ = reply.send(Answer::Granted("granted".to_owned()));
                }
                Call::Counters(reply) => drop(reply.send(Counters::default())),
                _ => {}
            }
        }
    });
    let clock: Arc<dyn Clock> = Arc::new(RealClock::new());
    let api = Api::new(Parts {
        engine,
        gate: ProgramGate::new(Arc::clone(&clock), &Limits::default(), false),
        policies: Policies::load(folder.path()).unwrap(),
        metrics: Arc::new(Metrics::default()),
        clock,
        pools: [PoolName::new("workers")].into(),
        state: folder.path().to_owned(),
        dry_run: false,
    });
    let listener = Listener::bind(options(folder.path())).await.unwrap();
    let server = format!("http://{}", listener.address().unwrap());
    let stop = CancellationToken::new();
    tokio::spawn(listener.serve(api.router(), stop.clone()));
    Site {
        folder,
        server,
        wishes,
        stop,
    }
}

fn said(output: &Output) -> (i32, String) {
    let bytes = [output.stdout.clone(), output.stderr.clone()].concat();
    (
        output.status.code().unwrap(),
        String::from_utf8(bytes).unwrap(),
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_a_token_with_the_right_gives_orders_and_the_journal_would_say_whose() {
    let site = site().await;
    let pause = ["pause", "workers", "--why", "upgrade", "--key", "k1"];
    let (code, text) = said(&site.rhizome(&pause, None));
    assert_eq!(code, 1);
    assert!(text.contains("name a token with `--token-file`"), "{text}");
    let (code, text) = said(&site.rhizome(&pause, Some("agents")));
    assert_eq!(code, 1);
    assert!(text.contains("may not operate"), "{text}");
    assert!(
        site.wishes.try_recv().is_err(),
        "neither reached the engine"
    );
    let (code, text) = said(&site.rhizome(&pause, Some("operators")));
    assert_eq!((code, text.as_str()), (0, "granted\n"));
    assert_eq!(
        site.wishes.try_recv().unwrap(),
        OperatorRequest {
            key: "k1".to_owned(),
            who: "operators (ann)".to_owned(),
            why: "upgrade".to_owned(),
            wish: Wish::Pause {
                pool: Some(PoolName::new("workers"))
            },
        }
    );
    let (code, text) = said(&site.rhizome(&["why", "nobody"], Some("agents")));
    assert_eq!(code, 1);
    assert!(text.contains("may not read"), "{text}");
    site.stop.cancel();
}
