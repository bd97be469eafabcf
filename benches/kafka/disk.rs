//! What a sync costs on the disk at hand, by itself: an action waits for one, whoever asks for it.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

/// Bytes of a decision, its operation and its intent in the journal, or nearly.
const BYTES: usize = 2_000;

const SYNCS: usize = 200;

/// Between two of them, so that the disk is not asked for more than the live part does.
const PAUSE: Duration = Duration::from_millis(20);

/// How long appending and syncing took, each time.
pub(crate) fn syncs(folder: &Path) -> Vec<Duration> {
    let path = folder.join("sync");
    let mut options = OpenOptions::new();
    let file = options.create(true).append(true).open(&path);
    let mut file = file.expect("the folder is writable");
    let sync = |_| {
        std::thread::sleep(PAUSE);
        let began = Instant::now();
        file.write_all(&[b'x'; BYTES]).expect("there is room");
        file.sync_data().expect("the disk works");
        began.elapsed()
    };
    let took = (0..SYNCS).map(sync).collect();
    std::fs::remove_file(path).expect("it is ours");
    took
}
