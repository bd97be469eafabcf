//! The bodies of the fuzz targets, each a function of bytes that panics on a defect.
//!
//! `cargo +nightly fuzz run <name>` runs one of them here on made-up bytes; `cargo test` of
//! the program runs all of them on every file under `corpus/<name>/` (`tests/it/corpus.rs`
//! includes this very file). To add one: a function in the file of its room, a line in
//! [`TARGETS`], a file in `fuzz_targets/`, a `[[bin]]` in `Cargo.toml`, and a few seeds in
//! `corpus/`. What fuzzing finds goes into the corpus under a name that says what it was.

mod connectors;
mod program;

pub use connectors::{alerts, decode, line_protocol};
pub use program::{config, journal, policies};

/// A target: its name, which is that of its corpus, and its body.
pub type Target = (&'static str, fn(&[u8]));

/// Every target there is.
pub const TARGETS: &[Target] = &[
    ("decode", decode),
    ("line_protocol", line_protocol),
    ("alerts", alerts),
    ("journal", journal),
    ("config", config),
    ("policies", policies),
];
