//! The wire tests: what is sent to OpenStack and Kubernetes, and what each answer leads to.
//!
//! The other side is scripted, answer by answer, with the bodies that real services gave.

#![allow(
    dead_code,
    unreachable_pub,
    missing_docs,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test binary"
)]

mod common;
mod discovery;
mod kubeconfig;
mod kubernetes;
mod network;
mod openstack;
mod quotas;
mod services;
