//! Pauses that are left in a file or in a ConfigMap (I39): for when the API does not answer, or
//! when whoever stops the machines may write files or objects and nothing else.
//!
//! ```text
//! file, ConfigMap --read several times a second--> gate: holds at once
//!                                              \-> engine: journaled, shown, lifted
//! ```
//!
//! They are read before anything else runs. That one is there is enough: it pauses everything
//! unless it names pools, and a name that is no pool's pauses everything too, since whoever wrote
//! it meant to stop something. What cannot be read changes nothing but closes a brake: what was
//! paused stays so, and nothing is taken away until it can be read again.

use std::collections::BTreeSet;
use std::io::{ErrorKind, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rhizome_actions::SetupError;
use rhizome_actions::kubernetes::{ConfigMap, Kept};
use rhizome_connectors::Inlet;
use rhizome_engine::event::{Input, PauseReport, PauseSource, StandingPause};
use rhizome_engine::names::PoolName;
use rhizome_engine::time::{Clock, Monotonic};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::error;

use super::acting::send;
use super::services;
use crate::api::plain;
use crate::config::Loaded;
use crate::gate::ProgramGate;

/// How long after a look the next one is: a pause must bite within a second, the time that a
/// look takes included. A look at the file is two system calls.
const FILE_EVERY: Duration = Duration::from_millis(200);

/// The same for the ConfigMap, which is one small request.
const CONFIG_MAP_EVERY: Duration = Duration::from_millis(500);

/// A file that cannot be read is so at the first look. An API server may be away for a moment:
/// it is only after so long without a good answer that nobody can tell.
const CONFIG_MAP_GRACE: Duration = Duration::from_secs(3);

/// A look that has not come back within this long does not count as a good one.
const LOOK_WITHIN: Duration = Duration::from_secs(3);

/// Most of the file that is read, in bytes: names of pools, and a reason.
const MAX_BYTES: u64 = 64 << 10;

/// Where pauses are looked for.
pub(super) struct Pauses {
    readers: Vec<Reader>,
    gate: Arc<ProgramGate>,
    clock: Arc<dyn Clock>,
}

struct Reader {
    place: Place,
    pools: BTreeSet<PoolName>,
}

enum Place {
    File(PathBuf),
    ConfigMap { map: ConfigMap, name: String },
}

type Look = Result<Option<StandingPause>, String>;

impl Pauses {
    /// The places that the configuration names.
    pub(super) async fn new(
        loaded: &Loaded,
        gate: Arc<ProgramGate>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, SetupError> {
        let pools: BTreeSet<_> = loaded.config.pools.keys().map(PoolName::new).collect();
        let mut places = Vec::new();
        if let Some(file) = &loaded.config.pause.file {
            places.push(Place::File(loaded.folder.join(file)));
        }
        if let Some((map, name)) = services::pause_map(loaded).await? {
            places.push(Place::ConfigMap { map, name });
        }
        let reader = |place| Reader {
            place,
            pools: pools.clone(),
        };
        Ok(Self {
            readers: places.into_iter().map(reader).collect(),
            gate,
            clock,
        })
    }

    /// Looks once at each place, before anything acts: what is paused is so from the first step.
    pub(super) async fn first(&self, inlet: &Inlet) {
        for reader in &self.readers {
            let seen = tokio::time::timeout(LOOK_WITHIN, reader.read()).await;
            let seen = seen.unwrap_or_else(|_| Err(reader.no_answer()));
            self.tell(reader, seen, inlet).await;
        }
    }

    /// Goes on looking until `stop`, a task for each place.
    pub(super) fn watch(self, inlet: &Inlet, stop: &CancellationToken, tasks: &TaskTracker) {
        let this = Arc::new(self);
        for number in 0..this.readers.len() {
            let (this, inlet, stop) = (Arc::clone(&this), inlet.clone(), stop.clone());
            tasks.spawn(async move {
                let Some(reader) = this.readers.get(number) else {
                    return;
                };
                tokio::select! {
                    () = this.keep_looking(reader, &inlet) => {}
                    () = stop.cancelled() => {}
                }
            });
        }
    }

    async fn keep_looking(&self, reader: &Reader, inlet: &Inlet) {
        let mut told = None;
        let mut good = self.clock.now().mono;
        loop {
            self.clock.sleep(reader.every()).await;
            let mut look = std::pin::pin!(reader.read());
            // A look that hangs is not begun a second time: what it would find, it would too.
            let seen = loop {
                tokio::select! {
                    seen = &mut look => break seen,
                    () = self.clock.sleep(LOOK_WITHIN) => {
                        self.tell_news(reader, Err(reader.no_answer()), &mut told, good, inlet).await;
                    }
                }
            };
            if seen.is_ok() {
                good = self.clock.now().mono;
            }
            self.tell_news(reader, seen, &mut told, good, inlet).await;
        }
    }

    /// Tells what differs from what was told last.
    async fn tell_news(
        &self,
        reader: &Reader,
        seen: Look,
        told: &mut Option<Look>,
        good: Monotonic,
        inlet: &Inlet,
    ) {
        let since = self.clock.now().mono.since(good);
        let passing = seen.is_err() && since < reader.grace();
        if passing || told.as_ref() == Some(&seen) {
            return;
        }
        *told = Some(seen.clone());
        self.tell(reader, seen, inlet).await;
    }

    async fn tell(&self, reader: &Reader, seen: Look, inlet: &Inlet) {
        let source = reader.source();
        match &seen {
            // The end of a pause is the engine's to say: the gate follows its record.
            Ok(None) => {}
            Ok(Some(pause)) => self.gate.set_standing(source, Some(pause.clone())),
            Err(trouble) => error!(
                trouble,
                "whether there is a pause cannot be read: nothing is taken away until it can"
            ),
        }
        send(inlet, Input::Pause(PauseReport { source, seen })).await;
    }
}

impl Reader {
    fn source(&self) -> PauseSource {
        match self.place {
            Place::File(_) => PauseSource::File,
            Place::ConfigMap { .. } => PauseSource::ConfigMap,
        }
    }

    fn every(&self) -> Duration {
        match self.place {
            Place::File(_) => FILE_EVERY,
            Place::ConfigMap { .. } => CONFIG_MAP_EVERY,
        }
    }

    fn grace(&self) -> Duration {
        match self.place {
            Place::File(_) => Duration::ZERO,
            Place::ConfigMap { .. } => CONFIG_MAP_GRACE,
        }
    }

    fn no_answer(&self) -> String {
        let seconds = LOOK_WITHIN.as_secs();
        match &self.place {
            Place::File(path) => {
                format!(
                    "the pause file `{}`: no answer within {seconds} s",
                    path.display()
                )
            }
            Place::ConfigMap { name, .. } => {
                format!("the pause ConfigMap `{name}`: no answer within {seconds} s")
            }
        }
    }

    async fn read(&self) -> Look {
        match &self.place {
            Place::File(path) => {
                let (path, pools) = (path.clone(), self.pools.clone());
                tokio::task::spawn_blocking(move || read_file(&path, &pools))
                    .await
                    .unwrap_or_else(|error| Err(format!("the look at the pause file: {error}")))
            }
            Place::ConfigMap { map, name } => match map.read().await {
                Ok(kept) => Ok(kept.map(|kept| of_map(&kept, name, &self.pools))),
                Err(failure) => Err(format!("the pause ConfigMap `{name}`: {}", failure.message)),
            },
        }
    }
}

/// What a pause file says; nothing only if it is sure that there is none.
fn read_file(path: &Path, pools: &BTreeSet<PoolName>) -> Look {
    let shown = path.display();
    // A link that leads nowhere is there as well: somebody made it.
    let there = match path.symlink_metadata() {
        Ok(there) => there,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let folder = path
                .parent()
                .filter(|folder| !folder.as_os_str().is_empty());
            let folder = folder.unwrap_or(Path::new("."));
            return match folder.metadata() {
                Ok(_) => Ok(None),
                Err(error) => Err(format!(
                    "the folder of the pause file `{shown}` cannot be seen ({error}): make it, or name another file"
                )),
            };
        }
        Err(error) => {
            return Err(format!(
                "the pause file `{shown}` cannot be seen ({error}): give us the right to read its folder"
            ));
        }
    };
    let who = format!("uid {}, in `{shown}`", there.uid());
    // That it is there is the pause. What does not open, is no file or is too large names nobody.
    let text = match path.metadata() {
        Ok(file) if file.is_file() && file.len() <= MAX_BYTES => read_text(path),
        _ => None,
    };
    Ok(Some(match text {
        Some(text) => of_text(&text, None, who, pools),
        None => StandingPause {
            pools: BTreeSet::new(),
            who,
            why: "it is there, and its text cannot be read".to_owned(),
        },
    }))
}

fn read_text(path: &Path) -> Option<String> {
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).ok()?;
    file.take(MAX_BYTES).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

fn of_map(kept: &Kept, name: &str, pools: &BTreeSet<PoolName>) -> StandingPause {
    let text = |key: &str| kept.data.get(key).map(String::as_str);
    let who = text("who").unwrap_or(&kept.manager);
    let who = format!("{who}, in `{name}`");
    of_text(text("pools").unwrap_or_default(), text("why"), who, pools)
}

/// The pause that a text asks for: names of pools, and after a `#` the reason.
fn of_text(
    text: &str,
    why: Option<&str>,
    who: String,
    pools: &BTreeSet<PoolName>,
) -> StandingPause {
    let mut reasons: Vec<&str> = why.into_iter().collect();
    let mut named = BTreeSet::new();
    for line in text.lines() {
        let (names, reason) = line.split_once('#').unwrap_or((line, ""));
        reasons.extend(Some(reason.trim()).filter(|reason| !reason.is_empty()));
        let names = names
            .split([' ', '\t', ','])
            .filter(|name| !name.is_empty());
        named.extend(names.map(PoolName::new));
    }
    let mut why = plain(&reasons.join(" "));
    if why.is_empty() {
        "no reason is written there".clone_into(&mut why);
    }
    if let Some(stranger) = named.iter().find(|name| !pools.contains(*name)) {
        let stranger = plain(stranger.as_str());
        why = format!("{why} (`{stranger}` is no pool, so everything is paused)");
        named.clear();
    }
    StandingPause {
        pools: named,
        who: plain(&who),
        why,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pools() -> BTreeSet<PoolName> {
        ["workers", "mongodb"].map(PoolName::new).into()
    }

    #[test]
    fn names_of_pools_pause_these_and_everything_else_pauses_everything() {
        for (text, paused, why) in [
            ("", "everything", "no reason is written there"),
            ("\n  \n", "everything", "no reason is written there"),
            ("# upgrade\n#until noon", "everything", "upgrade until noon"),
            ("workers # upgrade", "workers", "upgrade"),
            ("workers,mongodb\n", "mongodb, workers", "no reason"),
            ("mongodb\nworkers\n", "mongodb, workers", "no reason"),
            ("worker", "everything", "`worker` is no pool"),
            ("workers\n\u{1b}[31m", "everything", "is no pool"),
        ] {
            let pause = of_text(text, None, "ann".to_owned(), &pools());
            assert_eq!(pause.scope(), paused, "{text:?}");
            assert!(pause.why.contains(why), "{text:?}: {}", pause.why);
            assert!(!pause.why.contains('\u{1b}'), "{text:?}");
        }
    }

    #[test]
    fn a_config_map_says_who_and_why() {
        let data = [("pools", "workers"), ("why", "upgrade"), ("who", "ann")];
        let mut kept = Kept {
            data: data.map(|(k, v)| (k.to_owned(), v.to_owned())).into(),
            manager: "kubectl-create".to_owned(),
        };
        let pause = of_map(&kept, "rhizome/pause", &pools());
        assert_eq!(
            (pause.scope().as_str(), pause.why.as_str()),
            ("workers", "upgrade")
        );
        assert_eq!(pause.who, "ann, in `rhizome/pause`");
        kept.data.clear();
        let pause = of_map(&kept, "rhizome/pause", &pools());
        assert_eq!(pause.scope(), "everything");
        assert_eq!(pause.who, "kubectl-create, in `rhizome/pause`");
    }

    #[test]
    fn only_a_file_that_is_surely_not_there_is_no_pause() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let scope = |name: &str| {
            let seen = read_file(&path(name), &pools());
            seen.map(|pause| pause.map(|pause| pause.scope()))
        };
        assert_eq!(scope("pause"), Ok(None));
        std::fs::write(path("pause"), "workers").unwrap();
        assert_eq!(scope("pause"), Ok(Some("workers".to_owned())));

        let everything = Ok(Some("everything".to_owned()));
        std::fs::create_dir(path("folder")).unwrap();
        assert_eq!(scope("folder"), everything, "there, and no file");
        std::os::unix::fs::symlink(path("nowhere"), path("link")).unwrap();
        assert_eq!(scope("link"), everything, "a link that leads nowhere");
        std::fs::write(path("large"), vec![b' '; 65 << 10]).unwrap();
        assert_eq!(scope("large"), everything, "too large to be read");
        std::fs::write(path("binary"), [0xff, 0xfe, b'\n']).unwrap();
        assert_eq!(scope("binary"), everything, "no text");

        let gone = scope("no/such/pause").unwrap_err();
        assert!(
            gone.contains("folder") && gone.contains("make it"),
            "{gone}"
        );
        let through = scope("pause/under-a-file").unwrap_err();
        assert!(through.contains("cannot be seen"), "{through}");
    }
}
