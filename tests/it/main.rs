//! The one integration binary.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on fails"
)]

mod alertmanager;
mod architecture;
mod cli;
mod config_files;
mod corpus;
mod crash;
mod demo;
mod doctor;
mod dry_run;
mod exit_codes;
mod faults;
mod harness;
mod killed;
mod metrics;
mod mutants;
mod notified;
mod operators;
mod pauses;
mod readme;
mod removals;
mod rights;
mod scenarios;
#[path = "../servers/scripts.rs"]
mod scripts;
mod simulation;
mod stopped;
mod support;
mod unanswered;
mod wishes;
