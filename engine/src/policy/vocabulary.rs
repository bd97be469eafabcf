//! The words that policies are written with, and what is said about a word that is not one.

use std::collections::BTreeSet;

use crate::window::Stat;

/// Statistics of a window, as conditions and bodies write them.
pub(super) const STATS: [(&str, Stat); 11] = [
    ("mean", Stat::Mean),
    ("max", Stat::Max),
    ("min", Stat::Min),
    ("p95", Stat::P95),
    ("stddev", Stat::StdDev),
    ("ewma", Stat::Ewma),
    ("slope", Stat::Slope),
    ("rate", Stat::Rate),
    ("count", Stat::Count),
    ("last", Stat::Last),
    ("coverage", Stat::Coverage),
];

/// How the functions of the host are written. The statistics are added by [`usage`].
const USAGE: &[(&str, &str)] = &[
    ("scale_up", "scale_up(\"workers\")"),
    ("scale_down", "scale_down(\"workers\")"),
    (
        "heal",
        "heal(\"workers\"), and of a node in a body node.heal(\"why\")",
    ),
    ("on_alert", "on_alert(\"NodeDiskFailing\")"),
    ("watch", "watch(\"cpu\", \"5m\")"),
    ("when", ".when(mean(\"cpu\", \"5m\") > 0.75)"),
    ("for_at_least", ".for_at_least(\"1m\")"),
    ("cooldown", ".cooldown(\"3m\")"),
    ("ladder", ".ladder([\"reboot\", \"rebuild\", \"replace\"])"),
    ("then", ".then(|pool| ...)"),
    ("covered", "covered(\"cpu\", \"5m\")"),
    ("silent", "silent(\"60s\")"),
    ("not_ready", "not_ready(\"60s\")"),
    ("vm_status", "vm_status(\"ERROR\")"),
    ("unschedulable_pods", "unschedulable_pods()"),
    ("fits_on_fewer", "fits_on_fewer()"),
    ("size", "size(), and in a body pool.size"),
    ("ready_nodes", "ready_nodes(), and in a body pool.ready"),
    ("target", "pool.target(\"cpu\", \"5m\", 0.60)"),
    ("resize_to", "pool.resize_to(5, \"why\")"),
    ("add", "pool.add(1, \"why\")"),
    ("remove", "pool.remove(1, \"why\")"),
    ("reboot", "node.reboot(\"why\")"),
    ("rebuild", "node.rebuild(\"why\")"),
    ("replace", "node.replace(\"why\")"),
    ("label", "alert.label(\"node\")"),
    ("node", "node(alert.label(\"node\"))"),
];

/// Rhai's keywords that are called like functions.
const KEYWORDS: &[&str] = &[
    "print",
    "debug",
    "type_of",
    "Fn",
    "call",
    "curry",
    "is_shared",
    "is_def_var",
    "is_def_fn",
    "and",
    "or",
    "if",
    "while",
    "for",
    "in",
    "switch",
    "return",
    "throw",
    "catch",
    "until",
];

/// How a function of the host is written, if `name` is one.
pub(super) fn usage(name: &str) -> Option<String> {
    if let Some((_, written)) = USAGE.iter().find(|(known, _)| *known == name) {
        return Some((*written).to_owned());
    }
    let stat = STATS.iter().find(|(known, _)| *known == name);
    stat.map(|(name, _)| {
        format!("{name}(\"cpu\", \"5m\"), and in a body pool.{name}(\"cpu\", \"5m\")")
    })
}

/// Whether `name` can be called without being a registered function.
pub(super) fn is_keyword(name: &str) -> bool {
    KEYWORDS.contains(&name)
}

/// The word among `known` that was probably meant.
pub(super) fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    /// How alike two words must be, 0..=1. Two letters changed over in six are 0.94.
    const ALIKE: f64 = 0.80;
    let scored = known.map(|word| (strsim::jaro_winkler(name, word), word));
    scored
        .filter(|(score, _)| *score >= ALIKE)
        .max_by(|a, b| a.0.total_cmp(&b.0).then(b.1.cmp(a.1)))
        .map(|(_, word)| word)
}

/// Every function of the host.
pub(super) fn functions() -> BTreeSet<&'static str> {
    let stats = STATS.iter().map(|(name, _)| *name);
    USAGE.iter().map(|(name, _)| *name).chain(stats).collect()
}

/// What is said of a function that is called and does not exist.
pub(super) fn unknown(name: &str, also: &BTreeSet<String>) -> String {
    let known = functions();
    let meant = nearest(name, known.iter().copied())
        .or_else(|| nearest(name, also.iter().map(String::as_str)));
    match meant {
        Some(meant) => format!("no function `{name}`: did you mean `{meant}`?"),
        None => format!("no function `{name}`: `policies/README.md` lists those there are"),
    }
}

/// What is said of Rhai's `mean (string, i64)`: a call that fits no function.
pub(super) fn no_function(signature: &str) -> String {
    let (name, arguments) = match signature.split_once(" (") {
        Some((name, rest)) => (name, rest.trim_end_matches(')')),
        None => (signature, ""),
    };
    match usage(name) {
        Some(written) => {
            format!("`{name}` does not take ({arguments}): write {written}")
        }
        None if name.chars().all(|c| c.is_alphanumeric() || c == '_') => {
            format!("no function `{name}` that takes ({arguments})")
        }
        None => format!("`{name}` cannot be used between ({arguments})"),
    }
}
