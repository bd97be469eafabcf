//! How well each source can be heard, and since when.
//!
//! A source says by its reports whether it is connected. Agents' records have to come by it as
//! well: a broker or a collector that answers and brings nothing is as good as none, for the
//! silence of everybody says nothing of anybody.

use std::time::Duration;

use super::{Brakes, Change};
use crate::decision::Reason;
use crate::event::{SourceName, SourceReport};
use crate::guard::{Refused, refuse};
use crate::journal::{Brake, State};
use crate::settings::Settings;
use crate::signals::Sight;
use crate::time::{Monotonic, Now, format_duration, show_duration};
use crate::window::MAX_INTERVAL;

/// Intervals of the agents without a record before their source cannot be heard.
///
/// Three: one lost record is ordinary, and a broker failover can lose two.
const MISSED_INTERVALS: u32 = 3;

/// The shortest interval of the agents is looked for over the last one to two of these.
const PACE_PERIOD: Duration = Duration::from_secs(300);

/// How well a source can be heard.
#[derive(Debug, Clone)]
pub(super) struct Hearing {
    report: SourceReport,
    at: Now,
    flowing_since: Option<Now>,
    /// Whether it could not be heard: its next flow is a return.
    lost: bool,
    returned: Option<Now>,
}

impl Hearing {
    /// Whether the source itself says that it can be heard.
    fn says_well(&self, settings: &Settings) -> bool {
        self.report.flowing && self.report.lag <= settings.limits.max_lag
    }

    fn is_stale(&self, now: Now, settings: &Settings) -> bool {
        now.mono.since(self.at.mono) > settings.limits.source_timeout
    }
}

/// What agents' records came by a source.
#[derive(Debug, Clone)]
pub(super) struct Delivery {
    last: Monotonic,
    /// The shortest interval since `period`, and in the period before.
    interval: [Option<Duration>; 2],
    period: Monotonic,
}

impl Delivery {
    fn new(now: Monotonic) -> Self {
        Self {
            last: now,
            interval: [None, None],
            period: now,
        }
    }

    fn note(&mut self, now: Monotonic, shortest: Option<Duration>) {
        self.last = now;
        if now.since(self.period) >= PACE_PERIOD {
            self.period = now;
            self.interval = [None, self.interval[0]];
        }
        let shortest = shortest.map(|interval| interval.min(MAX_INTERVAL));
        self.interval[0] = self.interval[0].into_iter().chain(shortest).min();
    }

    /// How long nothing may come.
    fn patience(&self, settings: &Settings) -> Duration {
        let shortest = self.interval.into_iter().flatten().min();
        let three = shortest.unwrap_or_default() * MISSED_INTERVALS;
        settings.limits.source_timeout.max(three)
    }
}

impl Brakes {
    /// Takes in how well a source can be heard.
    pub(crate) fn report(&mut self, now: Now, settings: &Settings, report: SourceReport) {
        let source = report.source;
        // Heard after a silence that nobody looked at meanwhile, as when the process stood still:
        // it was not heard all the same.
        self.judge(source, now, settings);
        match self.sources.get_mut(&source) {
            Some(hearing) => {
                hearing.report = report;
                hearing.at = now;
            }
            None => {
                let new = Hearing {
                    report,
                    at: now,
                    flowing_since: None,
                    lost: false,
                    returned: None,
                };
                self.sources.insert(source, new);
            }
        }
        self.judge(source, now, settings);
    }

    /// Takes in that agents' records have come just now, and the shortest interval at which
    /// they do.
    pub(crate) fn delivered(
        &mut self,
        now: Now,
        settings: &Settings,
        source: SourceName,
        shortest: Option<Duration>,
    ) {
        // The same: what comes after a gap begins the flow anew.
        self.judge(source, now, settings);
        self.deliveries
            .entry(source)
            .or_insert_with(|| Delivery::new(now.mono))
            .note(now.mono, shortest);
        self.judge(source, now, settings);
    }

    /// Looks whether a source flows now: it says so, it was asked lately, and agents' records
    /// come by it.
    fn judge(&mut self, source: SourceName, now: Now, settings: &Settings) {
        let waits = self.waits(source, now, settings);
        let delivers = self.delivers(source, now, settings);
        let Some(hearing) = self.sources.get_mut(&source) else {
            return;
        };
        let flows = hearing.says_well(settings) && !hearing.is_stale(now, settings) && delivers;
        if !flows {
            hearing.flowing_since = None;
            hearing.lost |= !waits;
        } else if hearing.flowing_since.is_none() {
            hearing.flowing_since = Some(now);
            if std::mem::take(&mut hearing.lost) {
                hearing.returned = Some(now);
            }
        }
    }

    /// Whether a source that says it is well has just not brought its first record yet: right
    /// after a start that is no blindness.
    fn waits(&self, source: SourceName, now: Now, settings: &Settings) -> bool {
        let well =
            |hearing: &Hearing| hearing.says_well(settings) && !hearing.is_stale(now, settings);
        settings.heartbeat_sources.contains(&source)
            && !self.deliveries.contains_key(&source)
            && now.mono.since(self.started.mono) <= settings.limits.source_timeout
            && self.sources.get(&source).is_some_and(well)
    }

    /// Whether agents' records came by the source lately, if that is what it is for.
    fn delivers(&self, source: SourceName, now: Now, settings: &Settings) -> bool {
        !settings.heartbeat_sources.contains(&source)
            || self.deliveries.get(&source).is_some_and(|delivery| {
                now.mono.since(delivery.last) <= delivery.patience(settings)
            })
    }

    /// How well each source is heard, as it is judged here.
    pub(crate) fn heard(&self, now: Now, settings: &Settings) -> Vec<SourceReport> {
        let judged = |hearing: &Hearing| SourceReport {
            flowing: hearing.flowing_since.is_some(),
            trouble: match hearing.flowing_since {
                Some(_) => hearing.report.trouble.clone(),
                None => self.trouble(hearing, now, settings),
            },
            ..hearing.report.clone()
        };
        self.sources.values().map(judged).collect()
    }

    /// Since when all the inputs that heartbeats come by have been flowing without a break.
    pub(crate) fn flowing_since(&self, settings: &Settings) -> Option<Now> {
        let mut latest = self.started;
        for source in &settings.heartbeat_sources {
            let since = self.sources.get(source)?.flowing_since?;
            if since.mono > latest.mono {
                latest = since;
            }
        }
        Some(latest)
    }

    /// Whether a source can be heard just now.
    pub(crate) fn hears(
        &self,
        source: SourceName,
        now: Now,
        settings: &Settings,
    ) -> Result<(), Refused> {
        let Some(hearing) = self.sources.get(&source) else {
            let name = source.as_str();
            return refuse(
                Reason::StartUp,
                format!("nothing was heard by {name} since the start"),
            );
        };
        if hearing.flowing_since.is_none() || hearing.is_stale(now, settings) {
            let reason = if self.waits(source, now, settings) {
                Reason::StartUp
            } else {
                Reason::Blind
            };
            return refuse(reason, self.trouble(hearing, now, settings));
        }
        Ok(())
    }

    /// Whether a source can be heard, and has been for long enough after it could not. The
    /// journal knows of a return in an earlier run, so that a restart does not shorten it.
    pub(in crate::guard) fn sees(
        &self,
        source: SourceName,
        now: Now,
        settings: &Settings,
        state: &State,
    ) -> Result<(), Refused> {
        self.hears(source, now, settings)?;
        let name = source.as_str();
        if let Some((_, why)) = state.brakes.get(&Brake::Blind(source)) {
            return refuse(Reason::Blind, why.clone());
        }
        let hold = settings.limits.sight_hold.max(self.widest);
        let here = self
            .sources
            .get(&source)
            .and_then(|hearing| hearing.returned);
        let returned = here
            .into_iter()
            .chain(state.returned.get(&source).copied())
            .max_by_key(|returned| returned.mono);
        if let Some(returned) = returned {
            let seen = now.mono.since(returned.mono);
            if seen < hold {
                return refuse(
                    Reason::SightReturning,
                    format!(
                        "{name} came back {} ago, {} must pass",
                        show_duration(seen),
                        format_duration(hold)
                    ),
                );
            }
        }
        Ok(())
    }

    /// I14: the windows have been filled again, or one whole window has passed since the start.
    ///
    /// What came by the collector cannot be read again: its windows are whole after a start if
    /// they were kept.
    pub(in crate::guard) fn windows_full(
        &self,
        now: Now,
        settings: &Settings,
    ) -> Result<(), Refused> {
        let up = now.mono.since(self.started.mono);
        let of_agents = |hearing: &&Hearing| {
            let source = hearing.report.source;
            settings.heartbeat_sources.contains(&source)
        };
        let is_full = |hearing: &Hearing| {
            let collected = hearing.report.source == SourceName::Collector;
            hearing.report.refilled || (collected && self.kept)
        };
        let refilled = self.sources.values().filter(of_agents).all(is_full);
        if refilled || up >= self.widest {
            return Ok(());
        }
        refuse(
            Reason::StartUp,
            format!(
                "started {} ago, the widest window of {} is not filled yet",
                show_duration(up),
                format_duration(self.widest)
            ),
        )
    }

    fn trouble(&self, hearing: &Hearing, now: Now, settings: &Settings) -> String {
        let report = &hearing.report;
        let name = report.source.as_str();
        if hearing.is_stale(now, settings) {
            let age = now.mono.since(hearing.at.mono);
            return format!("nothing was reported of {name} for {}", show_duration(age));
        }
        if !report.flowing {
            return format!("{name} cannot be heard: {}", report.trouble);
        }
        if report.lag > settings.limits.max_lag {
            return format!("{name} lags by {}", show_duration(report.lag));
        }
        match self.deliveries.get(&report.source) {
            Some(delivery) => format!(
                "no agent's record has come by {name} for {}",
                show_duration(now.mono.since(delivery.last))
            ),
            None => format!("no agent's record has come by {name} since the start"),
        }
    }

    pub(super) fn update_sources(
        &mut self,
        sight: Sight<'_>,
        state: &State,
        changes: &mut Vec<Change>,
    ) {
        let now = sight.now;
        let names: Vec<_> = self.sources.keys().copied().collect();
        for source in names {
            self.judge(source, now, sight.settings);
            let waits = self.waits(source, now, sight.settings);
            let Some(hearing) = self.sources.get(&source) else {
                continue;
            };
            let blind = hearing.flowing_since.is_none();
            let brake = Brake::Blind(source);
            // Until its first record it is as it was: no brake closes, and none opens.
            if waits || blind == state.brakes.contains_key(&brake) {
                continue;
            }
            let detail = if blind {
                self.trouble(hearing, now, sight.settings)
            } else {
                format!("{} is heard again", source.as_str())
            };
            changes.push(Change {
                brake,
                on: blind,
                detail,
            });
        }
    }
}
