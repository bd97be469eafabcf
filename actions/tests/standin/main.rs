//! The executors against the stand-in cloud and cluster: whole courses, lost answers, and what
//! the watches see.
//!
//! Nothing here waits for the machine's time. A clock that is moved by hand goes on in small
//! steps for as long as what is waited for has not come, with room in between for both sides
//! to talk.

#![allow(
    dead_code,
    unreachable_pub,
    missing_docs,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test binary"
)]

#[path = "../wire/common.rs"]
mod common;
mod courses;
mod drains;
mod field;
mod joins;
mod lost;
mod ports;
mod volumes;
mod watching;
