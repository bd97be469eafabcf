//! `rhizome doctor`: what has to be right before Rhizome can work, looked at from here.
//!
//! It reads the configuration and its secrets, asks each service, and changes nothing. Nothing
//! of a secret is printed but where it comes from.

mod kafka;

use std::sync::Arc;

use clap::Args;
use rhizome_actions::kubernetes::Kubernetes;
use rhizome_actions::openstack::Openstack;
use rhizome_actions::{Finding, Health, TokenVault, install_crypto_provider};
use rhizome_engine::names::PoolName;
use rhizome_engine::time::Clock;
use serde::Serialize;

use super::run::chain;
use super::status::Output;
use super::{ConfigArg, Out, show};
use crate::clock::RealClock;
use crate::config::{self, Loaded};
use crate::exit::Exit;
use crate::run::services;

const PAUSE_RIGHT: &str =
    "let our account read the ConfigMap of `pause.config_map`, as deploy/rbac.yaml does";

/// `doctor`.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    #[command(flatten)]
    config: ConfigArg,
    /// How to show it.
    #[arg(long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

/// What was found.
#[derive(Debug, Serialize)]
struct Report {
    ok: bool,
    findings: Vec<Line>,
}

/// One finding, with the part of the program that it concerns.
#[derive(Debug, Serialize)]
struct Line {
    part: &'static str,
    #[serde(flatten)]
    finding: Finding,
}

pub(super) async fn doctor(args: &DoctorArgs, out: &Out) -> Exit {
    install_crypto_provider();
    let file = &args.config.config;
    let loaded = match config::load(file) {
        Ok(loaded) => loaded,
        Err(error) => {
            out.complain(&error.to_string());
            return Exit::Config;
        }
    };
    let clock: Arc<dyn Clock> = Arc::new(RealClock::new());
    let mut findings = vec![Line {
        part: "configuration",
        finding: Finding::ok("file", format!("`{}` is sound", file.display())),
    }];
    let (kafka, openstack, kubernetes) = tokio::join!(
        kafka::examine(&loaded),
        openstack(&loaded, &clock),
        kubernetes(&loaded, &clock)
    );
    for (part, found) in [
        ("kafka", kafka),
        ("openstack", openstack),
        ("kubernetes", kubernetes),
    ] {
        findings.extend(found.into_iter().map(|finding| Line { part, finding }));
    }
    let ok = findings
        .iter()
        .all(|line| line.finding.health != Health::Bad);
    let report = Report { ok, findings };
    out.say(&match args.output {
        Output::Table => table(&report, out),
        Output::Json => super::status::json(&report),
    });
    if ok { Exit::Ok } else { Exit::Failed }
}

async fn openstack(loaded: &Loaded, clock: &Arc<dyn Clock>) -> Vec<Finding> {
    let advice = "check `openstack`: the address, the CA and the credentials";
    let bad = |said: String| vec![Finding::bad("credentials", said, advice)];
    let (options, source) = match services::openstack(loaded) {
        Ok(found) => found,
        Err(error) => return bad(chain(&error)),
    };
    let client = Openstack::new(options, Arc::clone(clock), Arc::new(TokenVault::new()));
    let pools = loaded.config.pools.iter();
    let most = pools.map(|(name, pool)| (PoolName::new(name), pool.max + pool.surge));
    match client {
        Ok(client) => client.examine(&source, &most.collect()).await,
        Err(error) => bad(chain(&error)),
    }
}

async fn kubernetes(loaded: &Loaded, clock: &Arc<dyn Clock>) -> Vec<Finding> {
    let Some(options) = services::kubernetes(loaded) else {
        return Vec::new();
    };
    let client = Kubernetes::new(options, Arc::clone(clock), Arc::new(TokenVault::new())).await;
    match client {
        Ok(client) => {
            let mut found = client.examine().await;
            found.extend(pause(loaded).await);
            found
        }
        Err(error) => vec![Finding::bad(
            "credentials",
            chain(&error),
            "check `kubernetes.kubeconfig`",
        )],
    }
}

/// Whether the ConfigMap of a pause can be read: if not, nothing would ever be removed.
async fn pause(loaded: &Loaded) -> Option<Finding> {
    let (map, name) = match services::pause_map(loaded).await {
        Ok(found) => found?,
        Err(error) => return Some(Finding::bad("pause", error.to_string(), PAUSE_RIGHT)),
    };
    Some(match map.read().await {
        Ok(None) => Finding::ok("pause", format!("none by the ConfigMap `{name}`")),
        Ok(Some(_)) => Finding::warning(
            "pause",
            format!("the ConfigMap `{name}` is there and pauses"),
            "`kubectl delete configmap` ends it",
        ),
        Err(failure) => Finding::bad("pause", failure.message, PAUSE_RIGHT),
    })
}

fn table(report: &Report, out: &Out) -> String {
    let mut rows = vec![["", "PART", "WHAT", "FOUND"].map(str::to_owned).to_vec()];
    for Line { part, finding } in &report.findings {
        let mark = match finding.health {
            Health::Ok => "ok",
            Health::Warning => "look",
            Health::Bad => "BAD",
        };
        let said = show::plain(&finding.said);
        rows.push(vec![
            mark.to_owned(),
            (*part).to_owned(),
            finding.what.clone(),
            said,
        ]);
        if !finding.advice.is_empty() {
            let advice = format!("-> {}", finding.advice);
            rows.push(vec![String::new(), String::new(), String::new(), advice]);
        }
    }
    let mut text = String::new();
    show::table(&mut text, &rows, out.style);
    text
}
