//! `rhizome journal`: look at a journal's file. Reads only, and takes no lock.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use rhizome_engine::event::Target;
use rhizome_engine::names::{NodeName, PoolName};

use super::{Out, show};
use crate::api::about_target;
use crate::exit::Exit;
use crate::journal::format::{self, Contents};

/// What to do with a journal.
#[derive(Debug, Subcommand)]
pub enum JournalCommand {
    /// Check every line's checksum and its place in the hash chain.
    Verify {
        /// The file.
        file: PathBuf,
    },
    /// Print its records, one a line.
    Show {
        /// The file.
        file: PathBuf,
        /// As JSON, one object a line.
        #[arg(long)]
        json: bool,
        /// Of one node only.
        #[arg(long, conflicts_with = "pool")]
        node: Option<String>,
        /// Of one pool only.
        #[arg(long)]
        pool: Option<String>,
    },
}

pub(super) fn run(command: &JournalCommand, out: &Out) -> Exit {
    let file = match command {
        JournalCommand::Verify { file } | JournalCommand::Show { file, .. } => file,
    };
    let contents = match read(file) {
        Ok(contents) => contents,
        Err(error) => {
            out.complain(&error);
            return Exit::Failed;
        }
    };
    match command {
        JournalCommand::Verify { .. } => out.say(&verified(file, &contents)),
        JournalCommand::Show {
            json, node, pool, ..
        } => {
            let target = match (node, pool) {
                (Some(node), _) => Some(Target::Node(NodeName::new(node))),
                (None, Some(pool)) => Some(Target::Pool(PoolName::new(pool))),
                (None, None) => None,
            };
            let records = match &target {
                Some(target) => about_target(contents.records, target),
                None => contents.records,
            };
            let lines = records.iter().map(|record| {
                if *json {
                    serde_json::to_string(record).unwrap_or_else(|error| error.to_string())
                } else {
                    show::record(record)
                }
            });
            out.say(&lines.map(|line| line + "\n").collect::<String>());
        }
    }
    Exit::Ok
}

fn read(file: &Path) -> Result<Contents, String> {
    let bytes = std::fs::read(file)
        .map_err(|error| format!("`{}` cannot be read: {error}", file.display()))?;
    format::read(&bytes).map_err(|damage| {
        format!(
            "{}: {damage}. The lines before it are whole; put the file back from a backup, or move it away to begin an empty journal, and look at what runs in the cloud first",
            file.display()
        )
    })
}

fn verified(file: &Path, contents: &Contents) -> String {
    let torn = match (contents.torn, contents.unended) {
        (0, false) => String::new(),
        (0, true) => "; its last line lacks its end, which the next start adds".to_owned(),
        (torn, _) => format!(
            "; {torn} bytes at its end were torn off by a crash, and the next start cuts them off"
        ),
    };
    format!(
        "{}: whole, {} records, chain {}{torn}\n",
        file.display(),
        contents.records.len(),
        contents.chain
    )
}
