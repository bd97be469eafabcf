//! How servers come, change with time, and go.

use std::collections::{BTreeMap, BTreeSet};

use rhizome_engine::time::Timestamp;

use super::{Outcome, Server, ServerFault, Task, VmState};
use crate::ledger::Fact;
use crate::world::World;

/// What a create asks for, checked.
#[derive(Debug, Clone, Default)]
pub(crate) struct Wanted {
    pub(crate) name: String,
    pub(crate) flavor: String,
    pub(crate) image: String,
    pub(crate) metadata: BTreeMap<String, String>,
    pub(crate) tags: BTreeSet<String>,
    pub(crate) user_data: Option<String>,
    pub(crate) security_groups: Vec<String>,
    pub(crate) key_name: Option<String>,
    pub(crate) zone: Option<String>,
    pub(crate) ports: Vec<String>,
    pub(crate) group: Option<String>,
}

impl World {
    /// Makes a server; gives its id.
    pub(crate) fn create_server(&mut self, wanted: Wanted, outcome: Outcome) -> String {
        let id = self.ids.uuid();
        let number = self.cloud.next_number();
        for port in &wanted.ports {
            if let Some(port) = self.cloud.ports.get_mut(port) {
                port.device = Some(id.clone());
                port.updated = self.now;
                port.revision += 2;
            }
        }
        let port_address = wanted
            .ports
            .first()
            .and_then(|id| Some(self.cloud.ports.get(id)?.address()));
        if let Some(group) = wanted.group.and_then(|id| self.cloud.groups.get_mut(&id)) {
            group.members.push(id.clone());
        }
        let zones = &self.options.zones;
        let turn = number as usize % zones.len().max(1);
        let zone = wanted
            .zone
            .or_else(|| zones.get(turn).cloned())
            .unwrap_or_else(|| "nova".to_owned());
        let server = Server {
            id: id.clone(),
            name: wanted.name,
            created: self.now,
            updated: self.now,
            launched: None,
            terminated: None,
            vm_state: VmState::Building,
            task: Some(Task::Scheduling),
            metadata: wanted.metadata,
            tags: wanted.tags,
            user_data: wanted.user_data,
            flavor: wanted.flavor,
            image: wanted.image,
            security_groups: wanted.security_groups,
            key_name: wanted.key_name,
            zone,
            ports: wanted.ports,
            port_address,
            number,
            fault: None,
            locked: false,
            built: false,
            boots: 0,
            disk: 0,
            due: Some(self.now.plus(self.options.build_time)),
            outcome,
            delete_after_build: false,
        };
        self.note(Fact::ServerCreated {
            id: id.clone(),
            pool: server.pool().map(str::to_owned),
            operation: server.operation(),
        });
        self.cloud.servers.insert(id.clone(), server);
        id
    }

    /// Lets the servers' tasks end whose time has come.
    pub(crate) fn step_cloud(&mut self) {
        let now = self.now;
        for server in self.cloud.servers.values_mut() {
            // The scheduler has chosen a host by the first step after the create.
            if server.task == Some(Task::Scheduling) && now > server.created {
                server.task = Some(Task::Spawning);
            }
        }
        let due: Vec<String> = self
            .cloud
            .servers
            .values()
            .filter(|server| server.due.is_some_and(|due| due <= now))
            .map(|server| server.id.clone())
            .collect();
        for id in due {
            self.finish_task(&id);
        }
    }

    fn finish_task(&mut self, id: &str) {
        let now = self.now;
        let Some(server) = self.cloud.servers.get_mut(id) else {
            return;
        };
        let task = server.task.take();
        server.due = None;
        server.updated = now;
        let fact = match task {
            Some(Task::Scheduling | Task::Spawning) => finish_build(server, now),
            Some(Task::Deleting) => {
                self.remove_server(id);
                return;
            }
            Some(Task::PoweringOff) => {
                server.vm_state = VmState::Stopped;
                Some(Fact::ServerOff { id: id.to_owned() })
            }
            Some(Task::Rebuilding) => {
                // Seen: it boots from its new disk, and one that was off is stopped again.
                if server.vm_state == VmState::Stopped {
                    server.task = Some(Task::PoweringOff);
                    server.due = Some(now.plus(self.options.action_time));
                }
                server.vm_state = VmState::Active;
                server.boots += 1;
                server.disk += 1;
                server.fault = None;
                None
            }
            Some(Task::Rebooting | Task::RebootingHard | Task::PoweringOn) => {
                server.vm_state = VmState::Active;
                server.boots += 1;
                server.fault = None;
                None
            }
            None => None,
        };
        let gone = server.delete_after_build;
        if server.is_cut_off() {
            self.unbind_ports(id);
        }
        if let Some(fact) = fact {
            self.note(fact);
        }
        if gone {
            self.remove_server(id);
        }
    }

    /// Puts a server into ERROR from outside, as when its host fails.
    pub fn fail_server(&mut self, id: &str, message: &str) {
        let now = self.now;
        if let Some(server) = self.cloud.servers.get_mut(id) {
            server.vm_state = VmState::Error;
            server.task = None;
            server.due = None;
            server.updated = now;
            server.fault = Some(ServerFault {
                created: now,
                message: message.to_owned(),
            });
            self.note(Fact::ServerFailed { id: id.to_owned() });
        }
    }

    /// A port that was made before its server outlives it, bound to none.
    fn unbind_ports(&mut self, server: &str) {
        for port in self.cloud.ports.values_mut() {
            if port.device.as_deref() == Some(server) {
                port.device = None;
                port.updated = self.now;
                port.revision += 1;
            }
        }
    }

    /// Takes a server away at once, as when its deletion ends or its host burns.
    pub fn remove_server(&mut self, id: &str) {
        if let Some(mut server) = self.cloud.servers.remove(id) {
            self.unbind_ports(id);
            for group in self.cloud.groups.values_mut() {
                group.members.retain(|member| member != id);
            }
            server.terminated = Some(self.now);
            server.updated = self.now;
            server.task = None;
            server.due = None;
            self.cloud.deleted.insert(id.to_owned(), server);
            self.note(Fact::ServerGone { id: id.to_owned() });
        }
    }
}

fn finish_build(server: &mut Server, now: Timestamp) -> Option<Fact> {
    match server.outcome {
        Outcome::Active | Outcome::NoAddress => {
            server.vm_state = VmState::Active;
            server.launched = Some(now);
            server.built = true;
            server.boots = 1;
            server.disk = 1;
            Some(Fact::ServerBuilt {
                id: server.id.clone(),
            })
        }
        Outcome::Fails(message) => {
            server.vm_state = VmState::Error;
            server.fault = Some(ServerFault {
                created: now,
                message: message.to_owned(),
            });
            Some(Fact::ServerFailed {
                id: server.id.clone(),
            })
        }
        Outcome::Never => {
            server.task = Some(Task::Spawning);
            None
        }
    }
}
