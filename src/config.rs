//! `rhizome.yaml`: read whole, checked whole, and every error told at once with its place.
//!
//! ```text
//! text -> tree.rs (each key knows its place) -> shape.rs (against the schema)
//!      -> sections.rs (typed) -> check.rs (one key against another) -> Config
//! ```
//!
//! Nothing is opened, bound or connected here. Secrets are named, and read where they are used.

mod check;
mod kafka;
mod limits;
mod sections;
mod shape;
mod tree;
mod types;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use rhizome_engine::event::{PauseSource, Requests, SourceName};
use rhizome_engine::names::PoolName;
use rhizome_engine::settings::{PoolSettings, Settings};
use rhizome_engine::snippet::excerpt;

pub use limits::{LimitOverrides, LimitsConfig};
pub use sections::{
    ApplicationCredentialConfig, Approve, CapacityConfig, Config, DrainConfig, Interface,
    JoinConfig, KafkaConfig, KafkaTlsConfig, KubernetesConfig, ListenConfig, ListenTlsConfig,
    LogConfig, LogFormat, Mechanism, NotificationsConfig, OpenstackConfig, PasswordConfig,
    PauseConfig, PoolConfig, Right, SaslConfig, TokenConfig, UserConfig, Without,
};
pub use tree::Place;
pub use types::{Address, HttpUrl, Memory, Period, Secret, SecretError, SecretUrl};

/// A configuration that an operator can begin with, each key explained.
pub const EXAMPLE: &str = include_str!("config/example.yaml");

/// The largest configuration that is read, in bytes: a thousand pools have some 300 KiB.
const MAX_BYTES: usize = 1 << 20;

/// A configuration and where it was found.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    /// It.
    pub config: Config,
    /// The folder that its relative paths begin at.
    pub folder: PathBuf,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Where.
    pub place: Place,
    /// The key, as `pools.workers.min`; empty for the file as a whole.
    pub key: String,
    /// What is wrong, and what to do.
    pub message: String,
}

/// Everything that is wrong with a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// The file.
    pub file: String,
    /// Its text, without the secrets that should not stand in it.
    text: String,
    /// What is wrong, in the order of the file. Never empty.
    pub findings: Vec<Finding>,
}

/// Reads and checks a configuration.
///
/// # Errors
///
/// Returns everything that is wrong with it.
pub fn load(path: &Path) -> Result<Loaded, ConfigError> {
    let file = path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(|error| ConfigError {
        file: file.clone(),
        text: String::new(),
        findings: vec![Finding {
            place: Place::default(),
            key: String::new(),
            message: format!(
                "cannot be read ({error}): name another file, or begin one with `rhizome config example`"
            ),
        }],
    })?;
    let config = parse(&file, &text)?;
    let folder = path.parent().map(Path::to_owned).unwrap_or_default();
    Ok(Loaded { config, folder })
}

/// Reads and checks the text of a configuration; `file` is its name in messages.
///
/// # Errors
///
/// Returns everything that is wrong with it.
pub fn parse(file: &str, text: &str) -> Result<Config, ConfigError> {
    let mut findings = Vec::new();
    let mut secrets = Vec::new();
    let config = parse_into(text, &mut findings, &mut secrets);
    findings.sort_by_key(|finding| finding.place);
    for finding in &mut findings {
        finding.message = masked(&finding.message, &secrets);
    }
    match config {
        Some(config) if findings.is_empty() => Ok(config),
        _ => Err(ConfigError {
            file: file.to_owned(),
            text: masked(text, &secrets),
            findings,
        }),
    }
}

/// `text` with stars for every character of the secrets, so that places stay as they are.
fn masked(text: &str, secrets: &[String]) -> String {
    secrets
        .iter()
        .filter(|secret| !secret.is_empty())
        .fold(text.to_owned(), |text, secret| {
            text.replace(secret.as_str(), &"*".repeat(secret.chars().count()))
        })
}

fn parse_into(
    text: &str,
    findings: &mut Vec<Finding>,
    secrets: &mut Vec<String>,
) -> Option<Config> {
    let at = |place, key: String, message| Finding {
        place,
        key,
        message,
    };
    if text.len() > MAX_BYTES {
        let message = format!("is larger than the {MAX_BYTES} bytes that are read");
        findings.push(at(Place::default(), String::new(), message));
        return None;
    }
    let tree = match tree::parse(text) {
        Ok(tree) => tree,
        Err((place, message)) => {
            findings.push(at(place, String::new(), message));
            return None;
        }
    };
    *secrets = shape::check(&tree, &schema(), findings);
    secrets.extend(kafka::secrets(&tree));
    if !findings.is_empty() {
        return None;
    }
    match serde_json::from_value::<Config>(tree.to_json()) {
        Ok(config) => {
            findings.extend(
                check::check(&config)
                    .into_iter()
                    .map(|(path, message)| at(tree.at(&path), path.join("."), message)),
            );
            Some(config)
        }
        // The schema lets through what the type does not: a defect of ours, still told.
        Err(error) => {
            findings.push(at(Place::default(), String::new(), error.to_string()));
            None
        }
    }
}

/// The JSON Schema of the configuration.
pub fn schema() -> serde_json::Value {
    schemars::schema_for!(Config).to_value()
}

/// For the fuzzer: any text is read to an end without a panic.
pub fn fuzz_parse(text: &str) {
    if let Err(error) = parse("fuzz.yaml", text) {
        assert!(!error.findings.is_empty(), "an error says what is wrong");
        assert!(!error.to_string().is_empty(), "and can be shown");
    }
}

impl Config {
    /// What the engine is told.
    pub fn settings(&self) -> Settings {
        let pools = self
            .pools
            .iter()
            .map(|(name, pool)| (PoolName::new(name), pool.settings()))
            .collect::<BTreeMap<_, _>>();
        let source = if self.kafka.is_some() {
            SourceName::Kafka
        } else {
            SourceName::Collector
        };
        Settings {
            cluster: self.cluster.clone(),
            pools,
            limits: self.limits.to_limits(),
            lateness: self.lateness.0,
            heartbeat_sources: vec![source],
            pause_sources: self.pause.sources(),
        }
    }
}

impl PauseConfig {
    fn sources(&self) -> Vec<PauseSource> {
        let file = self.file.as_ref().map(|_| PauseSource::File);
        let map = self.config_map.as_ref().map(|_| PauseSource::ConfigMap);
        file.into_iter().chain(map).collect()
    }
}

impl PoolConfig {
    fn settings(&self) -> PoolSettings {
        PoolSettings {
            min: self.min,
            max: self.max,
            surge: self.surge,
            kubernetes: self.kubernetes,
            labels: self.labels.clone(),
            node_capacity: self
                .node_capacity
                .as_ref()
                .map(CapacityConfig::requests)
                .unwrap_or_default(),
            build_timeout: self.build_timeout.0,
            join_timeout: self.join_timeout.0,
            drain_timeout: self.drain_timeout.0,
            rung_timeout: self.rung_timeout.0,
            stabilization: self.stabilization.0,
        }
    }
}

impl CapacityConfig {
    fn requests(&self) -> Requests {
        // The schema keeps `cpu` within 0..=10,000, so neither sign nor size is lost.
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "the schema bounds it"
        )]
        let cpu_millis = (self.cpu * 1000.0).round() as u64;
        Requests {
            cpu_millis,
            memory_bytes: self.memory.0,
            pods: self.pods,
        }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for finding in &self.findings {
            let message = if finding.key.is_empty() {
                finding.message.clone()
            } else {
                format!("{}: {}", finding.key, finding.message)
            };
            let Place { line, column } = finding.place;
            match (line, column) {
                (0, _) => writeln!(f, "{}: {message}", self.file)?,
                (line, 0) => writeln!(f, "{}:{line}: {message}", self.file)?,
                (line, column) => writeln!(f, "{}:{line}:{column}: {message}", self.file)?,
            }
            f.write_str(&excerpt(&self.text, line, column).unwrap_or_default())?;
        }
        let errors = match self.findings.len() {
            1 => "1 error".to_owned(),
            several => format!("{several} errors"),
        };
        writeln!(f, "{}: {errors}", self.file)
    }
}

impl std::error::Error for ConfigError {}

#[cfg(test)]
mod tests {
    use serde_json::Value as Json;

    use super::*;

    #[test]
    fn the_example_is_good_and_gives_every_pool_to_the_engine() {
        let config = parse("example.yaml", EXAMPLE).unwrap_or_else(|error| panic!("{error}"));
        let settings = config.settings();
        assert_eq!(settings.pools.len(), config.pools.len());
        assert_eq!(settings.limits, rhizome_engine::settings::Limits::default());
    }

    /// The example with everything in force that is commented out in it: a setting is a key or an
    /// item of a list, and what explains one begins with a capital or a quote.
    fn whole_example() -> String {
        let key = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "_-.".contains(c);
        let setting = |text: &str| {
            let text = text.trim_start();
            let named = text.split_once(':').is_some_and(|(name, rest)| {
                name.chars().all(key) && (rest.is_empty() || rest.starts_with(' '))
            });
            named || text.starts_with("- ")
        };
        let lines = EXAMPLE.lines().map(|line| match line.split_once("# ") {
            Some((indent, text)) if indent.trim().is_empty() && setting(text) => {
                format!("{indent}{text}\n")
            }
            _ => format!("{line}\n"),
        });
        lines.collect()
    }

    /// Keys of the schema that none of the values has.
    fn missing(schema: &Json, all: &Json, values: &[&Json], path: &str, found: &mut Vec<String>) {
        let name = schema["$ref"].as_str().and_then(|to| to.rsplit('/').next());
        if let Some(name) = name {
            return missing(&all["$defs"][name], all, values, path, found);
        }
        // What may be left out is of its type or null.
        if let Some(either) = schema["anyOf"].as_array() {
            return missing(&either[0], all, values, path, found);
        }
        // A secret is named in one of two ways.
        if schema["maxProperties"] == 1 {
            return;
        }
        for (key, schema) in schema["properties"].as_object().into_iter().flatten() {
            let path = format!("{path}.{key}");
            let values: Vec<_> = values.iter().filter_map(|value| value.get(key)).collect();
            if values.is_empty() {
                found.push(path);
            } else {
                missing(schema, all, &values, &path, found);
            }
        }
        let items = values.iter().filter_map(|value| value.as_array()).flatten();
        missing_of(&schema["items"], all, items.collect(), path, found);
        let entries = values.iter().filter_map(|value| value.as_object());
        let entries = entries.flat_map(|map| map.values()).collect();
        missing_of(&schema["additionalProperties"], all, entries, path, found);
    }

    fn missing_of(
        schema: &Json,
        all: &Json,
        values: Vec<&Json>,
        path: &str,
        found: &mut Vec<String>,
    ) {
        if schema.is_object() {
            missing(schema, all, &values, &format!("{path}[]"), found);
        }
    }

    #[test]
    fn the_example_has_every_key_of_the_schema_and_what_is_commented_out_fits_it() {
        let text = whole_example();
        let tree = tree::parse(&text).unwrap_or_else(|(place, why)| panic!("{place:?}: {why}"));
        let mut findings = Vec::new();
        shape::check(&tree, &schema(), &mut findings);
        assert_eq!(findings, []);
        let (schema, mut found) = (schema(), Vec::new());
        missing(&schema, &schema, &[&tree.to_json()], "", &mut found);
        // Every limit may stand there, and each does where it is explained.
        found.retain(|key| !key.starts_with(".limits.override."));
        assert_eq!(found, Vec::<String>::new());
    }

    #[test]
    fn a_key_that_the_example_lacks_is_found() {
        let (schema, mut found) = (schema(), Vec::new());
        let example = serde_json::json!({"pools": {"a": {"min": 1}}, "kafka": {}});
        missing(&schema, &schema, &[&example], "", &mut found);
        for key in [".cluster", ".pools[].max", ".kafka.sasl", ".limits"] {
            assert!(found.iter().any(|one| one == key), "{key}: {found:?}");
        }
        assert!(!found.iter().any(|one| one == ".pools[].min"));
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_without_a_panic(text in "[a-z:\\-\\[\\]{}&*!|> \n\"'#0-9~]{0,200}") {
            fuzz_parse(&text);
        }

        /// Any line of the example taken out or doubled still gives a message with a place.
        #[test]
        fn a_changed_example_is_read_without_a_panic(line in 0usize..200, double: bool) {
            let lines: Vec<&str> = EXAMPLE.lines().collect();
            let line = line % lines.len();
            let text: Vec<&str> = lines
                .iter()
                .enumerate()
                .flat_map(|(i, text)| std::iter::repeat_n(*text, match (i == line, double) {
                    (false, _) => 1,
                    (true, true) => 2,
                    (true, false) => 0,
                }))
                .collect();
            fuzz_parse(&text.join("\n"));
        }
    }
}
