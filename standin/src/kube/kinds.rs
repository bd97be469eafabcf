//! The kinds of objects that the stand-in API server keeps.

/// A kind that is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Node.
    Node,
    /// Pod.
    Pod,
    /// Secret.
    Secret,
    /// ConfigMap.
    ConfigMap,
    /// Namespace.
    Namespace,
    /// Event of the core group.
    Event,
    /// Event of `events.k8s.io`.
    NewEvent,
    /// Lease.
    Lease,
    /// PodDisruptionBudget.
    Budget,
    /// DaemonSet.
    DaemonSet,
    /// CertificateSigningRequest.
    Csr,
    /// VolumeAttachment.
    VolumeAttachment,
}

/// How a kind is named on the wire.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Info {
    pub(crate) kind: Kind,
    /// Empty for the core group.
    pub(crate) group: &'static str,
    pub(crate) plural: &'static str,
    pub(crate) singular: &'static str,
    pub(crate) name: &'static str,
    pub(crate) namespaced: bool,
}

const fn info(
    kind: Kind,
    group: &'static str,
    plural: &'static str,
    singular: &'static str,
    name: &'static str,
    namespaced: bool,
) -> Info {
    Info {
        kind,
        group,
        plural,
        singular,
        name,
        namespaced,
    }
}

/// Every kind, all of version v1.
pub(crate) const KINDS: [Info; 12] = [
    info(Kind::Node, "", "nodes", "node", "Node", false),
    info(Kind::Pod, "", "pods", "pod", "Pod", true),
    info(Kind::Secret, "", "secrets", "secret", "Secret", true),
    info(
        Kind::ConfigMap,
        "",
        "configmaps",
        "configmap",
        "ConfigMap",
        true,
    ),
    info(
        Kind::Namespace,
        "",
        "namespaces",
        "namespace",
        "Namespace",
        false,
    ),
    info(Kind::Event, "", "events", "event", "Event", true),
    info(
        Kind::NewEvent,
        "events.k8s.io",
        "events",
        "event",
        "Event",
        true,
    ),
    info(
        Kind::Lease,
        "coordination.k8s.io",
        "leases",
        "lease",
        "Lease",
        true,
    ),
    info(
        Kind::Budget,
        "policy",
        "poddisruptionbudgets",
        "poddisruptionbudget",
        "PodDisruptionBudget",
        true,
    ),
    info(
        Kind::DaemonSet,
        "apps",
        "daemonsets",
        "daemonset",
        "DaemonSet",
        true,
    ),
    info(
        Kind::Csr,
        "certificates.k8s.io",
        "certificatesigningrequests",
        "certificatesigningrequest",
        "CertificateSigningRequest",
        false,
    ),
    info(
        Kind::VolumeAttachment,
        "storage.k8s.io",
        "volumeattachments",
        "volumeattachment",
        "VolumeAttachment",
        false,
    ),
];

impl Kind {
    /// Its names.
    pub(crate) fn info(self) -> &'static Info {
        KINDS
            .iter()
            .find(|info| info.kind == self)
            .unwrap_or(&KINDS[0])
    }

    /// The kind of that group and plural.
    pub(crate) fn find(group: &str, plural: &str) -> Option<Self> {
        KINDS
            .iter()
            .find(|info| info.group == group && info.plural == plural)
            .map(|info| info.kind)
    }
}

impl Info {
    /// `v1` or `group/v1`.
    pub(crate) fn api_version(&self) -> String {
        if self.group.is_empty() {
            "v1".to_owned()
        } else {
            format!("{}/v1", self.group)
        }
    }

    /// `nodes` or `leases.coordination.k8s.io`, as errors name it.
    pub(crate) fn qualified(&self) -> String {
        if self.group.is_empty() {
            self.plural.to_owned()
        } else {
            format!("{}.{}", self.plural, self.group)
        }
    }
}
