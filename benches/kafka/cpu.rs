//! Processor time by thread: who has used how much, as the kernel says it.
//!
//! `/proc/self/task/<tid>/schedstat` counts nanoseconds on a processor, system calls included.
//! Both sides of the comparison, the producer and the broker live in this one process, and
//! librdkafka's threads have the same names on all of them. So threads are told apart by when
//! they appeared: whoever was set up last claims those that nobody has claimed yet.

use std::collections::BTreeMap;
use std::fs;

/// Whose a thread is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Owner {
    /// The broker, the producer, this benchmark: not counted.
    Stage,
    /// Batch read, serde_json, dropped.
    Reference,
    /// The program.
    Ours,
}

/// The threads of this process and whose they are.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    owners: BTreeMap<String, (Owner, String)>,
}

/// Nanoseconds by group of threads.
pub(crate) type Spent = BTreeMap<String, u64>;

impl Ledger {
    /// Gives all threads that are nobody's yet to `owner`.
    pub(crate) fn claim(&mut self, owner: Owner) {
        for tid in tasks() {
            let group = fs::read_to_string(format!("/proc/self/task/{tid}/comm"));
            let group = group.map_or_else(|_| "gone".to_owned(), |name| group_of(name.trim()));
            self.owners.entry(tid).or_insert((owner, group));
        }
    }

    /// What the living threads of `owner` have used so far.
    pub(crate) fn spent(&self, owner: Owner) -> Spent {
        let mut spent = Spent::new();
        for (tid, (of, group)) in &self.owners {
            if *of == owner
                && let Some(ns) = used(&format!("/proc/self/task/{tid}/schedstat"))
            {
                *spent.entry(group.clone()).or_default() += ns;
            }
        }
        spent
    }
}

/// What came on top since `before`.
pub(crate) fn since(before: &Spent, after: &Spent) -> Spent {
    after
        .iter()
        .map(|(group, ns)| {
            let before = before.get(group).copied().unwrap_or_default();
            (group.clone(), ns.saturating_sub(before))
        })
        .collect()
}

/// What the present thread has used. The kernel brings it up to date when a thread is
/// scheduled: so it offers to wait.
pub(crate) fn mine() -> u64 {
    std::thread::yield_now();
    used("/proc/thread-self/schedstat").unwrap_or_default()
}

fn tasks() -> Vec<String> {
    let entries = fs::read_dir("/proc/self/task").expect("Linux lists threads");
    entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .collect()
}

fn used(path: &str) -> Option<u64> {
    let text = fs::read_to_string(path).ok()?;
    text.split_whitespace().next()?.parse().ok()
}

fn group_of(name: &str) -> String {
    if name.starts_with("rdk:") {
        "librdkafka".to_owned()
    } else {
        name.to_owned()
    }
}
