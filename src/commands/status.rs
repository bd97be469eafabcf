//! `rhizome status`, `rhizome why` and `rhizome health`: what a running engine shows of itself.

use std::time::Duration;

use clap::{Args, ValueEnum};

use super::client::{Client, ClientError, ServerArgs};
use super::{Out, show};
use crate::api::{StatusReport, WhyReport};
use crate::exit::Exit;

/// How often `--watch` asks again: as often as the engine looks at what time changes.
const WATCH_EVERY: Duration = Duration::from_secs(1);

/// `status`.
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// How to show it.
    #[arg(long, value_enum, default_value_t = Output::Table)]
    output: Output,
    /// Show it again each second, until Ctrl-C.
    #[arg(long)]
    watch: bool,
    #[command(flatten)]
    server: ServerArgs,
}

/// `why`.
#[derive(Debug, Args)]
pub struct WhyArgs {
    /// The node, or with `--pool` the pool.
    name: String,
    /// It is a pool.
    #[arg(long)]
    pool: bool,
    /// How far back, as `2h`; as far as the journal goes without it.
    #[arg(long)]
    since: Option<String>,
    /// How to show it.
    #[arg(long, value_enum, default_value_t = Output::Table)]
    output: Output,
    #[command(flatten)]
    server: ServerArgs,
}

/// `health`.
#[derive(Debug, Args)]
pub struct HealthArgs {
    #[command(flatten)]
    server: ServerArgs,
}

/// How to show an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Output {
    /// Tables for a person.
    Table,
    /// JSON for a program.
    Json,
}

pub(super) async fn status(args: StatusArgs, out: &Out) -> Result<Exit, ClientError> {
    let client = args.server.client()?;
    loop {
        let report: StatusReport = client.get("/v1/status", &[]).await?;
        let text = match args.output {
            Output::Table => show::status(&report, out.style),
            Output::Json => json(&report),
        };
        if args.watch && args.output == Output::Table {
            out.say(out.style.clear());
        }
        out.say(&text);
        if !args.watch {
            return Ok(Exit::Ok);
        }
        tokio::time::sleep(WATCH_EVERY).await;
    }
}

/// Asks the probe that needs no right: what it answers is for the log of whoever looks.
pub(super) async fn health(args: HealthArgs, out: &Out) -> Result<Exit, ClientError> {
    out.say(&args.server.client()?.probe("/livez").await?);
    Ok(Exit::Ok)
}

pub(super) async fn why(args: WhyArgs, out: &Out) -> Result<Exit, ClientError> {
    let client = args.server.client()?;
    let report = if args.pool {
        ask(&client, "pool", &args).await?
    } else {
        // A bare name may be either; nodes are asked for more often.
        match ask(&client, "node", &args).await {
            Err(ClientError::Refused(no_node)) => match ask(&client, "pool", &args).await {
                Err(ClientError::Refused(_)) => return Err(ClientError::Refused(no_node)),
                other => other?,
            },
            other => other?,
        }
    };
    let text = match args.output {
        Output::Table => show::why(&args.name, &report, out.style),
        Output::Json => json(&report),
    };
    out.say(&text);
    Ok(Exit::Ok)
}

async fn ask(client: &Client, kind: &str, args: &WhyArgs) -> Result<WhyReport, ClientError> {
    let mut query = vec![(kind, args.name.as_str())];
    query.extend(args.since.as_deref().map(|since| ("since", since)));
    client.get("/v1/why", &query).await
}

pub(super) fn json<T: serde::Serialize>(value: &T) -> String {
    match serde_json::to_string_pretty(value) {
        Ok(text) => text + "\n",
        Err(error) => format!("{error}\n"),
    }
}
