//! Machines that really boot: our executor and the shipped user data, Nova, cloud-init, kubeadm,
//! kubelets and a cluster, of which none is a stand-in.
//!
//! `life.rs` has a node made, used, drained and removed; `faults.rs` pulls plugs and cables and
//! looks at what the cloud and the cluster then say. All machines of this process are in one
//! cloud and cluster, which `tests/servers/machines/up` starts fresh.

#![allow(
    unreachable_pub,
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test binary; real machines run on the real clock"
)]

#[path = "../shared/acting.rs"]
mod acting;
mod faults;
#[path = "../../../tests/servers/kubectl.rs"]
mod kubectl;
mod life;
mod place;
#[path = "../../../tests/servers/scripts.rs"]
mod scripts;
