//! A folder in memory that forgets what was not synced, and fails when it is told to.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use super::storage::{Appender, Storage};

/// What is done to one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// `ENOSPC`, with the first half of the bytes written.
    DiskFull,
    /// `EIO`, with nothing written; of a sync: the unsynced bytes are gone from the disk and
    /// still there to be read, as Linux does it.
    Io,
    /// The power goes: this call and all after it fail.
    Crash,
}

#[derive(Debug, Default, Clone)]
struct Inode {
    /// What a reader sees.
    cached: Vec<u8>,
    /// How much of it is on the disk.
    durable: Vec<u8>,
    /// The last synced length of `cached`: what a failed sync lost is never written later.
    synced: usize,
}

#[derive(Debug, Default)]
struct Inner {
    inodes: Vec<Inode>,
    names: BTreeMap<String, usize>,
    durable_names: BTreeMap<String, usize>,
    calls: usize,
    fault: Option<(usize, Fault)>,
    crashed: bool,
    /// The most that one write takes; 0 for all.
    short: usize,
}

/// The folder. Clones are the same folder.
#[derive(Debug, Default, Clone)]
pub(super) struct Memory(Arc<Mutex<Inner>>);

struct Open {
    folder: Memory,
    inode: usize,
}

impl Memory {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap()
    }

    /// A folder with one durable file.
    pub(super) fn with(name: &str, bytes: &[u8]) -> Self {
        let folder = Self::default();
        folder.create(name).unwrap().write(bytes).unwrap();
        folder.inner().inodes[0].durable = bytes.to_vec();
        folder.inner().inodes[0].synced = bytes.len();
        folder.sync_folder().unwrap();
        folder
    }

    /// Does `fault` to the call that comes after `calls` more.
    pub(super) fn fail_after(&self, calls: usize, fault: Fault) {
        let mut inner = self.inner();
        inner.fault = Some((inner.calls + calls, fault));
    }

    /// Takes at most so many bytes in one write.
    pub(super) fn write_short(&self, most: usize) {
        self.inner().short = most;
    }

    /// How many calls were made that change the folder.
    pub(super) fn calls(&self) -> usize {
        self.inner().calls
    }

    /// What a reader sees of a file.
    pub(super) fn bytes(&self, name: &str) -> Vec<u8> {
        self.read(name).unwrap().unwrap_or_default()
    }

    /// The folder after a power cut: `unsynced` more bytes of each file than were synced, and
    /// the names of the last folder sync or, if `names` is set, those since.
    pub(super) fn after_crash(&self, unsynced: usize, names: bool) -> Self {
        let inner = self.inner();
        let inodes = inner
            .inodes
            .iter()
            .map(|inode| {
                let mut bytes = inode.durable.clone();
                let rest = &inode.cached[inode.synced..];
                bytes.extend_from_slice(&rest[..unsynced.min(rest.len())]);
                Inode {
                    synced: bytes.len(),
                    durable: bytes.clone(),
                    cached: bytes,
                }
            })
            .collect();
        let names = if names {
            inner.names.clone()
        } else {
            inner.durable_names.clone()
        };
        Self(Arc::new(Mutex::new(Inner {
            inodes,
            durable_names: names.clone(),
            names,
            ..Inner::default()
        })))
    }

    /// Counts a call that changes something, and says what is to be done to it.
    fn call(inner: &mut Inner) -> Option<Fault> {
        let now = inner.calls;
        inner.calls += 1;
        if inner.crashed {
            return Some(Fault::Crash);
        }
        let fault = inner
            .fault
            .filter(|(at, _)| *at == now)
            .map(|(_, fault)| fault);
        inner.crashed = fault == Some(Fault::Crash);
        fault
    }

    fn error(fault: Fault) -> io::Error {
        match fault {
            Fault::DiskFull => io::ErrorKind::StorageFull.into(),
            Fault::Io => io::Error::other("input/output error"),
            Fault::Crash => io::Error::other("the power is off"),
        }
    }
}

impl Storage for Memory {
    fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        let inner = self.inner();
        Ok(inner
            .names
            .get(name)
            .map(|inode| inner.inodes[*inode].cached.clone()))
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn Appender>> {
        let mut inner = self.inner();
        if let Some(fault) = Self::call(&mut inner) {
            return Err(Self::error(fault));
        }
        let inode = inner.inodes.len();
        inner.inodes.push(Inode::default());
        inner.names.insert(name.to_owned(), inode);
        Ok(Box::new(Open {
            folder: self.clone(),
            inode,
        }))
    }

    fn link(&self, from: &str, to: &str) -> io::Result<()> {
        let mut inner = self.inner();
        if let Some(fault) = Self::call(&mut inner) {
            return Err(Self::error(fault));
        }
        let inode = *inner.names.get(from).ok_or(io::ErrorKind::NotFound)?;
        inner.names.insert(to.to_owned(), inode);
        Ok(())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut inner = self.inner();
        if let Some(fault) = Self::call(&mut inner) {
            return Err(Self::error(fault));
        }
        let inode = inner.names.remove(from).ok_or(io::ErrorKind::NotFound)?;
        inner.names.insert(to.to_owned(), inode);
        Ok(())
    }

    fn sync_folder(&self) -> io::Result<()> {
        let mut inner = self.inner();
        if let Some(fault) = Self::call(&mut inner) {
            return Err(Self::error(fault));
        }
        inner.durable_names = inner.names.clone();
        Ok(())
    }
}

impl Appender for Open {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut inner = self.folder.inner();
        let fault = Memory::call(&mut inner);
        let most = match fault {
            Some(Fault::DiskFull) => bytes.len() / 2,
            Some(Fault::Io | Fault::Crash) => 0,
            None if inner.short > 0 => inner.short.min(bytes.len()),
            None => bytes.len(),
        };
        inner.inodes[self.inode]
            .cached
            .extend_from_slice(&bytes[..most]);
        fault.map_or(Ok(most), |fault| Err(Memory::error(fault)))
    }

    fn sync(&mut self) -> io::Result<()> {
        let mut inner = self.folder.inner();
        let fault = Memory::call(&mut inner);
        let inode = &mut inner.inodes[self.inode];
        let synced = inode.synced;
        match fault {
            Some(Fault::Crash) => {}
            // The pages are marked clean: no later sync writes them.
            Some(_) => inode.synced = inode.cached.len(),
            None => {
                let fresh = inode.cached[synced..].to_vec();
                inode.durable.extend_from_slice(&fresh);
                inode.synced = inode.cached.len();
            }
        }
        fault.map_or(Ok(()), |fault| Err(Memory::error(fault)))
    }
}
