//! The same conversation with the stand-in cluster and with a real API server, compared answer
//! by answer: status, the headers that matter and the whole body, ids and times masked.
//!
//! So the stand-in cannot drift into fiction. What it leaves out by design is named in
//! `side.rs`, with its reason; everything else that differs fails the test.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "a test that meets what it does not expect must fail; real servers run on the real clock"
)]

mod drains;
mod lists;
mod nodes;
#[path = "../../../tests/servers/scripts.rs"]
mod scripts;
mod side;
mod tokens;

use side::{Side, compare};

/// Holds the same conversation with both sides and compares what they said.
macro_rules! contract {
    ($($name:ident = $talk:path;)*) => {
        $(#[tokio::test]
        async fn $name() {
            let Some(mut real) = Side::real() else { return };
            let mut standin = Side::standin().await;
            tokio::join!($talk(&mut real), $talk(&mut standin));
            compare(&real, &standin);
        })*
    };
}

contract! {
    health_and_version = lists::health;
    lists_and_pages = lists::pages;
    watches = lists::watches;
    nodes_are_changed = nodes::changes;
    nodes_are_removed = nodes::removal;
    leases = nodes::leases;
    bootstrap_tokens = tokens::secrets;
    what_a_token_may = tokens::rights;
    requests_for_certificates = tokens::certificates;
    evictions = drains::evictions;
    budgets = drains::budgets;
    pods_are_deleted = drains::deletions;
}
