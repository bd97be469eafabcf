//! What has to be seen, heard and covered before anything is added, taken away or healed.

use super::{Guard, Refused, refuse};
use crate::decision::{Evidence, Reason};
use crate::event::SourceName;
use crate::journal::Brake;
use crate::remediation::Blind;
use crate::settings::PoolSettings;
use crate::signals::Sight;

impl Guard<'_> {
    /// Both inventories have been read in this run (I14), so that what is there can be counted.
    pub(crate) fn inventory_read(&self, settings: &PoolSettings) -> Result<(), Refused> {
        let servers = self.sight.cluster.servers().asked().is_some();
        let nodes = self.sight.cluster.nodes().asked().is_some() || !settings.kubernetes;
        if servers && nodes {
            return Ok(());
        }
        let missing = if servers { "nodes" } else { "VMs" };
        refuse(
            Reason::StartUp,
            format!("the {missing} have not been listed since the start"),
        )
    }

    pub(super) fn inventories_whole(&self, sources: &[SourceName]) -> Result<(), Refused> {
        for source in sources {
            if let Some((_, why)) = self.state.brakes.get(&Brake::Inventory(*source)) {
                return refuse(Reason::PartialInventory, why.clone());
            }
        }
        Ok(())
    }

    /// Nothing is taken away unless everything that would tell us otherwise can be heard.
    pub(crate) fn sight_of(&self, settings: &PoolSettings) -> Result<(), Refused> {
        self.inventory_read(settings)?;
        self.inventories_whole(&[SourceName::Openstack, SourceName::Kubernetes])?;
        // I39: somebody may have said stop, where we cannot read it.
        for source in &self.sight.settings.pause_sources {
            if let Some((_, why)) = self.state.brakes.get(&Brake::Pause(*source)) {
                return refuse(Reason::Paused, why.clone());
            }
        }
        if let Some((_, why)) = self.state.brakes.get(&Brake::Clock) {
            return refuse(Reason::ClockStep, why.clone());
        }
        for source in self.depends_on(settings) {
            self.brakes
                .sees(source, self.sight.now, self.sight.settings, self.state)?;
        }
        self.brakes
            .windows_full(self.sight.now, self.sight.settings)
    }

    /// What cannot be seen of a pool's machines just now.
    pub(crate) fn blind(&self, settings: &PoolSettings) -> Blind {
        let unseen = |source| {
            let Sight { now, settings, .. } = self.sight;
            self.brakes.sees(source, now, settings, self.state).is_err()
        };
        let sources = &self.sight.settings.heartbeat_sources;
        Blind {
            cluster: unseen(SourceName::Openstack)
                || (settings.kubernetes && unseen(SourceName::Kubernetes)),
            agents: sources.iter().any(|source| unseen(*source)),
        }
    }

    /// I12: adding may come before everything has been seen for long enough, but not on a source
    /// that is silent now: VMs that cannot be counted, a cluster that nothing can join, pods and
    /// windows that may have changed since.
    pub(super) fn hears_what_it_needs(
        &self,
        settings: &PoolSettings,
        evidence: &Evidence,
    ) -> Result<(), Refused> {
        let windows = evidence.values.iter().any(|value| value.coverage.is_some());
        for source in self.depends_on(settings) {
            if windows || !self.sight.settings.heartbeat_sources.contains(&source) {
                self.brakes
                    .hears(source, self.sight.now, self.sight.settings)?;
            }
        }
        Ok(())
    }

    pub(super) fn depends_on(&self, settings: &PoolSettings) -> Vec<SourceName> {
        let mut sources = self.sight.settings.heartbeat_sources.clone();
        sources.push(SourceName::Openstack);
        if settings.kubernetes {
            sources.push(SourceName::Kubernetes);
        }
        sources
    }

    /// Thin data never takes a machine away.
    pub(super) fn covered(&self, evidence: &Evidence) -> Result<(), Refused> {
        let least = self.limits().min_coverage;
        for value in &evidence.values {
            // A window without a value never made a condition hold; what it covers says nothing.
            let thin = value.coverage.filter(|coverage| *coverage < least);
            if let (Some(coverage), Some(_)) = (thin, value.value) {
                return refuse(
                    Reason::ThinData,
                    format!(
                        "{} is covered to {:.0} %, {:.0} % are needed",
                        value.signal,
                        coverage * 100.0,
                        least * 100.0
                    ),
                );
            }
        }
        Ok(())
    }
}
