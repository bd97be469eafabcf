//! The command line: what there is, and how each command ends.
//!
//! Every command that asks a running engine goes through its API (`client.rs`); the others
//! read files. None of them acts: `run` alone does.

mod check;
mod client;
mod config;
mod doctor;
mod journal;
mod orders;
mod run;
mod show;
mod standin;
mod status;
mod test;

use std::io::{IsTerminal, Write};
use std::path::PathBuf;

use clap::{CommandFactory, Parser, Subcommand};

use crate::exit::Exit;

pub use show::Style;

/// Keeps the VMs under a Kubernetes cluster the right number and healthy.
#[derive(Debug, Parser)]
#[command(
    name = "rhizome",
    version,
    after_help = "Exit codes: 0 ok, 1 failed or found something, 2 used wrongly, 78 configuration."
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What there is to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run: take in events, decide, and carry out what is decided.
    Run(run::RunArgs),
    /// Watch it all against stand-ins, in two minutes, with no server needed.
    Demo(crate::demo::DemoArgs),
    /// Check policies: every error with its file, line and a caret.
    Check(check::CheckArgs),
    /// Play scenarios: what policies do over a timeline, and whether it is what was expected.
    Test(test::TestArgs),
    /// Check, explain or begin a configuration.
    #[command(subcommand)]
    Config(config::ConfigCommand),
    /// Look at everything that has to be right before it can work, and say what is not.
    Doctor(doctor::DoctorArgs),
    /// Show pools, nodes, operations, brakes and the last decisions.
    Status(status::StatusArgs),
    /// Say why a node or pool is treated as it is.
    Why(status::WhyArgs),
    /// Make no change from now on, in one pool or in all.
    Pause(orders::PauseArgs),
    /// End a pause.
    Resume(orders::PauseArgs),
    /// Ask for a number of nodes, within the pool's bounds.
    Scale(orders::ScaleArgs),
    /// Ask for a new VM in a node's place.
    Replace(orders::ReplaceArgs),
    /// Stop an operation at its next step and undo what can be undone.
    Cancel(orders::CancelArgs),
    /// Never touch a node, or touch it again.
    Protect(orders::ProtectArgs),
    /// Take VMs with our marks that the journal does not know under management.
    Adopt(orders::AdoptArgs),
    /// Leave a node or a pool alone for a while.
    Maintenance(orders::MaintenanceArgs),
    /// Ask whether a running engine goes round: for the health check of a container.
    Health(status::HealthArgs),
    /// Play what `docker-compose.yml` runs beside Rhizome.
    #[command(subcommand)]
    Standin(standin::StandinCommand),
    /// Verify or show a journal.
    #[command(subcommand)]
    Journal(journal::JournalCommand),
    /// Print the completions of a shell.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

/// Where a command writes.
pub struct Out {
    /// How it may write.
    pub style: Style,
}

impl Out {
    /// Standard output.
    pub fn new() -> Self {
        Self {
            style: Style::of(
                std::io::stdout().is_terminal(),
                std::env::var_os("NO_COLOR"),
            ),
        }
    }

    /// Writes what was asked for. A reader that has gone away is no error of ours.
    pub fn say(&self, text: &str) {
        let mut out = std::io::stdout().lock();
        let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    }

    /// Writes what is wrong.
    pub fn complain(&self, text: &str) {
        let text = text.trim_end();
        let _ = writeln!(std::io::stderr().lock(), "{text}");
    }
}

impl Default for Out {
    fn default() -> Self {
        Self::new()
    }
}

/// The configuration where no other is named.
pub const CONFIG_FILE: &str = "rhizome.yaml";

/// Which configuration.
#[derive(Debug, clap::Args)]
pub struct ConfigArg {
    /// The configuration.
    #[arg(long, env = "RHIZOME_CONFIG", default_value = CONFIG_FILE)]
    pub config: PathBuf,
}

/// Runs a command to its end.
pub fn dispatch(command: Command, out: &Out) -> Exit {
    match command {
        Command::Run(args) => run::run(&args, out),
        Command::Demo(args) => run::demo(&args, out),
        Command::Check(args) => check::run(&args, out),
        Command::Test(args) => test::run(&args, out),
        Command::Config(command) => config::run(command, out),
        Command::Journal(command) => journal::run(&command, out),
        Command::Standin(command) => standin::run(&command, out),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "rhizome", &mut script);
            out.say(&String::from_utf8_lossy(&script));
            Exit::Ok
        }
        Command::Doctor(args) => asking(out, async { Ok(doctor::doctor(&args, out).await) }),
        Command::Status(args) => asking(out, status::status(args, out)),
        Command::Health(args) => asking(out, status::health(args, out)),
        Command::Why(args) => asking(out, status::why(args, out)),
        Command::Pause(args) => asking(out, orders::give(args.order("pause"), out)),
        Command::Resume(args) => asking(out, orders::give(args.order("resume"), out)),
        Command::Scale(args) => asking(out, orders::give(args.order(), out)),
        Command::Replace(args) => asking(out, orders::give(args.order(), out)),
        Command::Cancel(args) => asking(out, orders::give(args.order(), out)),
        Command::Protect(args) => asking(out, orders::give(args.order(), out)),
        Command::Adopt(args) => asking(out, orders::give(args.order(), out)),
        Command::Maintenance(args) => asking(out, orders::give(args.order(), out)),
    }
}

/// Runs a command that asks a running engine.
fn asking(out: &Out, work: impl Future<Output = Result<Exit, client::ClientError>>) -> Exit {
    let runtime = match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            out.complain(&format!("cannot start: {error}"));
            return Exit::Failed;
        }
    };
    runtime.block_on(work).unwrap_or_else(|error| {
        out.complain(&error.to_string());
        error.exit()
    })
}
