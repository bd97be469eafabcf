//! The policies' folder: load, check, swap. A bad file never displaces a good one.
//!
//! The folder is watched, and read again every few seconds besides: a watch misses changes
//! on some file systems, and a ConfigMap changes by a symlink that is swapped. What was read
//! is compared by its bytes, so that nothing is loaded twice.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use notify::Watcher as _;
use rhizome_engine::policy::{Interrupt, PolicyError, PolicySet, SourceFile};
use rhizome_engine::time::Clock;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::clock::RealClock;

/// The largest policy file that is read, in bytes. A long one of the library has 3 KiB.
const MAX_FILE_BYTES: u64 = 256 << 10;

/// The most policy files in a folder.
const MAX_FILES: usize = 256;

/// How long the folder must be quiet before it is read: an editor writes a file in steps.
const SETTLE: Duration = Duration::from_millis(200);

/// How often the folder is read when no watch says anything.
const POLL: Duration = Duration::from_secs(5);

/// The stack on which policies run, as in the hardened profile: deep values are printed and
/// dropped by recursion.
const STACK_BYTES: usize = 16 << 20;

/// How long loading may take, all files together. The limit on operations alone lets a hostile
/// file take seconds; a folder that is as full as it may be takes well under one.
const LOAD_DEADLINE: Duration = Duration::from_secs(10);

/// Why policies cannot be loaded. Its text has a caret for each error.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The folder or a file cannot be read.
    #[error("the policies in `{path}` cannot be read: {source}\n")]
    Read {
        /// The path.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// There is none.
    #[error(
        "there is no policy in `{0}`: put a file there whose name ends in `.rhai`, or name another folder as `policies`\n"
    )]
    None(PathBuf),
    /// A bound is passed.
    #[error("{0}\n")]
    TooMuch(String),
    /// The policies are wrong.
    #[error("{rendered}")]
    Bad {
        /// Every error.
        errors: Vec<PolicyError>,
        /// Every error with its line and a caret.
        rendered: String,
    },
}

/// What came of a change in the folder.
#[derive(Debug, Clone)]
pub enum Change {
    /// Other policies run from now on.
    Loaded(Arc<PolicySet>),
    /// The change is refused, and the policies from before go on.
    Refused(String),
}

/// The policies that run, and what was last refused.
pub struct Policies {
    folder: PathBuf,
    current: ArcSwap<PolicySet>,
    refused: ArcSwapOption<String>,
    /// The files that were loaded first: what changed since is seen, however late the watch
    /// begins.
    first: u64,
}

impl Policies {
    /// Loads the folder.
    ///
    /// # Errors
    ///
    /// Returns everything that is wrong with it.
    pub fn load(folder: &Path) -> Result<Arc<Self>, LoadError> {
        let files = read_folder(folder)?;
        let set = check(&files)?;
        Ok(Arc::new(Self {
            folder: folder.to_owned(),
            current: ArcSwap::from(set),
            refused: ArcSwapOption::empty(),
            first: digest(&files),
        }))
    }

    /// The policies that run.
    pub fn current(&self) -> Arc<PolicySet> {
        self.current.load_full()
    }

    /// Why the folder as it is now does not run; nothing if it does.
    pub fn refused(&self) -> Option<Arc<String>> {
        self.refused.load_full()
    }

    /// Goes on looking at the folder until `stop`, and hands each change over.
    pub async fn watch(
        self: Arc<Self>,
        clock: Arc<dyn Clock>,
        changes: mpsc::Sender<Change>,
        stop: CancellationToken,
    ) {
        let (touched, mut touches) = mpsc::channel(1);
        let _watcher = watcher(&self.folder, touched);
        let mut seen = Some(self.first);
        loop {
            let quiet = async {
                // Without a watch the channel is closed: then the clock alone wakes us.
                if touches.recv().await.is_none() {
                    std::future::pending::<()>().await;
                }
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = quiet => clock.sleep(SETTLE).await,
                () = clock.sleep(POLL) => {}
            }
            while touches.try_recv().is_ok() {}
            if let Some(change) = self.look(&mut seen).await
                && changes.send(change).await.is_err()
            {
                return;
            }
        }
    }

    /// Reads the folder again and says what changed since `seen`.
    async fn look(&self, seen: &mut Option<u64>) -> Option<Change> {
        let folder = self.folder.clone();
        let read = tokio::task::spawn_blocking(move || read_folder(&folder)).await;
        let outcome = match read.ok()? {
            Ok(files) => {
                let digest = digest(&files);
                if *seen == Some(digest) {
                    return None;
                }
                *seen = Some(digest);
                tokio::task::spawn_blocking(move || check(&files))
                    .await
                    .ok()?
            }
            // While a ConfigMap is swapped the folder may be empty: told once.
            Err(error) => {
                let text = error.to_string();
                if self.refused.load().as_deref() == Some(&text) {
                    return None;
                }
                *seen = None;
                Err(error)
            }
        };
        Some(self.take(outcome))
    }

    fn take(&self, outcome: Result<Arc<PolicySet>, LoadError>) -> Change {
        match outcome {
            Ok(set) => {
                tracing::info!(hash = set.hash(), "other policies run from now on");
                self.current.store(Arc::clone(&set));
                self.refused.store(None);
                Change::Loaded(set)
            }
            Err(error) => {
                let text = error.to_string();
                tracing::error!(error = %text.trim_end(), "a change of the policies is refused, and those from before go on");
                self.refused.store(Some(Arc::new(text.clone())));
                Change::Refused(text)
            }
        }
    }
}

/// Reads every `*.rhai` of a folder, in the order of their names.
///
/// # Errors
///
/// Returns what cannot be read, or that there is nothing or too much.
pub fn read_folder(folder: &Path) -> Result<Vec<SourceFile>, LoadError> {
    let failed = |path: &Path, source| LoadError::Read {
        path: path.to_owned(),
        source,
    };
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(|error| failed(folder, error))? {
        let path = entry.map_err(|error| failed(folder, error))?.path();
        let hidden = path
            .file_name()
            .is_none_or(|name| name.to_string_lossy().starts_with('.'));
        if !hidden
            && path
                .extension()
                .is_some_and(|extension| extension == "rhai")
        {
            paths.push(path);
        }
    }
    if paths.is_empty() {
        return Err(LoadError::None(folder.to_owned()));
    }
    if paths.len() > MAX_FILES {
        let message = format!(
            "`{}` has {} policies, and at most {MAX_FILES} are read",
            folder.display(),
            paths.len()
        );
        return Err(LoadError::TooMuch(message));
    }
    paths.sort();
    paths.iter().map(|path| read_file(path)).collect()
}

/// Reads one policy file.
///
/// # Errors
///
/// Returns that it cannot be read or is too large.
pub fn read_file(path: &Path) -> Result<SourceFile, LoadError> {
    let failed = |source| LoadError::Read {
        path: path.to_owned(),
        source,
    };
    let size = std::fs::metadata(path).map_err(failed)?.len();
    if size > MAX_FILE_BYTES {
        let message = format!(
            "`{}` has {size} bytes, and at most {MAX_FILE_BYTES} are read: split it",
            path.display()
        );
        return Err(LoadError::TooMuch(message));
    }
    let text = std::fs::read_to_string(path).map_err(failed)?;
    let name = path
        .file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default();
    Ok(SourceFile { name, text })
}

/// Loads the files as one set, on a stack of their own.
///
/// # Errors
///
/// Returns every error of every file.
pub fn check(files: &[SourceFile]) -> Result<Arc<PolicySet>, LoadError> {
    check_within(files, LOAD_DEADLINE)
}

fn check_within(files: &[SourceFile], deadline: Duration) -> Result<Arc<PolicySet>, LoadError> {
    let clock = RealClock::new();
    let began = clock.now().mono;
    let interrupt = Interrupt::new(move || clock.now().mono.since(began) >= deadline);
    let loaded = std::thread::scope(|scope| {
        std::thread::Builder::new()
            .name("policies".to_owned())
            .stack_size(STACK_BYTES)
            .spawn_scoped(scope, || PolicySet::load_within(files, &interrupt))
            .map(|thread| thread.join())
    });
    match loaded {
        Ok(Ok(Ok(set))) => Ok(Arc::new(set)),
        Ok(Ok(Err(errors))) => Err(LoadError::Bad {
            rendered: render(files, &errors),
            errors,
        }),
        Ok(Err(_)) => Err(LoadError::TooMuch(
            "loading the policies ended in a panic: this is a defect of Rhizome".to_owned(),
        )),
        Err(source) => Err(LoadError::Read {
            path: PathBuf::from("policies"),
            source,
        }),
    }
}

/// Every error with its line and a caret.
pub fn render(files: &[SourceFile], errors: &[PolicyError]) -> String {
    errors
        .iter()
        .map(|error| {
            let text = files
                .iter()
                .find(|file| file.name == error.file)
                .map_or("", |file| file.text.as_str());
            error.render(text)
        })
        .collect()
}

/// Tells two readings of a folder apart. Not kept over a restart.
fn digest(files: &[SourceFile]) -> u64 {
    let mut hasher = DefaultHasher::new();
    for file in files {
        (&file.name, &file.text).hash(&mut hasher);
    }
    hasher.finish()
}

/// A watch of the folder, or nothing where there can be none: then the poll alone is left.
fn watcher(folder: &Path, touched: mpsc::Sender<()>) -> Option<notify::RecommendedWatcher> {
    let tell = move |_: notify::Result<notify::Event>| {
        // Full means that it was told already.
        let _ = touched.try_send(());
    };
    let watcher = notify::recommended_watcher(tell).and_then(|mut watcher| {
        watcher.watch(folder, notify::RecursiveMode::NonRecursive)?;
        Ok(watcher)
    });
    watcher
        .inspect_err(|error| tracing::warn!(%error, "the policies' folder cannot be watched, and is read every few seconds instead"))
        .ok()
}

#[cfg(test)]
mod tests;
