//! A pause that is left in a file or in a ConfigMap, as its reader reports it.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::names::PoolName;

/// Where a pause can be left beside the API, for when nothing else answers (I39).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PauseSource {
    /// A file that the configuration names.
    File,
    /// A ConfigMap that the configuration names.
    ConfigMap,
}

impl PauseSource {
    /// Its name in logs, brakes and the journal.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::ConfigMap => "config_map",
        }
    }

    /// Its name in a sentence.
    pub fn words(self) -> &'static str {
        match self {
            Self::File => "the pause file",
            Self::ConfigMap => "the pause ConfigMap",
        }
    }
}

/// A pause that stands for as long as what says so is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StandingPause {
    /// Which pools; none is everything.
    pub pools: BTreeSet<PoolName>,
    /// Who left it, as far as its source tells.
    pub who: String,
    /// Why, in the words that stand there.
    pub why: String,
}

impl StandingPause {
    /// Whether nothing of the pool may be changed.
    pub fn covers(&self, pool: &PoolName) -> bool {
        self.pools.is_empty() || self.pools.contains(pool)
    }

    /// `everything`, or the pools.
    pub fn scope(&self) -> String {
        if self.pools.is_empty() {
            return "everything".to_owned();
        }
        let pools: Vec<_> = self.pools.iter().map(PoolName::as_str).collect();
        pools.join(", ")
    }
}

/// What was found where a pause can be left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PauseReport {
    /// Where.
    pub source: PauseSource,
    /// The pause, or none; or why nobody can tell.
    pub seen: Result<Option<StandingPause>, String>,
}
