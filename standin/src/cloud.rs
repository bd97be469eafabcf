//! The servers of the stand-in cloud, and how they change with time.
//!
//! States are Nova's own pair, `vm_state` and `task_state`; the status that clients see
//! follows from both, as it does there:
//!
//! ```text
//!   create ──▶ building ──▶ active ◀──▶ stopped        any ──▶ (deleting) ──▶ gone
//!                  └──▶ error (no valid host)           active ──▶ error (os-resetState)
//! ```
//!
//! What they are is here, how they change in `cloud/life.rs`. What clients may ask for and how it is
//! answered is in `nova/`.

use std::collections::{BTreeMap, BTreeSet};

use rhizome_engine::action::mark;
use rhizome_engine::names::OperationId;
use rhizome_engine::time::Timestamp;

use crate::ids::Ids;
use crate::ledger::operation_in;

mod life;

pub(crate) use life::Wanted;

/// All servers and tokens of the cloud.
#[derive(Debug, Clone)]
pub struct Cloud {
    /// The servers that are there, by id.
    pub servers: BTreeMap<String, Server>,
    /// The servers that were deleted, by id: `changes-since` shows them.
    pub(crate) deleted: BTreeMap<String, Server>,
    /// Servers whose cell is down: lists leave them out, or show them as UNKNOWN.
    pub down_cells: BTreeSet<String>,
    /// Ports that were made by themselves, by id. Those that Nova makes for a server go with it
    /// and are not told apart from it.
    pub ports: BTreeMap<String, Port>,
    /// Floating addresses, by id.
    pub floating_ips: BTreeMap<String, FloatingIp>,
    /// Server groups, by id.
    pub(crate) groups: BTreeMap<String, ServerGroup>,
    /// Keystone's tokens.
    pub(crate) tokens: BTreeMap<String, Token>,
    /// False once the application credential was deleted.
    pub application_credential_alive: bool,
    pub(crate) project_id: String,
    pub(crate) user_id: String,
    pub(crate) admin_id: String,
    pub(crate) catalog_ids: Vec<String>,
    /// The security group of ports that name none.
    pub(crate) default_group: String,
    /// The other security groups: name and id.
    pub(crate) group_ids: BTreeMap<String, String>,
    pub(crate) subnet_id: String,
    pub(crate) router_id: String,
    created: u32,
}

/// A port that was made before its server.
#[derive(Debug, Clone)]
pub struct Port {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its description.
    pub description: String,
    /// Its network.
    pub network: String,
    /// Its security groups, by id.
    pub security_groups: Vec<String>,
    /// The server that it is attached to.
    pub device: Option<String>,
    pub(crate) number: u32,
    pub(crate) created: Timestamp,
    pub(crate) updated: Timestamp,
    pub(crate) revision: u32,
}

impl Port {
    /// Its address.
    pub fn address(&self) -> String {
        fixed_address(self.number)
    }

    pub(crate) fn mac(&self) -> String {
        mac(self.number)
    }
}

/// An address under which a port is reached from outside.
#[derive(Debug, Clone)]
pub struct FloatingIp {
    /// Its id.
    pub id: String,
    /// Its description.
    pub description: String,
    /// The network that it is of.
    pub network: String,
    /// The port that it leads to.
    pub port: Option<String>,
    pub(crate) number: u32,
    pub(crate) created: Timestamp,
}

impl FloatingIp {
    /// The address.
    pub fn address(&self) -> String {
        format!("203.0.113.{}", self.number % 240 + 10)
    }
}

/// A server group.
#[derive(Debug, Clone)]
pub(crate) struct ServerGroup {
    pub(crate) name: String,
    pub(crate) policy: String,
    pub(crate) members: Vec<String>,
}

fn fixed_address(number: u32) -> String {
    format!("10.20.{}.{}", number / 250, number % 250 + 2)
}

pub(crate) fn mac(number: u32) -> String {
    format!("fa:16:3e:00:{:02x}:{:02x}", number >> 8 & 255, number & 255)
}

/// A token of Keystone's.
#[derive(Debug, Clone)]
pub(crate) struct Token {
    pub(crate) expires: Timestamp,
    pub(crate) admin: bool,
    pub(crate) scoped: bool,
    pub(crate) by_credential: bool,
    /// Nova has seen it, and goes on taking it while Keystone is away.
    pub(crate) seen_by_nova: bool,
}

/// `vm_state`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VmState {
    /// Being built.
    Building,
    /// Runs.
    Active,
    /// Powered off.
    Stopped,
    /// Failed.
    Error,
}

/// `task_state`: what is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Task {
    /// Looking for a host.
    Scheduling,
    /// Being started on its host.
    Spawning,
    /// Rebooting, asked politely.
    Rebooting,
    /// Rebooting, power cut.
    RebootingHard,
    /// Being stopped.
    PoweringOff,
    /// Being started.
    PoweringOn,
    /// Being made anew.
    Rebuilding,
    /// Being deleted.
    Deleting,
}

/// What a build will come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Active,
    NoAddress,
    Never,
    Fails(&'static str),
}

/// Why a server is in ERROR.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerFault {
    /// When it failed.
    pub created: Timestamp,
    /// Nova's text.
    pub message: String,
}

/// One server.
#[derive(Debug, Clone)]
pub struct Server {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// When it came to be.
    pub created: Timestamp,
    /// When it last changed.
    pub updated: Timestamp,
    /// When it first ran.
    pub launched: Option<Timestamp>,
    /// When it was deleted.
    pub(crate) terminated: Option<Timestamp>,
    /// `vm_state`.
    pub vm_state: VmState,
    /// `task_state`.
    pub task: Option<Task>,
    /// Its metadata.
    pub metadata: BTreeMap<String, String>,
    /// Its tags.
    pub tags: BTreeSet<String>,
    /// Its user data, in base64 as sent.
    pub user_data: Option<String>,
    /// Its flavor's id.
    pub flavor: String,
    /// Its image's id.
    pub image: String,
    /// Names of its security groups.
    pub security_groups: Vec<String>,
    /// Its key pair.
    pub key_name: Option<String>,
    /// Its zone.
    pub zone: String,
    /// The ports that it was made with, by id.
    pub ports: Vec<String>,
    /// The address of the first of them.
    pub(crate) port_address: Option<String>,
    /// Its number: its host follows from it, and its address if it has no port.
    pub(crate) number: u32,
    /// Why it is in ERROR.
    pub fault: Option<ServerFault>,
    /// Locked against its user.
    pub locked: bool,
    /// True once it ran: a server that never did cannot be rebooted or rebuilt.
    pub built: bool,
    /// How often its power came on: a guest that sees another number boots.
    pub(crate) boots: u32,
    /// How often its disk was made anew.
    pub(crate) disk: u32,
    /// When the task ends; none if it never does.
    pub(crate) due: Option<Timestamp>,
    pub(crate) outcome: Outcome,
    /// A delete that came while it was being built: it goes when the build ends.
    pub(crate) delete_after_build: bool,
}

impl Server {
    /// The status that clients see.
    pub fn status(&self) -> &'static str {
        match (self.vm_state, self.task) {
            _ if self.terminated.is_some() => "DELETED",
            (VmState::Building, _) => "BUILD",
            (_, Some(Task::Rebuilding)) => "REBUILD",
            (VmState::Active, Some(Task::Rebooting)) => "REBOOT",
            (VmState::Active, Some(Task::RebootingHard)) => "HARD_REBOOT",
            (VmState::Active, _) => "ACTIVE",
            (VmState::Stopped, _) => "SHUTOFF",
            (VmState::Error, _) => "ERROR",
        }
    }

    /// Whether its guest can run.
    pub fn powered(&self) -> bool {
        match self.vm_state {
            VmState::Active => !matches!(
                self.task,
                Some(Task::Rebooting | Task::RebootingHard | Task::Rebuilding)
            ),
            // os-resetState changes what Nova says, not what the hypervisor does.
            VmState::Error => self.built && self.task.is_none(),
            VmState::Building | VmState::Stopped => false,
        }
    }

    /// The operation in its marks.
    pub fn operation(&self) -> Option<OperationId> {
        self.metadata
            .get(mark::OPERATION)
            .and_then(|text| operation_in(text))
    }

    /// The pool in its marks, if it is Rhizome's.
    pub fn pool(&self) -> Option<&str> {
        self.metadata.get(mark::POOL).map(String::as_str)
    }

    /// Whether it carries Rhizome's mark of ownership.
    pub fn is_marked(&self) -> bool {
        self.metadata.get(mark::OWNER).map(String::as_str) == Some(mark::OWNER_VALUE)
    }

    /// Whether Rhizome may touch it: it carries the mark of ownership, and nobody's wish to
    /// be left alone.
    pub fn is_ours(&self) -> bool {
        self.is_marked() && !self.metadata.contains_key(mark::DO_NOT_TOUCH)
    }

    /// Whether it came up without a network: it has no address, and its guest is not heard.
    pub(crate) fn is_cut_off(&self) -> bool {
        self.outcome == Outcome::NoAddress
    }

    /// Its address on the network.
    pub fn address(&self) -> String {
        match &self.port_address {
            Some(address) => address.clone(),
            None => fixed_address(self.number),
        }
    }
}

impl Task {
    /// As Nova writes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Scheduling => "scheduling",
            Self::Spawning => "spawning",
            Self::Rebooting => "rebooting",
            Self::RebootingHard => "rebooting_hard",
            Self::PoweringOff => "powering-off",
            Self::PoweringOn => "powering-on",
            Self::Rebuilding => "rebuilding",
            Self::Deleting => "deleting",
        }
    }
}

impl VmState {
    /// As Nova writes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Building => "building",
            Self::Active => "active",
            Self::Stopped => "stopped",
            Self::Error => "error",
        }
    }
}

impl Cloud {
    pub(crate) fn new(ids: &mut Ids, groups: &[String]) -> Self {
        Self {
            servers: BTreeMap::new(),
            deleted: BTreeMap::new(),
            down_cells: BTreeSet::new(),
            ports: BTreeMap::new(),
            floating_ips: BTreeMap::new(),
            groups: BTreeMap::new(),
            tokens: BTreeMap::new(),
            application_credential_alive: true,
            project_id: ids.hex(),
            user_id: ids.hex(),
            admin_id: ids.hex(),
            catalog_ids: (0..11).map(|_| ids.hex()).collect(),
            default_group: ids.uuid(),
            group_ids: groups
                .iter()
                .map(|name| (name.clone(), ids.uuid()))
                .collect(),
            subnet_id: ids.uuid(),
            router_id: ids.uuid(),
            created: 0,
        }
    }

    /// A number for an address that nobody else has.
    pub(crate) fn next_number(&mut self) -> u32 {
        let number = self.created;
        self.created += 1;
        number
    }

    /// The server of that name, if there is just one.
    pub fn server_named(&self, name: &str) -> Option<&Server> {
        let mut named = self.servers.values().filter(|server| server.name == name);
        let first = named.next()?;
        named.next().is_none().then_some(first)
    }
}
