//! Processes that are begun, and the moment in which none may be.
//!
//! Until it runs a program of its own, a child of ours holds every socket that we have. librdkafka's
//! mock closes its listener when a broker goes down, binds the same port again at once, and ends the
//! process if somebody still listens there: a child that was begun a moment before is enough. (What the
//! servers' scripts begin is not looked at: that is when a world is made and when it ends.)

use std::io;
use std::process::{Command, Output, Stdio};
use std::sync::{PoisonError, RwLock};

static FORKS: RwLock<()> = RwLock::new(());

/// Does what begins a process, and has it begun when it returns.
pub(crate) fn begin<T>(act: impl FnOnce() -> T) -> T {
    let _others_too = FORKS.read().unwrap_or_else(PoisonError::into_inner);
    act()
}

/// Does something while no process begins.
pub(crate) fn none_while<T>(act: impl FnOnce() -> T) -> T {
    let _alone = FORKS.write().unwrap_or_else(PoisonError::into_inner);
    act()
}

/// Runs a command to its end, and gives what it says.
pub(crate) fn output(command: &mut Command) -> io::Result<Output> {
    command.stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = begin(|| command.spawn())?;
    child.wait_with_output()
}
