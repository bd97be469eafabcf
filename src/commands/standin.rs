//! `rhizome standin`: the parts of `docker-compose.yml` that are played.

use clap::Subcommand;
use tokio::signal::unix::{SignalKind, signal};

use super::Out;
use super::run::{chain, on_runtime};
use crate::config::{LogConfig, LogFormat};
use crate::exit::Exit;
use crate::standin::{self, CloudArgs, GuestArgs, SecretsArgs, StandinError};
use crate::telemetry;

/// What is played.
#[derive(Debug, Subcommand)]
pub enum StandinCommand {
    /// Serve a stand-in cloud and cluster, unencrypted and with known passwords.
    Cloud(CloudArgs),
    /// Be one of its machines, with a collectd of its own.
    Guest(GuestArgs),
    /// Make a certificate and tokens for a Rhizome that is only tried.
    Secrets(SecretsArgs),
}

/// Plays it until SIGTERM or SIGINT.
pub(super) fn run(command: &StandinCommand, out: &Out) -> Exit {
    telemetry::init(&LogConfig {
        // A broker that comes up later is told of by its client twice a second.
        level: "info,librdkafka=off".to_owned(),
        format: LogFormat::Text,
    });
    on_runtime(out, async {
        let played = match command {
            StandinCommand::Cloud(args) => standin::serve(args, told_to_stop()).await,
            StandinCommand::Guest(args) => standin::play(args, told_to_stop()).await,
            StandinCommand::Secrets(args) => standin::write(args),
        };
        end(played, out)
    })
}

fn end(played: Result<(), StandinError>, out: &Out) -> Exit {
    match played {
        Ok(()) => Exit::Ok,
        Err(error) => {
            out.complain(&chain(&error));
            Exit::Failed
        }
    }
}

/// As the first process of a container it has to listen: nothing would end it otherwise.
async fn told_to_stop() {
    let (Ok(mut term), Ok(mut int)) = (
        signal(SignalKind::terminate()),
        signal(SignalKind::interrupt()),
    ) else {
        tracing::error!("signals cannot be listened to");
        return;
    };
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
}
