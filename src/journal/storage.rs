//! The folder that the journal lies in, behind a trait, so that tests make it fail.
//!
//! What it may not do: retry. A sync that failed once says nothing true afterwards (the
//! kernel marks the pages clean and forgets them), so the error goes up and stands.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

use rhizome_engine::time::Timestamp;
use serde::{Deserialize, Serialize};

/// A folder, as far as the journal needs one. Names are bare file names in it.
pub trait Storage: Send {
    /// The bytes of a file; `None` if there is none.
    ///
    /// # Errors
    ///
    /// Returns the operating system's error.
    fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>>;

    /// Creates a file, or empties the one that is there.
    ///
    /// # Errors
    ///
    /// Returns the operating system's error.
    fn create(&self, name: &str) -> io::Result<Box<dyn Appender>>;

    /// Gives the file `from` the second name `to`, in place of a file that had it.
    ///
    /// # Errors
    ///
    /// Returns the operating system's error.
    fn link(&self, from: &str, to: &str) -> io::Result<()>;

    /// Renames `from` to `to`, in place of a file that had that name, at once or not at all.
    ///
    /// # Errors
    ///
    /// Returns the operating system's error.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Makes creations and renames durable.
    ///
    /// # Errors
    ///
    /// Returns the operating system's error.
    fn sync_folder(&self) -> io::Result<()>;
}

/// An open file that grows at its end.
pub trait Appender: Send {
    /// Writes some of `bytes` at the end and says how many.
    ///
    /// # Errors
    ///
    /// Returns the operating system's error.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize>;

    /// Makes all that was written durable.
    ///
    /// # Errors
    ///
    /// Returns the operating system's error. What is durable is unknown from then on.
    fn sync(&mut self) -> io::Result<()>;
}

/// The real folder, held by one owner.
#[derive(Debug)]
pub struct Disk {
    folder: PathBuf,
    /// Open for as long as we own the folder: the kernel drops the lock with it, however the
    /// process ends.
    pub(super) lock: File,
}

/// Who holds a journal, as the lock file says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// Its process.
    pub pid: u32,
    /// Its machine.
    pub host: String,
    /// Since when, RFC 3339.
    pub since: String,
}

/// Why the folder cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process owns it.
    #[error(
        "the journal in `{folder}` is held by {}: stop that one first, or give this one another `state`",
        holder(.owner.as_ref())
    )]
    Held {
        /// The folder.
        folder: PathBuf,
        /// Who, if it can be read.
        owner: Option<Owner>,
    },
    /// The folder or its lock file cannot be used.
    #[error(
        "`{path}` cannot be used for the journal: make it a folder that this user can write to"
    )]
    Io {
        /// The path.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

fn holder(owner: Option<&Owner>) -> String {
    owner.map_or_else(
        || "another process".to_owned(),
        |owner| {
            format!(
                "process {} on `{}` since {}",
                owner.pid, owner.host, owner.since
            )
        },
    )
}

/// The file whose lock is the right to the journal. It is never deleted: a lock on a deleted
/// file would not keep the next owner out.
pub const LOCK_FILE: &str = "journal.lock";

impl Disk {
    /// Makes the folder if need be and takes its lock.
    ///
    /// # Errors
    ///
    /// Returns who holds it, or why the folder cannot be used.
    pub fn lock(folder: &Path, now: Timestamp) -> Result<Self, LockError> {
        let failed = |path: &Path, source| LockError::Io {
            path: path.to_owned(),
            source,
        };
        std::fs::create_dir_all(folder).map_err(|error| failed(folder, error))?;
        let path = folder.join(LOCK_FILE);
        let mut lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(&path)
            .map_err(|error| failed(&path, error))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(LockError::Held {
                    folder: folder.to_owned(),
                    owner: read_owner(&mut lock),
                });
            }
            Err(TryLockError::Error(error)) => return Err(failed(&path, error)),
        }
        // The lock is the right; the text only tells who has it. On a full disk it cannot.
        if let Err(error) = write_owner(&mut lock, now) {
            tracing::warn!(
                path = %path.display(),
                %error,
                "who holds the journal cannot be written down: the lock is held all the same"
            );
        }
        Ok(Self {
            folder: folder.to_owned(),
            lock,
        })
    }
}

impl Drop for Disk {
    /// A process that was begun by this one has its files too, from its fork until it runs its own
    /// program: to close ours would leave the lock with it for so long.
    fn drop(&mut self) {
        if let Err(error) = self.lock.unlock() {
            tracing::warn!(%error, "the journal's lock goes with this process only");
        }
    }
}

/// An owner's text has a process, a host and a time: more than this is something else.
const OWNER_BYTES: u64 = 4_096;

fn read_owner(lock: &mut File) -> Option<Owner> {
    let mut text = String::new();
    lock.take(OWNER_BYTES).read_to_string(&mut text).ok()?;
    serde_json::from_str(&text).ok()
}

fn write_owner(lock: &mut File, now: Timestamp) -> io::Result<()> {
    let owner = Owner {
        pid: std::process::id(),
        host: host_name(),
        since: now.to_string(),
    };
    lock.set_len(0)?;
    lock.rewind()?;
    serde_json::to_writer(&mut *lock, &owner)?;
    lock.write_all(b"\n")?;
    lock.sync_all()
}

/// This machine's name, for a person to read.
pub fn host_name() -> String {
    ["/proc/sys/kernel/hostname", "/etc/hostname"]
        .iter()
        .find_map(|path| std::fs::read_to_string(path).ok())
        .or_else(|| std::env::var("HOSTNAME").ok())
        .map(|name| name.trim().to_owned())
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| "unknown".to_owned())
}

impl Storage for Disk {
    fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        match std::fs::read(self.folder.join(name)) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn Appender>> {
        let file = OpenOptions::new()
            .create(true)
            .write(true)
            .truncate(true)
            .open(self.folder.join(name))?;
        Ok(Box::new(file))
    }

    fn link(&self, from: &str, to: &str) -> io::Result<()> {
        // A hard link cannot take a name that is in use, and there must be no instant at
        // which neither name exists: so by a third name, renamed over.
        let between = self.folder.join(format!("{to}.link"));
        match std::fs::remove_file(&between) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        std::fs::hard_link(self.folder.join(from), &between)?;
        std::fs::rename(between, self.folder.join(to))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        std::fs::rename(self.folder.join(from), self.folder.join(to))
    }

    fn sync_folder(&self) -> io::Result<()> {
        File::open(&self.folder)?.sync_all()
    }
}

impl Appender for File {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Write::write(self, bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()
    }
}
