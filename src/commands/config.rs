//! `rhizome config`: check, schema, example.

use std::path::PathBuf;

use clap::Subcommand;

use super::Out;
use crate::config;
use crate::exit::Exit;

/// What to do with a configuration.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Say everything that is wrong with it. Opens no port and reads no secret.
    Check {
        /// The file.
        #[arg(default_value = super::CONFIG_FILE)]
        file: PathBuf,
    },
    /// Print its JSON Schema, for an editor.
    Schema,
    /// Print one to begin with, each key explained.
    Example,
}

pub(super) fn run(command: ConfigCommand, out: &Out) -> Exit {
    match command {
        ConfigCommand::Check { file } => match config::load(&file) {
            Ok(loaded) => {
                let pools: Vec<_> = loaded.config.pools.keys().map(String::as_str).collect();
                let text = format!(
                    "{}: ok, with the pools {}\n",
                    file.display(),
                    pools.join(", ")
                );
                out.say(&text);
                Exit::Ok
            }
            Err(error) => {
                out.complain(&error.to_string());
                Exit::Config
            }
        },
        ConfigCommand::Schema => {
            out.say(&format!("{:#}\n", config::schema()));
            Exit::Ok
        }
        ConfigCommand::Example => {
            out.say(config::EXAMPLE);
            Exit::Ok
        }
    }
}
