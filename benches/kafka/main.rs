//! What a record costs from Kafka to the decision, and what else issue and design ask to be
//! measured of the whole program: `cargo bench --bench kafka`.
//!
//! ```text
//! producer -> librdkafka's mock cluster -+-> connector -> channel -> engine's thread -> journal
//!                                        +-> R: batch read, serde_json, dropped
//! ```
//!
//! Both read the same records in the same run; their processor time is told apart by thread
//! (`cpu.rs`), so that a busy machine stretches the run and hardly the figures.

#![allow(
    clippy::expect_used,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods,
    clippy::panic,
    reason = "a benchmark prints, measures on the machine's clock, and ends where it cannot go on"
)]

mod broker;
mod clock;
mod cpu;
mod disk;
mod fleet;
mod ours;
mod reference;
mod report;
mod run;
mod timing;

use std::path::PathBuf;

use clap::{Parser, ValueEnum};

/// Measures what a record costs from Kafka to the decision.
#[derive(Debug, Parser)]
#[command(name = "kafka", bin_name = "cargo bench --bench kafka --")]
struct Args {
    /// Sizes of the fleet, in nodes.
    #[arg(long, value_delimiter = ',', default_values_t = [1_000, 10_000, 100_000])]
    nodes: Vec<usize>,
    /// Where the program keeps its state, made if it is not there: an action waits for a sync of this
    /// disk. By default the one that the program is built on.
    #[arg(long, default_value = env!("CARGO_TARGET_TMPDIR"))]
    state: PathBuf,
    /// How to print the figures.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
    /// What cargo says to every benchmark.
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    /// A table.
    Text,
    /// One object a line.
    Json,
}

fn main() {
    let args = Args::parse();
    std::fs::create_dir_all(&args.state).expect("the folder for the state can be made");
    for (index, size) in args.nodes.into_iter().enumerate() {
        eprintln!("{size} nodes: takes a few minutes");
        let state = tempfile::tempdir_in(&args.state).expect("a folder");
        let figures = run::measure(size, state.path().to_owned());
        match args.output {
            Output::Text => println!("{}", report::text(&figures, index == 0)),
            Output::Json => println!("{}", report::json(&figures)),
        }
    }
}
