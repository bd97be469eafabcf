//! Logs: text on a terminal, else one JSON object a line, always to standard error.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::{LogConfig, LogFormat};

/// A client that logs each failed connection, twice a second while a server is away. Our own
/// watch says the same once.
const QUIET: &str = "kube_client::client::builder=off";

/// Begins to log. A second call changes nothing: a test may have begun before.
///
/// `RUST_LOG` goes before the configuration, so that an operator can look closer for once.
pub fn init(config: &LogConfig) {
    let terminal = std::io::stderr().is_terminal();
    let text = match config.format {
        LogFormat::Auto => terminal,
        LogFormat::Text => true,
        LogFormat::Json => false,
    };
    let filter = EnvFilter::try_from_default_env()
        .or_else(|_| EnvFilter::try_new(format!("{},{QUIET}", config.level)))
        .unwrap_or_else(|_| EnvFilter::new("info"));
    let registry = tracing_subscriber::registry().with(filter);
    let begun = if text {
        let colours = terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let layer = fmt::layer()
            .with_writer(std::io::stderr)
            .with_ansi(colours)
            .with_target(false);
        registry.with(layer).try_init()
    } else {
        let layer = fmt::layer()
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .with_span_list(false)
            .with_writer(std::io::stderr);
        registry.with(layer).try_init()
    };
    if let Err(error) = begun {
        tracing::debug!(%error, "logging had begun before");
    }
}
