//! The executor against a real Kubernetes API server, with exactly the rights of
//! `deploy/rbac.yaml`: machines join, are let in or not, nodes are drained and removed.
//!
//! The nodes are light guests that speak to it as kubelets do. Each test has names of its own,
//! because all share one cluster.

#![allow(
    unreachable_pub,
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test binary; real servers run on the real clock"
)]

#[path = "../shared/acting.rs"]
mod acting;
mod doctor;
mod drains;
mod faults;
mod joins;
#[path = "../../../tests/servers/kubectl.rs"]
mod kubectl;
mod nodes;
mod place;
#[path = "../../../tests/servers/scripts.rs"]
mod scripts;
mod volumes;
mod watches;
