//! What a stand-in cloud and cluster are like: who may use them, how large they are, how long
//! things take. Every figure's default says where it comes from.

use std::collections::BTreeMap;
use std::time::Duration;

/// Who may use the stand-ins, and what the cloud is called.
#[derive(Debug, Clone)]
pub struct Credentials {
    /// A user of the project, with the role `member`.
    pub username: String,
    /// His password.
    pub password: String,
    /// His project.
    pub project: String,
    /// The project's and the users' domain.
    pub domain: String,
    /// A user with the role `admin`.
    pub admin_username: String,
    /// His password.
    pub admin_password: String,
    /// An application credential of `username`.
    pub application_credential_id: String,
    /// Its secret.
    pub application_credential_secret: String,
    /// The region in the catalogue.
    pub region: String,
    /// The bearer token that the cluster takes for a service account with Rhizome's rights.
    pub kubernetes_token: String,
}

impl Default for Credentials {
    fn default() -> Self {
        Self {
            username: "scaler".to_owned(),
            password: "pw".to_owned(),
            project: "demo".to_owned(),
            domain: "Default".to_owned(),
            admin_username: "admin".to_owned(),
            admin_password: "admin-pw".to_owned(),
            application_credential_id: "4a79668b003b4925919d44217cd9826b".to_owned(),
            application_credential_secret: "app-secret".to_owned(),
            region: "RegionOne".to_owned(),
            kubernetes_token: "stand-in-kubernetes-token".to_owned(),
        }
    }
}

/// A size of servers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flavor {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Cores.
    pub vcpus: u32,
    /// Memory in MiB.
    pub ram_mib: u32,
    /// Disk in GiB.
    pub disk_gib: u32,
}

/// How much a project may have at once (Nova's own defaults: 10 servers, 20 cores, 50 GiB; those
/// here leave room for a demo).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    /// Servers, in every status.
    pub instances: u32,
    /// Cores.
    pub cores: u32,
    /// Memory in MiB.
    pub ram_mib: u32,
    /// Ports (Neutron's default: 500).
    pub ports: u32,
    /// Floating addresses (Neutron's default: 50).
    pub floating_ips: u32,
    /// Members of one server group (Nova's default: 10).
    pub group_members: u32,
}

impl Default for Quota {
    fn default() -> Self {
        Self {
            instances: 50,
            cores: 200,
            ram_mib: 400_000,
            ports: 500,
            floating_ips: 50,
            group_members: 10,
        }
    }
}

/// What the stand-ins are like.
#[derive(Debug, Clone)]
pub struct Options {
    /// Who may use them.
    pub credentials: Credentials,
    /// What ids and variations follow from.
    pub seed: u64,
    /// Sizes of servers.
    pub flavors: Vec<Flavor>,
    /// Images: id and name.
    pub images: BTreeMap<String, String>,
    /// Networks: ids that a create may name.
    pub networks: Vec<String>,
    /// What servers' addresses stand under.
    pub network_name: String,
    /// Key pairs that a create may name.
    pub key_pairs: Vec<String>,
    /// Security groups that a create may name, beside `default`.
    pub security_groups: Vec<String>,
    /// The network of floating addresses.
    pub floating_network: String,
    /// The disk of a host in GiB: for a flavor with more there is no valid host.
    pub host_disk_gib: u32,
    /// What the project may have.
    pub quota: Quota,
    /// Highest microversion of Nova, the minor number: 93 is Zed's.
    pub max_microversion: u32,
    /// How long a Keystone token lives (1 h by default there too).
    pub token_ttl: Duration,
    /// From POST to ACTIVE. 2 to 5 s were measured on a fake hypervisor; real ones take more.
    pub build_time: Duration,
    /// How long reboot, start, stop and rebuild take (0.6 to 1.8 s measured).
    pub action_time: Duration,
    /// From DELETE to 404 (0.45 s to 2 s measured).
    pub delete_time: Duration,
    /// From ACTIVE until the guest's kubelet first speaks: kernel, cloud-init, kubeadm.
    pub boot_time: Duration,
    /// From registration to Ready (a real kubelet: 1.9 to 2.4 s).
    pub ready_time: Duration,
    /// How often a kubelet renews its Lease (10 s there too).
    pub lease_renew_time: Duration,
    /// How long a pod takes to stop after its deletion.
    pub pod_stop_time: Duration,
    /// How long a crashed guest stays ACTIVE in Nova before it is seen as SHUTOFF
    /// (`sync_power_state_interval`, 600 s by default there).
    pub power_sync_time: Duration,
    /// How often each agent publishes.
    pub agent_interval: Duration,
    /// Availability zones: servers are put into them in turn.
    pub zones: Vec<String>,
}

impl Default for Options {
    fn default() -> Self {
        let flavor = |id: &str, name: &str, vcpus, ram_mib, disk_gib| Flavor {
            id: id.to_owned(),
            name: name.to_owned(),
            vcpus,
            ram_mib,
            disk_gib,
        };
        Self {
            credentials: Credentials::default(),
            seed: 1,
            flavors: vec![
                flavor("1", "m1.small", 1, 2_048, 20),
                flavor("2", "m1.medium", 2, 4_096, 40),
                flavor("3", "m1.large", 4, 8_192, 80),
            ],
            images: BTreeMap::from([
                (
                    "70a599e0-31e7-49b7-b260-868f441e862b".to_owned(),
                    "debian-12-kubeadm".to_owned(),
                ),
                (
                    "155d900f-4e14-4e4c-a73d-069cbf4541e6".to_owned(),
                    "cirros".to_owned(),
                ),
            ]),
            networks: vec!["0a1b7a5e-2c5a-4b3f-9c57-6f1a5d3c8e90".to_owned()],
            network_name: "private".to_owned(),
            key_pairs: vec!["operators".to_owned()],
            security_groups: vec!["nodes".to_owned()],
            floating_network: "5d0c3f8e-7a41-4c1d-8a53-0f4b9f6f2d17".to_owned(),
            host_disk_gib: 4_096,
            quota: Quota::default(),
            max_microversion: 93,
            token_ttl: Duration::from_secs(3_600),
            build_time: Duration::from_secs(20),
            action_time: Duration::from_secs(2),
            delete_time: Duration::from_secs(2),
            boot_time: Duration::from_secs(30),
            ready_time: Duration::from_secs(2),
            lease_renew_time: Duration::from_secs(10),
            pod_stop_time: Duration::from_secs(1),
            power_sync_time: Duration::from_secs(600),
            agent_interval: Duration::from_secs(10),
            zones: vec!["nova".to_owned()],
        }
    }
}
