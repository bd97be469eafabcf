//! The small types of the configuration: each reads one kind of text, and says in the schema
//! which (`format`), so that `shape.rs` can check it where it stands.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rhizome_engine::time::{format_duration, parse_duration};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

/// The formats that texts of the configuration may have.
pub(super) mod format {
    pub(in super::super) const PERIOD: &str = "rhizome-period";
    pub(in super::super) const MEMORY: &str = "rhizome-memory";
    pub(in super::super) const ADDRESS: &str = "rhizome-address";
    pub(in super::super) const URL: &str = "uri";
    pub(in super::super) const SECRET: &str = "rhizome-secret";
}

/// Why a text is not of its format; none for a format that is not ours.
pub(super) fn why_not(format: &str, text: &str) -> Option<String> {
    match format {
        format::PERIOD => parse_duration(text).err().map(|error| error.to_string()),
        format::MEMORY => parse_memory(text).err(),
        format::ADDRESS => parse_address(text).err(),
        format::URL => parse_url(text).err(),
        _ => None,
    }
}

macro_rules! text_type {
    ($(#[$doc:meta])* $name:ident($inner:ty), $schema:literal, $format:expr, $parse:expr, $show:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(pub $inner);

        impl TryFrom<String> for $name {
            type Error = String;

            fn try_from(text: String) -> Result<Self, String> {
                $parse(&text).map(Self)
            }
        }

        impl From<$name> for String {
            fn from(value: $name) -> String {
                $show(&value.0)
            }
        }

        impl JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                $schema.into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({"type": "string", "format": $format})
            }
        }
    };
}

text_type! {
    /// A length of time, as `90s`, `5m` or `1h30m`.
    Period(Duration), "Period", format::PERIOD,
    |text| parse_duration(text).map_err(|error| error.to_string()),
    |value: &Duration| format_duration(*value)
}

text_type! {
    /// An amount of memory in bytes, as `512MiB` or `8GiB`.
    Memory(u64), "Memory", format::MEMORY,
    parse_memory,
    |value: &u64| format!("{value}B")
}

text_type! {
    /// An address and a port to listen on.
    Address(SocketAddr), "Address", format::ADDRESS,
    parse_address,
    |value: &SocketAddr| value.to_string()
}

text_type! {
    /// An http or https address.
    HttpUrl(String), "HttpUrl", format::URL,
    parse_url,
    |value: &String| value.clone()
}

fn parse_memory(text: &str) -> Result<u64, String> {
    const UNITS: [(&str, u64); 4] = [
        ("KiB", 1 << 10),
        ("MiB", 1 << 20),
        ("GiB", 1 << 30),
        ("B", 1),
    ];
    UNITS
        .iter()
        .find_map(|(unit, size)| {
            let number: u64 = text.trim().strip_suffix(unit)?.trim_end().parse().ok()?;
            number.checked_mul(*size)
        })
        .ok_or_else(|| {
            format!("`{text}` is not an amount of memory: write a whole number and a unit, as in `512MiB` or `8GiB`")
        })
}

fn parse_address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        format!("`{text}` is not an address to listen on: write it as `127.0.0.1:8420`, or `0.0.0.0:8420` for all interfaces")
    })
}

fn parse_url(text: &str) -> Result<String, String> {
    let url = http_url(text).ok_or_else(|| {
        format!("`{text}` is not an address of a server: write it as `https://host:port/path`")
    })?;
    if url.password().is_some() {
        return Err("a password in an address would be shown in logs: leave it out, and give it as a secret".to_owned());
    }
    Ok(text.to_owned())
}

fn http_url(text: &str) -> Option<reqwest::Url> {
    let url = reqwest::Url::parse(text).ok()?;
    matches!(url.scheme(), "http" | "https").then_some(url)
}

/// A secret, by the file or the environment variable that holds it: never the secret itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Secret {
    /// A file that holds the secret and nothing else; a line break at its end is cut off.
    File(PathBuf),
    /// An environment variable.
    Env(String),
}

/// Why a secret cannot be had. Never says what was found.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The file cannot be read.
    #[error("the secret's file `{}` cannot be read: make it readable for this user alone", path.display())]
    File {
        /// It.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The environment variable is not set.
    #[error("the secret's environment variable `{0}` is not set")]
    Env(String),
    /// There is nothing in it.
    #[error("the secret in {0} is empty")]
    Empty(String),
    /// It is not what it should be.
    #[error(
        "the secret in {0} is not an address of a server: write it as `https://host:port/path`"
    )]
    NoAddress(String),
}

impl Secret {
    /// Reads it, a relative file from `folder`, the configuration's.
    ///
    /// # Errors
    ///
    /// Returns that there is none.
    pub fn read(&self, folder: &Path) -> Result<SecretString, SecretError> {
        let text = match self {
            Self::File(path) => {
                let path = folder.join(path);
                let text = std::fs::read_to_string(&path)
                    .map_err(|source| SecretError::File { path, source })?;
                text.trim_end_matches(['\n', '\r']).to_owned()
            }
            Self::Env(name) => std::env::var(name).map_err(|_| SecretError::Env(name.clone()))?,
        };
        if text.is_empty() {
            return Err(SecretError::Empty(self.place(folder)));
        }
        Ok(text.into())
    }

    /// Where it is, in a message.
    fn place(&self, folder: &Path) -> String {
        match self {
            Self::File(path) => format!("`{}`", folder.join(path).display()),
            Self::Env(name) => format!("`{name}`"),
        }
    }
}

/// An http or https address, written as it is or named like a secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum SecretUrl {
    /// As it is.
    Plain(HttpUrl),
    /// By what holds it.
    Secret(Secret),
}

impl SecretUrl {
    /// Reads it, a relative file from `folder`, the configuration's.
    ///
    /// # Errors
    ///
    /// Returns that there is none, or no address.
    pub fn read(&self, folder: &Path) -> Result<SecretString, SecretError> {
        let secret = match self {
            Self::Plain(url) => return Ok(url.0.clone().into()),
            Self::Secret(secret) => secret,
        };
        let url = secret.read(folder)?;
        match http_url(url.expose_secret()) {
            Some(_) => Ok(url),
            None => Err(SecretError::NoAddress(secret.place(folder))),
        }
    }
}

impl JsonSchema for SecretUrl {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "SecretUrl".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        // The keys of a secret bind a map only, and the format a text only.
        let mut schema = Secret::json_schema(generator);
        schema.insert("type".to_owned(), serde_json::json!(["string", "object"]));
        schema.insert("format".to_owned(), format::URL.into());
        schema
    }
}

impl JsonSchema for Secret {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Secret".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "object",
            "format": format::SECRET,
            "properties": {
                "file": {"type": "string", "description": "A file that holds the secret and nothing else."},
                "env": {"type": "string", "description": "An environment variable that holds the secret."}
            },
            "additionalProperties": false,
            "minProperties": 1,
            "maxProperties": 1
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_in_binary_units_only() {
        for (text, bytes) in [("8GiB", 8u64 << 30), ("512 MiB", 512 << 20), ("7B", 7)] {
            assert_eq!(parse_memory(text), Ok(bytes), "{text}");
        }
        for text in ["8", "8GB", "8.5GiB", "-1GiB", "99999999999GiB", ""] {
            assert!(parse_memory(text).is_err(), "{text}");
        }
    }

    #[test]
    fn an_address_with_a_password_is_refused_without_showing_it() {
        let error = parse_url("https://me:hunter2@example.org/").unwrap_err();
        assert!(!error.contains("hunter2"), "{error}");
        assert!(parse_url("ftp://example.org/").is_err());
        assert!(parse_url("https://example.org:5000/v3").is_ok());
    }

    #[test]
    fn a_secret_is_read_without_its_line_break_and_never_empty() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("token"), "abc\n").unwrap();
        std::fs::write(folder.path().join("empty"), "\n").unwrap();
        let read = |name: &str| Secret::File(name.into()).read(folder.path());
        assert_eq!(read("token").unwrap().expose_secret(), "abc");
        assert!(matches!(read("empty"), Err(SecretError::Empty(_))));
        assert!(matches!(read("none"), Err(SecretError::File { .. })));
        let unset = Secret::Env("RHIZOME_TEST_THAT_IS_NOT_SET".to_owned());
        assert!(matches!(
            unset.read(folder.path()),
            Err(SecretError::Env(_))
        ));
    }

    #[test]
    fn an_address_that_is_named_is_read_and_looked_at_and_never_shown() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("chat"), "https://chat.test/hunter2\n").unwrap();
        std::fs::write(folder.path().join("no"), "hunter2\n").unwrap();
        let read = |name: &str| SecretUrl::Secret(Secret::File(name.into())).read(folder.path());
        let url = read("chat").unwrap();
        assert_eq!(url.expose_secret(), "https://chat.test/hunter2");
        let error = read("no").unwrap_err();
        assert!(matches!(error, SecretError::NoAddress(_)));
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
}
