//! Stops that come through when their operation is over: what was stopped is started again.
//!
//! A stop that was accepted waits in the cloud for as long as the host under the VM is away, and
//! shows as long as it waits: the VM is not idle. So what comes of it is known without a doubt,
//! and a VM that somebody else stops later is left as it is.

use super::eyes::Eyes;
use crate::engine::Engine;
use crate::event::ServerStatus;
use crate::journal::Record;
use crate::remediation::{self, Seen, Sight};
use crate::time::Now;

impl Engine {
    /// Looks what became of each stop that was still on its way when its operation ended.
    pub(super) fn follow_late_stops(&mut self, now: Now) {
        let late: Vec<_> = self.state.late_stops.values().cloned().collect();
        for operation in late {
            let Some((old, vm)) = operation
                .old
                .as_ref()
                .and_then(|old| Some((old, old.vm.as_ref()?)))
            else {
                continue;
            };
            // What another operation does to it goes first.
            if self.guard(now).operation_of(&old.node).is_some() {
                continue;
            }
            let next = match (Eyes { engine: self }).server(vm) {
                Sight::Unknown => continue,
                Sight::There(server) if !server.idle => continue,
                Sight::There(server) if server.status == ServerStatus::Shutoff => {
                    remediation::take_up(&operation, self.here(now))
                }
                Sight::There(_) | Sight::Gone { .. } => remediation::forget_stop(&operation),
            };
            self.emit(Record::Operation {
                operation: Box::new(next),
            });
        }
    }
}
