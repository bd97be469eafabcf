//! The state folder of a dry run: a copy of the real one, made anew at each start.
//!
//! A dry run journals what it decides. In the real journal that would be this cluster's past:
//! sizes it never came to, rungs that nobody tried, cooldowns of nothing. The run after it would
//! carry out at once what nobody asks for any more.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use rhizome_engine::time::Timestamp;

use super::StartError;
use crate::journal::storage::Disk;
use crate::journal::{self, JournalError};
use crate::windows;

/// Its name, in the real state folder.
const FOLDER: &str = "dry-run";

/// Makes the folder, with what the real one knows by now; that one is only read, so the real
/// run may go on meanwhile.
///
/// # Errors
///
/// Returns who uses the folder already, or why it cannot be made.
pub(super) fn folder(state: &Path, now: Timestamp) -> Result<PathBuf, StartError> {
    let folder = state.join(FOLDER);
    let lock = Disk::lock(&folder, now).map_err(JournalError::Lock)?;
    for name in [journal::FILE, journal::PREVIOUS_FILE, windows::FILE] {
        copy(&state.join(name), &folder.join(name)).map_err(|source| StartError::State {
            path: folder.clone(),
            source,
        })?;
    }
    drop(lock);
    Ok(folder)
}

/// `to` is as `from` then, be it that there is none.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let absent = |error: io::Error| match error.kind() {
        ErrorKind::NotFound => Ok(()),
        _ => Err(error),
    };
    std::fs::remove_file(to).or_else(absent)?;
    std::fs::copy(from, to).map(|_| ()).or_else(absent)
}
