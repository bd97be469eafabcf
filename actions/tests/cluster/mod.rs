//! The executor against a real Kubernetes API server, with exactly the rights of
//! `deploy/rbac.yaml`: machines join, are let in or not, nodes are drained and removed.
//!
//! The nodes are light guests that speak to it as kubelets do. Each test has names of its own,
//! because all share one cluster.

mod doctor;
mod drains;
mod faults;
mod joins;
mod nodes;
mod place;
mod volumes;
mod watches;
