//! Pods of a scenario: what they ask for, where they have room, and how the cluster tells them.

use std::collections::BTreeMap;

use rhizome_engine::action::{Done, taint};
use rhizome_engine::event::{NodePods, Observation, PodShape, PodView, Ready, Requests, Taint};
use rhizome_engine::names::NodeName;
use rhizome_engine::time::Timestamp;

use super::{Machine, Model};

/// What every machine has to give.
pub(super) const ALLOCATABLE: Requests = Requests {
    cpu_millis: 4_000,
    memory_bytes: 8 << 30,
    pods: 110,
};

impl Model {
    /// What the cluster tells of all pods.
    pub(super) fn pods(&self, now: Timestamp) -> Observation {
        let unspecified = std::iter::repeat_n(Requests::default(), self.unschedulable as usize);
        let waiting = unspecified.chain(self.waiting.iter().copied());
        let unschedulable = waiting.enumerate().map(|(number, requests)| PodView {
            name: format!("default/waiting-{number}"),
            since: now,
            requests,
            node_selector: BTreeMap::new(),
        });
        let joined = self
            .machines
            .iter()
            .filter(|machine| machine.node.is_some());
        on_nodes(unschedulable.collect(), joined)
    }

    /// Moves the pods of a node to the first others with room; those that find none wait.
    pub(super) fn drain(&mut self, name: &NodeName) -> Done {
        let leaving = self
            .machine_mut(name)
            .map(|one| std::mem::take(&mut one.pods));
        let leaving = leaving.unwrap_or_default();
        let evicted = u32::try_from(leaving.len()).unwrap_or(u32::MAX);
        self.waiting.extend(leaving);
        self.schedule();
        Done::Drained { evicted }
    }

    /// Pods that wait go where there is room.
    pub(super) fn schedule(&mut self) {
        for asked in std::mem::take(&mut self.waiting) {
            let serves = |machine: &&mut Machine| {
                let node = machine.node.as_ref();
                node.is_some_and(|node| node.ready == Ready::True && !node.cordoned)
                    && has_room(&machine.pods, asked)
            };
            match self.machines.iter_mut().find(serves) {
                Some(machine) => machine.pods.push(asked),
                None => self.waiting.push(asked),
            }
        }
    }

    /// These pods run on the machine.
    pub(in super::super) fn run(&mut self, name: &NodeName, asked: &[Requests]) {
        if let Some(machine) = self.machine_mut(name) {
            machine.pods.extend(asked);
        }
    }
}

/// Reads what pods ask for: `3x500m/1Gi 2` is three of half a core and 1 GiB, and one of two cores.
pub(in super::super) fn read(text: &str) -> Result<Vec<Requests>, String> {
    let mut pods = Vec::new();
    for word in text.split_whitespace() {
        let bad = || format!("`{word}` is no pod: write `500m`, `2/4Gi` or `3x500m/512Mi`");
        let (times, asked) = word.split_once('x').unwrap_or(("1", word));
        let times: u32 = times.parse().map_err(|_| bad())?;
        if times > ALLOCATABLE.pods {
            return Err(format!("a machine takes {} pods", ALLOCATABLE.pods));
        }
        let (cpu, memory) = asked.split_once('/').unwrap_or((asked, "0Mi"));
        let one = Requests {
            cpu_millis: millis(cpu).ok_or_else(bad)?,
            memory_bytes: bytes(memory).ok_or_else(bad)?,
            pods: 1,
        };
        pods.extend(std::iter::repeat_n(one, times as usize));
    }
    if pods.is_empty() {
        return Err("write what each pod asks for, such as `3x500m/1Gi`".to_owned());
    }
    Ok(pods)
}

/// `500m` or whole cores.
fn millis(text: &str) -> Option<u64> {
    match text.strip_suffix('m') {
        Some(millis) => millis.parse().ok(),
        None => text.parse::<u64>().ok()?.checked_mul(1_000),
    }
}

/// `512Mi` or `4Gi`.
fn bytes(text: &str) -> Option<u64> {
    let (number, unit) = match text.strip_suffix("Gi") {
        Some(number) => (number, 1 << 30),
        None => (text.strip_suffix("Mi")?, 1 << 20),
    };
    number.parse::<u64>().ok()?.checked_mul(unit)
}

/// The taints of a node.
pub(super) fn taints(out_of_service: bool) -> Vec<Taint> {
    let taint = Taint {
        key: taint::OUT_OF_SERVICE.to_owned(),
        value: taint::VALUE.to_owned(),
        effect: taint::EFFECT.to_owned(),
    };
    out_of_service.then_some(taint).into_iter().collect()
}

/// Whether a machine with these pods has room for one more.
pub(super) fn has_room(pods: &[Requests], asked: Requests) -> bool {
    let all = sum(pods.iter().chain([&asked]));
    all.cpu_millis <= ALLOCATABLE.cpu_millis
        && all.memory_bytes <= ALLOCATABLE.memory_bytes
        && all.pods <= ALLOCATABLE.pods
}

/// The pods on all nodes, as the cluster tells them.
fn on_nodes<'a>(
    unschedulable: Vec<PodView>,
    machines: impl Iterator<Item = &'a Machine>,
) -> Observation {
    let mut nodes: BTreeMap<NodeName, NodePods> = BTreeMap::new();
    let mut alike: BTreeMap<Requests, BTreeMap<&NodeName, u32>> = BTreeMap::new();
    for Machine { name, pods, .. } in machines {
        let on = nodes.entry(name.clone()).or_default();
        on.requests = sum(pods.iter());
        for asked in pods {
            *alike.entry(*asked).or_default().entry(name).or_default() += 1;
        }
    }
    let mut shapes = Vec::new();
    for ((requests, counts), place) in alike.into_iter().zip(0..) {
        shapes.push(PodShape {
            requests,
            node_selector: BTreeMap::new(),
            tolerations: Vec::new(),
        });
        for (name, count) in counts {
            let on = nodes.entry(name.clone()).or_default();
            on.movable.push((place, count));
        }
    }
    Observation::Pods {
        unschedulable,
        shapes,
        nodes,
    }
}

fn sum<'a>(pods: impl Iterator<Item = &'a Requests>) -> Requests {
    pods.fold(Requests::default(), |sum, one| Requests {
        cpu_millis: sum.cpu_millis.saturating_add(one.cpu_millis),
        memory_bytes: sum.memory_bytes.saturating_add(one.memory_bytes),
        pods: sum.pods.saturating_add(one.pods),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_are_read_as_they_are_written() {
        let pods = read("2x500m/512Mi 3/4Gi 1").unwrap();
        let asked: Vec<_> = pods
            .iter()
            .map(|pod| (pod.cpu_millis, pod.memory_bytes >> 20))
            .collect();
        assert_eq!(asked, [(500, 512), (500, 512), (3_000, 4_096), (1_000, 0)]);
        for bad in [
            "", "x500m", "2x", "half", "500m/", "500m/1", "1/1Ti", "-1", "111x1m",
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
