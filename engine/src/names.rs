//! The names of things, each a type of its own so that one is never taken for another.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Takes any text; whether it names something that exists is for the cluster to say.
            pub fn new(text: impl AsRef<str>) -> Self {
                Self(Arc::from(text.as_ref()))
            }

            /// The bare text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self::new(text)
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    };
}

name! {
    /// A Kubernetes node, or a VM outside Kubernetes: the name under which its agent reports.
    NodeName
}
name! {
    /// A node pool: nodes of one shape that are scaled together.
    PoolName
}
name! {
    /// A VM, by the id that the cloud gave it (Nova's server UUID).
    VmId
}
name! {
    /// A rule: the policy file it stands in and its place there, as `scale.rhai:12`.
    RuleId
}

/// One course of steps: an addition, a removal or a healing. Never used twice.
///
/// It is put into the VM's metadata and is the idempotency key of everything done for it.
/// The number counts on over restarts; `journal` tells two journals apart.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct OperationId {
    /// The journal it was first written in.
    pub journal: u32,
    /// Its number there, from 1.
    pub number: u64,
}

impl fmt::Display for OperationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "op-{:08x}-{}", self.journal, self.number)
    }
}

impl fmt::Debug for OperationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<OperationId> for String {
    fn from(id: OperationId) -> String {
        id.to_string()
    }
}

/// Why a text is not the id of an operation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not the id of an operation: it looks like `op-0a1b2c3d-17`, as `rhizome status` lists it"
)]
pub struct OperationIdError(String);

impl TryFrom<String> for OperationId {
    type Error = OperationIdError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl std::str::FromStr for OperationId {
    type Err = OperationIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parts = text
            .strip_prefix("op-")
            .and_then(|rest| rest.split_once('-'));
        let id = parts.and_then(|(journal, number)| {
            Some(OperationId {
                journal: u32::from_str_radix(journal, 16).ok()?,
                number: number.parse().ok()?,
            })
        });
        id.filter(|id| id.to_string() == text)
            .ok_or_else(|| OperationIdError(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operation_id_is_read_back_and_nothing_else_is() {
        let id = OperationId {
            journal: 0xa1b2_c3d4,
            number: 17,
        };
        assert_eq!(id.to_string().parse::<OperationId>().unwrap(), id);
        for text in [
            "",
            "op-",
            "op-a1b2c3d4",
            "op-A1B2C3D4-17",
            "op-a1b2c3d4-017",
        ] {
            assert!(text.parse::<OperationId>().is_err(), "{text}");
        }
    }
}
