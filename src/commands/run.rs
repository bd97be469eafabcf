//! `rhizome run` and `rhizome demo`: the commands that act.

use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};

use super::{ConfigArg, Out};
use crate::clock::RealClock;
use crate::demo::{self, DemoArgs};
use crate::exit::Exit;
use crate::run::{Options, Program};
use crate::{config, telemetry};

/// How often it is looked at whether the engine's thread still runs.
const LOOK: Duration = Duration::from_secs(1);

/// What can be said to `run`.
#[derive(Debug, clap::Args)]
pub struct RunArgs {
    #[command(flatten)]
    config: ConfigArg,
    /// Decide, journal and explain, and call nothing that changes anything
    #[arg(long)]
    dry_run: bool,
}

/// Runs until SIGTERM or SIGINT.
pub(super) fn run(args: &RunArgs, out: &Out) -> Exit {
    let loaded = match config::load(&args.config.config) {
        Ok(loaded) => loaded,
        Err(error) => {
            out.complain(&error.to_string());
            return Exit::Config;
        }
    };
    telemetry::init(&loaded.config.log);
    on_runtime(out, async {
        let options = Options {
            dry_run: args.dry_run,
            clock: Arc::new(RealClock::new()),
            told: Vec::new(),
        };
        let program = match Program::start(&loaded, options).await {
            Ok(program) => program,
            Err(error) => {
                out.complain(&chain(&error));
                return error.exit();
            }
        };
        let ended = until_told(&program).await;
        program.stop().await;
        ended
    })
}

/// Plays the demo.
pub(super) fn demo(args: &DemoArgs, out: &Out) -> Exit {
    on_runtime(out, async {
        match demo::play(args).await {
            Ok(exit) => exit,
            Err(error) => {
                out.complain(&chain(&error));
                Exit::Failed
            }
        }
    })
}

async fn until_told(program: &Program) -> Exit {
    let (Ok(mut term), Ok(mut int)) = (
        signal(SignalKind::terminate()),
        signal(SignalKind::interrupt()),
    ) else {
        tracing::error!("signals cannot be listened to, so nothing could stop the program");
        return Exit::Failed;
    };
    loop {
        tokio::select! {
            _ = term.recv() => return Exit::Ok,
            _ = int.recv() => return Exit::Ok,
            () = tokio::time::sleep(LOOK) => {
                if program.ended() {
                    tracing::error!("the engine's thread has ended by itself: this is a defect");
                    return Exit::Failed;
                }
            }
        }
    }
}

pub(super) fn on_runtime(out: &Out, work: impl Future<Output = Exit>) -> Exit {
    match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => {
            let exit = runtime.block_on(work);
            // What still runs has had its time. To drop the runtime would wait for it.
            runtime.shutdown_background();
            exit
        }
        Err(error) => {
            out.complain(&format!("cannot start: {error}"));
            Exit::Failed
        }
    }
}

/// An error with everything that led to it, on one line.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}
