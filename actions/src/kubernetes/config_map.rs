//! One ConfigMap, read anew each time: an operator's word that is left in the cluster.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ConfigMap as Object;
use rhizome_engine::action::Failure;

use super::Access;
use super::client::Cluster;
use crate::SetupError;

/// A ConfigMap that may be there.
pub struct ConfigMap {
    cluster: Cluster,
    path: String,
}

/// What stands in one.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Kept {
    /// Its data.
    pub data: BTreeMap<String, String>,
    /// What program wrote it last, as the API server noted: `kubectl-create`.
    pub manager: String,
}

impl ConfigMap {
    /// Sets the client up. Nothing is called before the first reading.
    ///
    /// # Errors
    ///
    /// Returns [`SetupError`] for a kubeconfig, an address or a CA that cannot be used.
    pub async fn new(access: &Access, namespace: &str, name: &str) -> Result<Self, SetupError> {
        Ok(Self {
            cluster: Cluster::new(access).await?,
            path: format!("/api/v1/namespaces/{namespace}/configmaps/{name}"),
        })
    }

    /// What stands in it; none if the API server itself says that there is none.
    ///
    /// # Errors
    ///
    /// Returns the failure of the reading: nobody knows then whether it is there.
    pub async fn read(&self) -> Result<Option<Kept>, Failure> {
        let found: Option<Object> = self.cluster.get("read ConfigMap", &self.path).await?;
        Ok(found.map(|object| Kept {
            manager: manager(&object),
            data: object.data.unwrap_or_default(),
        }))
    }
}

fn manager(object: &Object) -> String {
    let managers = object.metadata.managed_fields.iter().flatten();
    let last = managers.max_by_key(|field| field.time.as_ref().map(|time| time.0));
    last.and_then(|field| field.manager.clone())
        .unwrap_or_default()
}
