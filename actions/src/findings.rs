//! What an examination finds: for `rhizome doctor`, and for whoever reads it.

use serde::Serialize;

/// How well a thing is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Health {
    /// As it should be.
    Ok,
    /// It works, and should be looked at.
    Warning,
    /// It does not work.
    Bad,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at.
    pub what: String,
    /// How well it is.
    pub health: Health,
    /// What was seen. No secret, nor any part of one.
    pub said: String,
    /// What to do about it; empty if nothing.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub advice: String,
}

impl Finding {
    /// It is as it should be.
    pub fn ok(what: &str, said: String) -> Self {
        Self {
            what: what.to_owned(),
            health: Health::Ok,
            said,
            advice: String::new(),
        }
    }

    /// It does not work, and this is what to do.
    pub fn bad(what: &str, said: String, advice: &str) -> Self {
        Self {
            what: what.to_owned(),
            health: Health::Bad,
            said,
            advice: advice.to_owned(),
        }
    }
}
