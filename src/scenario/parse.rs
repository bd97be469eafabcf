//! Reads a scenario's text. Every error says its line.

use std::collections::BTreeMap;
use std::time::Duration;

use rhizome_engine::event::{Requests, SourceName, Target, Wish};
use rhizome_engine::names::{NodeName, OperationIdError, PoolName};
use rhizome_engine::settings::PoolSettings;
use rhizome_engine::time::parse_duration;

use super::model::pods;
use super::series;

#[cfg(test)]
mod tests;

/// A scenario as written.
#[derive(Debug, Clone, Default)]
pub struct Scenario {
    /// Policy files, relative to the scenario's folder.
    pub policies: Vec<String>,
    /// The pools.
    pub pools: BTreeMap<PoolName, PoolSettings>,
    /// The nodes there are at the beginning, by pool.
    pub nodes: BTreeMap<PoolName, Vec<NodeName>>,
    /// The pods on them at the beginning: what each asks for.
    pub pods: BTreeMap<NodeName, Vec<Requests>>,
    /// How often each agent reports.
    pub every: Duration,
    /// The series.
    pub series: Vec<Series>,
    /// What happens when.
    pub events: Vec<(Duration, Happening)>,
    /// How long it goes on: until the last value or event and this much more.
    pub run_on: Duration,
    /// The lines that must follow.
    pub expected: Vec<String>,
}

/// The values of one metric, of one node or of every node of a pool.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// The metric.
    pub metric: String,
    /// Whose.
    pub of: Target,
    /// The values, one every [`Scenario::every`].
    pub values: Vec<Option<f64>>,
}

/// Something that happens.
#[derive(Debug, Clone, PartialEq)]
pub enum Happening {
    /// The machine dies: agent and kubelet fall silent. Nova still says ACTIVE.
    Die(NodeName),
    /// The machine dies for good: no reboot brings it back.
    Break(NodeName),
    /// Only the agent dies.
    AgentDies(NodeName),
    /// The machine comes back by itself.
    Back(NodeName),
    /// Someone stops the VM by hand.
    Stop(NodeName),
    /// An input goes away or comes back.
    Source(SourceName, bool),
    /// Pods that find no room, from now on.
    Unschedulable(u32),
    /// An alert begins or ceases to fire.
    Alert {
        /// Its name.
        name: String,
        /// Its labels.
        labels: BTreeMap<String, String>,
        /// Whether it fires.
        firing: bool,
    },
    /// An operator's wish.
    Wish(Wish),
    /// What becomes of machines that are made from now on.
    Builds(Builds),
    /// A list of VMs comes back with none in it, until it is said otherwise.
    EmptyList(bool),
    /// Someone deletes the VM by hand; its Node stays.
    Delete(NodeName),
    /// The cloud no longer shows a VM that lives, or shows it again.
    Hide(NodeName, bool),
    /// A VM of an earlier operation that no record claims, off and with no node.
    Leftover(PoolName, NodeName),
    /// Lists of VMs say themselves that they are not whole, until it is said otherwise.
    PartialList(bool),
    /// The program is killed, and started again with an empty journal.
    LoseJournal,
    /// The program is killed and started again.
    Restart,
    /// The same, with a pool taken out of the configuration.
    RestartWithout(PoolName),
}

/// What becomes of a machine that is made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Builds {
    /// It runs.
    #[default]
    Well,
    /// It ends in ERROR: no valid host was found.
    Fail,
    /// It stays in BUILD.
    Hang,
    /// It is ACTIVE, has no address and is never heard.
    WithoutAddress,
}

/// What is wrong with a scenario, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {message}")]
pub struct ParseError {
    /// From 1.
    pub line: usize,
    /// Where the line's text begins, from 1.
    pub column: usize,
    /// What.
    pub message: String,
}

#[derive(Clone, Copy, PartialEq)]
enum Section {
    Head,
    Series,
    Events,
    Expect,
}

/// Reads the text of a scenario.
///
/// # Errors
///
/// Returns the first line that cannot be read, and why.
pub fn parse(text: &str) -> Result<Scenario, ParseError> {
    let mut scenario = Scenario {
        every: Duration::from_secs(10),
        run_on: Duration::from_secs(600),
        ..Scenario::default()
    };
    let mut section = Section::Head;
    for (number, raw) in text.lines().enumerate() {
        let line = raw.trim_end();
        let bare = line.trim_start();
        if bare.is_empty() || bare.starts_with('#') {
            continue;
        }
        let indented = bare.len() < line.len();
        let read = if indented {
            match section {
                Section::Head => {
                    Err("an indented line belongs under `series`, `events` or `expect`".to_owned())
                }
                Section::Series => read_series(bare).map(|series| scenario.series.push(series)),
                Section::Events => read_event(bare).map(|event| scenario.events.push(event)),
                Section::Expect => {
                    scenario.expected.push(bare.to_owned());
                    Ok(())
                }
            }
        } else {
            let next = match section {
                // So that what stands under it can be written anew without a loss.
                Section::Expect => Err("`expect` is the last: nothing follows it".to_owned()),
                _ => read_head(bare, &mut scenario),
            };
            next.map(|next| section = next)
        };
        read.map_err(|message| ParseError {
            line: number + 1,
            column: line.chars().count() - bare.chars().count() + 1,
            message,
        })?;
    }
    scenario.events.sort_by_key(|(at, _)| *at);
    Ok(scenario)
}

fn read_head(line: &str, scenario: &mut Scenario) -> Result<Section, String> {
    let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    let rest = rest.trim();
    match word {
        "policy" if !rest.is_empty() => scenario.policies.push(rest.to_owned()),
        "pool" => {
            let (name, settings) = read_pool(rest)?;
            scenario.pools.insert(name, settings);
        }
        "nodes" => {
            let (pool, names) = rest
                .split_once(':')
                .ok_or("write `nodes POOL: NAME NAME ...`")?;
            let names = names.split_whitespace().map(NodeName::new);
            scenario
                .nodes
                .entry(PoolName::new(pool.trim()))
                .or_default()
                .extend(names);
        }
        "pods" => {
            let (node, asked) = rest
                .split_once(':')
                .ok_or("write `pods NODE: 3x500m/1Gi ...`")?;
            let on = scenario.pods.entry(NodeName::new(node.trim()));
            on.or_default().extend(pods::read(asked)?);
        }
        "run_on" => scenario.run_on = duration(rest)?,
        "series" if rest.is_empty() => return Ok(Section::Series),
        "series" => {
            let every = rest.strip_prefix("every ");
            scenario.every = duration(every.ok_or("write `series every 10s`")?)?;
            return Ok(Section::Series);
        }
        "events" if rest.is_empty() => return Ok(Section::Events),
        "expect" if rest.is_empty() => return Ok(Section::Expect),
        "events" | "expect" => {
            return Err(format!(
                "`{word}` stands alone: what belongs to it follows, indented"
            ));
        }
        _ => {
            return Err(format!(
                "`{word}` is none of policy, pool, nodes, pods, run_on, series, events, expect"
            ));
        }
    }
    Ok(Section::Head)
}

fn read_pool(text: &str) -> Result<(PoolName, PoolSettings), String> {
    let mut words = text.split_whitespace();
    let name = words.next().ok_or("write `pool NAME min=1 max=5`")?;
    let mut pool = PoolSettings::default();
    for word in words {
        let (key, value) = word
            .split_once('=')
            .ok_or_else(|| format!("`{word}`: write `key=value`"))?;
        let number = || {
            value
                .parse::<u32>()
                .map_err(|_| format!("`{value}` is no number"))
        };
        match key {
            "min" => pool.min = number()?,
            "max" => pool.max = number()?,
            "surge" => pool.surge = number()?,
            "kubernetes" => {
                pool.kubernetes = value
                    .parse()
                    .map_err(|_| "write true or false".to_owned())?;
            }
            "stabilization" => pool.stabilization = duration(value)?,
            "build_timeout" => pool.build_timeout = duration(value)?,
            "join_timeout" => pool.join_timeout = duration(value)?,
            "drain_timeout" => pool.drain_timeout = duration(value)?,
            "rung_timeout" => pool.rung_timeout = duration(value)?,
            _ => return Err(format!("a pool has no `{key}` here")),
        }
    }
    Ok((PoolName::new(name), pool))
}

fn read_series(line: &str) -> Result<Series, String> {
    let (head, values) = line
        .rsplit_once(':')
        .ok_or("write `metric{node=\"w1\"}: 0.2x30`")?;
    let (metric, labels) = series::labelled(head)?;
    let of = match (labels.get("node"), labels.get("pool")) {
        (Some(node), None) => Target::Node(NodeName::new(node)),
        (None, Some(pool)) => Target::Pool(PoolName::new(pool)),
        _ => return Err("a series is of one `node` or of one `pool`".to_owned()),
    };
    Ok(Series {
        metric,
        of,
        values: series::values(values)?,
    })
}

fn read_event(line: &str) -> Result<(Duration, Happening), String> {
    let (at, what) = line
        .split_once(char::is_whitespace)
        .ok_or("write a time and what happens")?;
    Ok((duration(at)?, read_happening(what.trim())?))
}

fn read_happening(text: &str) -> Result<Happening, String> {
    let words: Vec<_> = text.split_whitespace().collect();
    let node = |name: &&str| NodeName::new(*name);
    let on = |word: &&str| match *word {
        "up" | "on" => Ok(true),
        "down" | "off" => Ok(false),
        other => Err(format!("`{other}`: write up, down, on or off")),
    };
    let builds = |so, switch| {
        let so = if on(switch)? { so } else { Builds::Well };
        Ok(Happening::Builds(so))
    };
    match words.as_slice() {
        ["die", name] => Ok(Happening::Die(node(name))),
        ["break", name] => Ok(Happening::Break(node(name))),
        ["agent-dies", name] => Ok(Happening::AgentDies(node(name))),
        ["back", name] => Ok(Happening::Back(node(name))),
        ["stop", name] => Ok(Happening::Stop(node(name))),
        ["delete", name] => Ok(Happening::Delete(node(name))),
        ["hide", name] => Ok(Happening::Hide(node(name), true)),
        ["show", name] => Ok(Happening::Hide(node(name), false)),
        ["leftover", pool, name] => Ok(Happening::Leftover(PoolName::new(*pool), node(name))),
        ["partial-list", switch] => Ok(Happening::PartialList(on(switch)?)),
        ["lose-journal"] => Ok(Happening::LoseJournal),
        ["restart"] => Ok(Happening::Restart),
        ["restart", "without", pool] => Ok(Happening::RestartWithout(PoolName::new(*pool))),
        ["builds-fail", switch] => builds(Builds::Fail, switch),
        ["builds-hang", switch] => builds(Builds::Hang, switch),
        ["builds-without-address", switch] => builds(Builds::WithoutAddress, switch),
        ["empty-list", switch] => Ok(Happening::EmptyList(on(switch)?)),
        ["unschedulable", count] => Ok(Happening::Unschedulable(
            count
                .parse()
                .map_err(|_| format!("`{count}` is no number"))?,
        )),
        ["alert", rest @ .., state @ ("firing" | "resolved")] => {
            let (name, labels) = series::labelled(&rest.join(" "))?;
            Ok(Happening::Alert {
                name,
                labels,
                firing: *state == "firing",
            })
        }
        [
            source @ ("kafka" | "collector" | "openstack" | "kubernetes"),
            state,
        ] => {
            let name = match *source {
                "kafka" => SourceName::Kafka,
                "collector" => SourceName::Collector,
                "openstack" => SourceName::Openstack,
                _ => SourceName::Kubernetes,
            };
            Ok(Happening::Source(name, on(state)?))
        }
        _ => read_wish(&words).map(Happening::Wish),
    }
}

fn read_wish(words: &[&str]) -> Result<Wish, String> {
    let pool = |name: &str| (name != "all").then(|| PoolName::new(name));
    match words {
        ["pause", name] => Ok(Wish::Pause { pool: pool(name) }),
        ["resume", name] => Ok(Wish::Resume { pool: pool(name) }),
        ["scale", name, size] => Ok(Wish::Scale {
            pool: PoolName::new(name),
            size: size.parse().map_err(|_| format!("`{size}` is no number"))?,
        }),
        ["replace", name] => Ok(Wish::Replace {
            node: NodeName::new(name),
        }),
        ["protect", name] => Ok(Wish::Protect {
            node: NodeName::new(name),
            on: true,
        }),
        ["unprotect", name] => Ok(Wish::Protect {
            node: NodeName::new(name),
            on: false,
        }),
        ["cancel", operation] => Ok(Wish::Cancel {
            operation: operation
                .parse()
                .map_err(|error: OperationIdError| error.to_string())?,
        }),
        ["adopt", "node", name] => Ok(Wish::Adopt {
            target: Target::Node(NodeName::new(name)),
        }),
        ["adopt", "pool", name] => Ok(Wish::Adopt {
            target: Target::Pool(PoolName::new(name)),
        }),
        ["maintenance", "node", name, length] => Ok(Wish::Maintenance {
            target: Target::Node(NodeName::new(name)),
            length: duration(length)?,
        }),
        ["maintenance", "pool", name, length] => Ok(Wish::Maintenance {
            target: Target::Pool(PoolName::new(name)),
            length: duration(length)?,
        }),
        _ => Err(format!(
            "`{}` cannot happen here: see tests/scenarios/README.md for what can",
            words.join(" ")
        )),
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    parse_duration(text).map_err(|error| error.to_string())
}
