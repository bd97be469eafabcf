//! Machines that really boot: our executor and the shipped user data, Nova, cloud-init, kubeadm,
//! kubelets and a cluster, of which none is a stand-in.
//!
//! `life.rs` has a node made, used, drained and removed; `faults.rs` pulls plugs and cables and
//! looks at what the cloud and the cluster then say. All machines of this process are in one
//! cloud and cluster, which `tests/servers/machines/up` starts fresh.

mod faults;
mod life;
mod place;
