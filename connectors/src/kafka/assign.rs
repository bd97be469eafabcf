//! Which partitions are read, and where from: rebalances, new beginnings, the look at the ends.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::consumer::Consumer;
use rdkafka::error::KafkaResult;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rhizome_engine::time::Now;

use super::context::Change;
use super::lookup::{self, Name, Question, Seen, TopicIds};
use super::partitions::{Floor, Found, Plan, Surprise, plan};
use super::reader::{Reader, add_position};
use super::stats::add;

/// Between two looks at the ends, on the program's clock.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Between two attempts to find out where a partition begins.
const RETRY_EVERY: Duration = Duration::from_secs(1);

impl Reader {
    /// Carries out what the group decided.
    pub(super) fn rebalance(&mut self, now: Now) {
        while let Some(change) = self.shared.consumer.context().next_change() {
            add(&self.shared.stats.rebalances, 1);
            match change {
                Change::Assigned(names) => {
                    self.waiting.extend(names);
                    let names: Vec<Name> = self.waiting.iter().cloned().collect();
                    // The group waits for an answer, be it that nothing can be begun yet.
                    let found = self.ask_starts(&names, now);
                    self.begin(found, now);
                }
                Change::Revoked(names) => self.revoke(&names),
            }
            self.looked = None;
        }
    }

    fn revoke(&mut self, names: &[Name]) {
        // What was acknowledged until now is still ours to commit.
        self.store_acks();
        let mut held = Vec::new();
        for name in names {
            self.waiting.retain(|waiting| waiting != name);
            self.restart.remove(name);
            if let Some(partition) = self.partitions.get(&name.0, name.1) {
                held.push(name.clone());
                self.left.insert(name.clone(), partition.clone());
            }
            self.partitions.end(&name.0, name.1);
        }
        let unassigned = lookup::list(&held, Offset::Invalid)
            .and_then(|list| self.shared.consumer.incremental_unassign(&list));
        if let Err(error) = unassigned {
            tracing::warn!(%error, "kafka: giving partitions back failed");
        }
        self.count_partitions();
    }

    /// Tries again to begin what could not be begun.
    pub(super) fn retry(&mut self, now: Now) {
        let due = self
            .tried
            .is_none_or(|tried| now.mono.since(tried) >= RETRY_EVERY);
        if !due || (self.waiting.is_empty() && self.restart.is_empty()) {
            return;
        }
        self.tried = Some(now.mono);
        let names: Vec<Name> = self.waiting.iter().cloned().collect();
        let mut found = self.ask_starts(&names, now);
        if found.is_empty() && names.len() > 1 {
            // One partition without a leader must not hold up the others: one at a time.
            if let Some(first) = self.waiting.pop_front() {
                found = self.ask_starts(std::slice::from_ref(&first), now);
                self.waiting.push_back(first);
            }
        }
        if !found.is_empty() {
            self.begin(found, now);
        }
        for name in std::mem::take(&mut self.restart) {
            if let Err(error) = self.begin_anew(&name, now) {
                tracing::debug!(%error, "kafka: no answer yet where to go on");
                self.restart.insert(name);
            }
        }
    }

    fn ask_starts(&mut self, names: &[Name], now: Now) -> BTreeMap<Name, Found> {
        if names.is_empty() {
            return BTreeMap::new();
        }
        let since = now.wall.minus(self.parts.refill);
        match lookup::starts(&self.shared.consumer, names, since, &self.parts.snapshot) {
            Ok(mut found) => {
                for (name, found) in &mut found {
                    if let Some(left) = self.left.get(name) {
                        found.recall(left);
                    }
                }
                found
            }
            Err(error) => {
                self.reporter
                    .unanswered(&format!("cannot find out where to begin: {error}"));
                BTreeMap::new()
            }
        }
    }

    /// Begins to read partitions, and tells librdkafka so.
    ///
    /// By [`super::batch::BatchQueue::assign`], never by the consumer itself: see there for the
    /// records that would be lost.
    fn begin(&mut self, found: BTreeMap<Name, Found>, now: Now) {
        let mut list = TopicPartitionList::new();
        let mut decided = TopicPartitionList::new();
        let mut names = Vec::new();
        for (name, found) in found {
            let plan = plan(&found);
            self.tell(&name, &plan, now);
            if let Err(error) =
                list.add_partition_offset(&name.0, name.1, Offset::Offset(plan.start))
            {
                tracing::error!(%error, "kafka: librdkafka refuses an offset");
                continue;
            }
            if !plan.committed {
                add_position(
                    &mut decided,
                    &name.0,
                    name.1,
                    plan.live_from,
                    found.topic_id.clone(),
                );
            }
            self.partitions
                .begin(&name.0, name.1, &plan, found.topic_id, now);
            self.waiting.retain(|waiting| *waiting != name);
            names.push(name);
        }
        if let Err(error) = self.queue.assign(&list) {
            tracing::warn!(%error, "kafka: taking partitions failed");
            // They are ours all the same: while they wait nothing is said to flow.
            for name in names {
                self.partitions.end(&name.0, name.1);
                self.waiting.push_back(name);
            }
            self.count_partitions();
            return;
        }
        self.forward_silent();
        if decided.count() > 0 {
            // Nothing before `live_from` is ever decided on, so that much is decided now. It
            // makes what is written while we are away a backlog, not a refill.
            self.store(&decided);
        }
        self.count_partitions();
    }

    /// Begins a held partition anew whose position is not there any more, or not the same.
    fn begin_anew(&mut self, name: &Name, now: Now) -> KafkaResult<()> {
        let Some(held) = self.partitions.get(&name.0, name.1) else {
            return Ok(());
        };
        let (next, live_from, id) = (held.next, held.live_from, held.topic_id.clone());
        // What was acknowledged is of the topic as it was, and goes to it or nowhere.
        self.store_acks();
        let (low, high) = lookup::bounds(&self.shared.consumer, name)?;
        let new_id = lookup::topic_id(&self.shared.consumer, &name.0);
        let found = Found {
            low,
            high,
            committed: Some(next.max(live_from)),
            committed_topic_id: id.clone(),
            topic_id: new_id.or(id),
            floor: Floor::Unknown,
            snapshot: Some(next),
        };
        self.unassign(name)?;
        self.begin(BTreeMap::from([(name.clone(), found)]), now);
        Ok(())
    }

    /// Goes to another offset. Unlike librdkafka's seek, it works in every state.
    pub(super) fn seek(&mut self, name: &Name, offset: i64) {
        let moved = self.unassign(name).and_then(|()| {
            let list = lookup::list(std::slice::from_ref(name), Offset::Offset(offset))?;
            self.queue.assign(&list)
        });
        if let Err(error) = moved {
            tracing::warn!(%error, "kafka: moving to another offset failed");
        }
        if let Some(held) = self.partitions.get(&name.0, name.1) {
            held.heard = false;
        }
        self.forward_silent();
    }

    /// A record came by the consumer's own queue, where none should: reads on from it, so that
    /// it is not lost. What was read after it may come twice, which is the lesser evil.
    pub(super) fn fetch_again(&mut self, name: &Name, offset: i64) {
        let Some(held) = self.partitions.get(&name.0, name.1) else {
            return;
        };
        held.go_back(offset);
        let next = held.next;
        tracing::warn!(
            topic = %name.0,
            partition = name.1,
            offset,
            "kafka: a record came by the wrong queue; reading on from it"
        );
        self.seek(name, next);
    }

    fn unassign(&self, name: &Name) -> KafkaResult<()> {
        let list = lookup::list(std::slice::from_ref(name), Offset::Invalid)?;
        self.shared.consumer.incremental_unassign(&list)
    }

    /// Sends to our queue what is fetched from partitions that have not been heard yet.
    pub(super) fn forward_silent(&mut self) {
        for held in self.partitions.iter().filter(|held| !held.heard) {
            if !self.queue.forward(&held.topic, held.partition) {
                tracing::warn!(topic = %held.topic, "kafka: librdkafka has no such partition");
            }
        }
    }

    /// Asks where the ends are, and takes the answer when it is there.
    pub(super) fn look(&mut self, now: Now) {
        if let Some(seen) = self.watch.answer() {
            self.take(seen, now);
        }
        let due = self
            .looked
            .is_none_or(|looked| now.mono.since(looked) >= LOOK_EVERY);
        if due && !self.watch.asked() {
            self.looked = Some(now.mono);
            let explain_tls = std::mem::take(&mut self.explain_tls);
            self.watch.ask(Question {
                names: self.partitions.names(),
                explain_tls,
            });
        }
    }

    fn take(&mut self, seen: Seen, now: Now) {
        if let Some(reason) = seen.tls {
            self.reporter.explain(reason);
        }
        match seen.ends {
            Err(error) => self.reporter.unanswered(&error),
            Ok(ends) => {
                self.reporter
                    .answered(now.mono, !self.partitions.is_empty());
                for held in self.partitions.iter_mut() {
                    match ends.get(&held.name()) {
                        Some(Ok(end)) => {
                            held.high = Some(*end);
                            held.trouble.clear();
                        }
                        Some(Err(error)) => held.trouble.clone_from(error),
                        // Assigned since the question.
                        None => {}
                    }
                }
            }
        }
        if let Some(ids) = seen.ids {
            self.compare_ids(&ids);
            let unreadable = ids
                .into_iter()
                .filter_map(|(topic, id)| Some((topic, id.err()?.to_string())))
                .collect();
            self.reporter.topics(unreadable);
        }
    }

    /// A topic with another id is another topic: its offsets mean nothing to us.
    fn compare_ids(&mut self, ids: &TopicIds) {
        for held in self.partitions.iter_mut() {
            let Some(Ok(now)) = ids.get(&*held.topic) else {
                continue;
            };
            match &held.topic_id {
                Some(then) if then != now => {
                    self.restart.insert((held.topic.clone(), held.partition));
                }
                Some(_) => {}
                None => held.topic_id = Some(now.clone()),
            }
        }
    }

    /// Counts and tells what is strange about a beginning.
    fn tell(&mut self, name: &Name, plan: &Plan, now: Now) {
        let stats = &self.shared.stats;
        add(&stats.skipped, plan.skipped);
        let (topic, partition) = name;
        let text = match &plan.surprise {
            None => return,
            Some(Surprise::Lost { records }) => {
                add(&stats.lost, *records);
                format!(
                    "{records} records of {topic} [{partition}] were deleted before they were read; going on at the first that is left"
                )
            }
            Some(Surprise::BeyondEnd { position, high }) => {
                add(&stats.recreated, 1);
                format!(
                    "{topic} [{partition}] ends at {high}, before our position {position}: it was cut off or made anew; what it holds only refills windows"
                )
            }
            Some(Surprise::Recreated) => {
                add(&stats.recreated, 1);
                format!(
                    "{topic} [{partition}] is another topic of the same name: it was deleted and made anew; what it holds only refills windows"
                )
            }
        };
        self.reporter.note(text, now.mono);
    }

    fn count_partitions(&self) {
        let count = u64::try_from(self.partitions.iter().count()).unwrap_or(u64::MAX);
        self.shared
            .stats
            .partitions
            .store(count, std::sync::atomic::Ordering::Relaxed);
    }
}
