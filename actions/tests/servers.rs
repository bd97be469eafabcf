//! Tests with real servers, in one binary: nearly all of each is waiting, so they wait together.
//!
//! `cluster` is our executor on a real API server, `real` OpenStack's own services and what their
//! answers are, `machines` servers that really boot.

#![allow(
    unreachable_pub,
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a test binary; real servers run on the real clock"
)]

#[path = "shared/acting.rs"]
mod acting;
mod cluster;
#[path = "../../tests/servers/kubectl.rs"]
mod kubectl;
mod machines;
mod real;
#[path = "../../tests/servers/scripts.rs"]
mod scripts;
