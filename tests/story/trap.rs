//! The kill: SIGKILL the moment that a record is on the disk.
//!
//! A thread of its own looks for it: what the stage looks at meanwhile may take longer than several
//! records do.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::program::Running;
use crate::site::count_records;

/// How often the journal's size is looked at.
const AT_ONCE: Duration = Duration::from_millis(1);

/// The program, if it runs: shared, so that it can be killed from outside.
pub(crate) type Program = Arc<Mutex<Option<Running>>>;

/// Set until it is dropped or has sprung.
pub(crate) struct Trap {
    state: Arc<State>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct State {
    off: AtomicBool,
    sprung: AtomicBool,
}

impl Trap {
    /// Kills the program once so many records are in its journal.
    pub(crate) fn set(program: Program, journal: PathBuf, records: usize) -> Self {
        let state = Arc::new(State::default());
        let seen = Arc::clone(&state);
        let thread = std::thread::spawn(move || seen.watch(&program, &journal, records));
        Self {
            state,
            thread: Some(thread),
        }
    }

    /// Whether the program was killed.
    pub(crate) fn sprung(&self) -> bool {
        self.state.sprung.load(Ordering::SeqCst)
    }

    /// Takes it away; whether it sprang.
    pub(crate) fn clear(mut self) -> bool {
        self.end();
        self.sprung()
    }

    fn end(&mut self) {
        self.state.off.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

impl Drop for Trap {
    fn drop(&mut self) {
        self.end();
    }
}

impl State {
    fn watch(&self, program: &Program, journal: &std::path::Path, records: usize) {
        let mut size = 0;
        let mut due = false;
        while !self.off.load(Ordering::SeqCst) {
            let now = std::fs::metadata(journal).map_or(0, |file| file.len());
            if now != size {
                size = now;
                due = count_records(journal) >= records;
            }
            if due {
                let mut program = program.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(running) = program.as_mut() {
                    running.strike();
                    self.sprung.store(true, Ordering::SeqCst);
                    return;
                }
            }
            std::thread::sleep(AT_ONCE);
        }
    }
}
