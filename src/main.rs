//! The program: arguments, and over to the command.

use std::process::ExitCode;

use clap::Parser;
use rhizome::commands::{Cli, Out, dispatch};

fn main() -> ExitCode {
    // Before anything speaks TLS: the libraries are built without a choice of their own.
    rhizome_actions::install_crypto_provider();
    dispatch(Cli::parse().command, &Out::new()).into()
}
