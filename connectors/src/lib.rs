//! The world to events: what agents, alerting and the operator's cluster say becomes input
//! to the engine.
//!
//! The walk of a sample here: `kafka` or [`http`] receives bytes, [`decode`] makes records of
//! them, [`delivery`] carries batches of records to the engine's thread over a bounded
//! channel. What cannot be read is counted and kept in [`deadletter`]. [`alerts`] takes the
//! webhooks of Alertmanager and Grafana. [`auth`] and [`listen`] stand in front of everything
//! that listens, the program's own API too.
//!
//! Nothing here decides anything, and nothing here acts.

pub mod alerts;
pub mod auth;
pub mod deadletter;
pub mod decode;
pub mod delivery;
pub mod http;
pub mod kafka;
pub mod listen;

pub use delivery::{Ack, Acknowledge, Delivery, Inlet, Outlet, Position};
