//! How what the engine says looks on a terminal.

mod story;

use std::ffi::OsString;
use std::fmt::Write;

use rhizome_engine::event::Ready;
use rhizome_engine::status::{NodeStatus, RuleStatus, StoryLine};
use rhizome_engine::time::{format_duration, show_duration};

use crate::api::{StatusReport, WhyReport};

pub(super) use story::record;
use story::{decision, kind, refusal, told};

/// Decisions and refusals that `status` shows; `why` shows more.
const STORIES_SHOWN: usize = 5;

/// Whether colours and control sequences may be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Style {
    colours: bool,
}

impl Style {
    /// Colours on a terminal, unless `NO_COLOR` is set to anything.
    pub fn of(terminal: bool, no_color: Option<OsString>) -> Self {
        let wanted = no_color.is_none_or(|value| value.is_empty());
        Self {
            colours: terminal && wanted,
        }
    }

    fn wrap(self, code: &str, text: &str) -> String {
        if self.colours {
            format!("\u{1b}[{code}m{text}\u{1b}[0m")
        } else {
            text.to_owned()
        }
    }

    fn head(self, text: &str) -> String {
        self.wrap("1", text)
    }

    pub(super) fn good(self, text: &str) -> String {
        self.wrap("32", text)
    }

    pub(super) fn bad(self, text: &str) -> String {
        self.wrap("31", text)
    }

    /// Clears the screen, where there is one.
    pub(super) fn clear(self) -> &'static str {
        if self.colours {
            "\u{1b}[2J\u{1b}[H"
        } else {
            "\n"
        }
    }
}

/// The whole of `rhizome status`.
pub(super) fn status(report: &StatusReport, style: Style) -> String {
    let engine = &report.engine;
    let mut out = String::new();
    let dry = if report.dry_run { ", dry run" } else { "" };
    line(
        &mut out,
        &format!(
            "{} on rhizome {}{dry}, start {} at {}, seen at {}",
            style.head(&engine.cluster),
            report.version,
            engine.epoch,
            engine.started,
            engine.at
        ),
    );
    if !engine.journal_well {
        line(
            &mut out,
            &style.bad("the journal cannot be written: nothing is acted on"),
        );
    }
    if let Some(why) = &report.policies_refused {
        line(
            &mut out,
            &style.bad("the policies on disk are refused, and those from before go on:"),
        );
        line(&mut out, why.trim_end());
    }
    for brake in &engine.brakes {
        let text = format!(
            "brake {} since {}: {}",
            brake.brake, brake.since, brake.detail
        );
        line(&mut out, &style.bad(&text));
    }
    for one in &engine.pauses {
        let text = format!(
            "{} pauses {} since {}, left by {}: {}",
            one.source.words(),
            one.pause.scope(),
            one.since,
            plain(&one.pause.who),
            plain(&one.pause.why)
        );
        line(&mut out, &style.bad(&text));
    }
    out.push('\n');
    pools(&mut out, report, style);
    nodes(&mut out, report, style);
    sources(&mut out, report, style);
    operations(&mut out, report, style);
    unclaimed(&mut out, report, style);
    if engine.unknown_records > 0 {
        let names = engine.unknown_names.join(", ");
        line(
            &mut out,
            &format!(
                "{} records named nothing in the inventory, such as: {}",
                engine.unknown_records,
                plain(&names)
            ),
        );
        out.push('\n');
    }
    if !engine.decisions.is_empty() {
        line(&mut out, &style.head("last decisions"));
        for one in engine.decisions.iter().take(STORIES_SHOWN) {
            line(&mut out, &format!("  {}", decision(one)));
        }
    }
    if !engine.refusals.is_empty() {
        line(&mut out, &style.head("last refusals"));
        for one in engine.refusals.iter().take(STORIES_SHOWN) {
            line(&mut out, &format!("  {}", refusal(one)));
        }
    }
    out
}

fn pools(out: &mut String, report: &StatusReport, style: Style) {
    let mut rows = vec![
        ["POOL", "READY", "SIZE", "DESIRED", "BOUNDS", ""]
            .map(str::to_owned)
            .to_vec(),
    ];
    for pool in &report.engine.pools {
        let mut notes = Vec::new();
        if pool.paused {
            notes.push("paused".to_owned());
        }
        notes.extend(
            pool.maintenance
                .map(|end| format!("maintenance until {end}")),
        );
        rows.push(vec![
            pool.name.to_string(),
            pool.ready.to_string(),
            pool.size.to_string(),
            pool.desired
                .map_or_else(|| "-".to_owned(), |size| size.to_string()),
            format!("{}..{}", pool.min, pool.max),
            notes.join(", "),
        ]);
    }
    table(out, &rows, style);
}

fn nodes(out: &mut String, report: &StatusReport, style: Style) {
    let mut rows = vec![
        ["NODE", "POOL", "READY", "VM", "HEARD", ""]
            .map(str::to_owned)
            .to_vec(),
    ];
    for pool in &report.engine.pools {
        for node in &pool.nodes {
            rows.push(vec![
                node.name.to_string(),
                pool.name.to_string(),
                match node.ready {
                    Some(Ready::True) => style.good("yes"),
                    Some(Ready::False) => style.bad("no"),
                    Some(Ready::Unknown) => style.bad("unknown"),
                    None => "-".to_owned(),
                },
                node.vm_status.clone().unwrap_or_else(|| "-".to_owned()),
                node.heard.map_or_else(
                    || "never".to_owned(),
                    |heard| format!("{} ago", show_duration(report.engine.at.since(heard))),
                ),
                notes(node),
            ]);
        }
    }
    if rows.len() > 1 {
        table(out, &rows, style);
    }
}

fn notes(node: &NodeStatus) -> String {
    let notes = [
        (node.cordoned, "cordoned"),
        (node.protected, "protected"),
        (!node.owned && node.marked, "not adopted"),
        (!node.owned && !node.marked, "not ours"),
    ];
    let notes: Vec<_> = notes
        .iter()
        .filter(|(is, _)| *is)
        .map(|(_, note)| *note)
        .collect();
    notes.join(", ")
}

fn sources(out: &mut String, report: &StatusReport, style: Style) {
    let mut rows = vec![["SOURCE", "HEARD", "LAG", ""].map(str::to_owned).to_vec()];
    for source in &report.engine.sources {
        rows.push(vec![
            source.source.as_str().to_owned(),
            if source.flowing {
                style.good("yes")
            } else {
                style.bad("no")
            },
            show_duration(source.lag),
            plain(&source.trouble),
        ]);
    }
    if rows.len() > 1 {
        table(out, &rows, style);
    }
}

fn operations(out: &mut String, report: &StatusReport, style: Style) {
    let at = report.engine.at;
    let mut rows = vec![
        [
            "OPERATION",
            "WHAT",
            "POOL",
            "NODE",
            "STEP",
            "FOR",
            "WAITS FOR",
        ]
        .map(str::to_owned)
        .to_vec(),
    ];
    for operation in &report.engine.operations {
        rows.push(vec![
            operation.id.to_string(),
            kind(operation.kind),
            operation.pool.to_string(),
            operation
                .node
                .as_ref()
                .map_or_else(|| "-".to_owned(), ToString::to_string),
            operation.step.clone(),
            show_duration(at.since(operation.began)),
            plain(&operation.waits),
        ]);
    }
    if rows.len() > 1 {
        table(out, &rows, style);
    }
}

fn unclaimed(out: &mut String, report: &StatusReport, style: Style) {
    let mut rows = vec![["UNCLAIMED", "POOL", "VM", ""].map(str::to_owned).to_vec()];
    for one in &report.engine.unclaimed {
        let vm = one.vm.as_ref();
        rows.push(vec![
            one.node.to_string(),
            one.pool.to_string(),
            vm.map_or_else(|| "-".to_owned(), ToString::to_string),
            one.what.clone(),
        ]);
    }
    if rows.len() > 1 {
        table(out, &rows, style);
    }
}

/// The whole of `rhizome why`.
pub(super) fn why(name: &str, report: &WhyReport, style: Style) -> String {
    let mut out = String::new();
    match &report.now {
        Some(now) if now.rules.is_empty() => {
            line(&mut out, &format!("no rule looks at {}", style.head(name)));
        }
        Some(now) => {
            line(
                &mut out,
                &format!("the rules that look at {} now", style.head(name)),
            );
            for one in &now.rules {
                rule(&mut out, one, style);
            }
        }
        None => line(
            &mut out,
            &format!("{} is not there any more", style.head(name)),
        ),
    }
    out.push('\n');
    // The journal goes further back; without one (a test, a demo) the engine's memory is told.
    let remembered = report.now.iter().flat_map(|now| now.stories.iter().rev());
    let told: Vec<String> = if report.history.is_empty() {
        remembered
            .map(|story| match story {
                StoryLine::Decision(one) => decision(one),
                StoryLine::Refusal(one) => refusal(one),
            })
            .collect()
    } else {
        report.history.iter().map(told).collect()
    };
    if told.is_empty() {
        line(&mut out, "nothing was decided or refused about it");
    } else {
        line(&mut out, &style.head("what happened, oldest first"));
        for one in told {
            line(&mut out, &format!("  {one}"));
        }
    }
    out
}

fn rule(out: &mut String, rule: &RuleStatus, style: Style) {
    let verdict = match rule.verdict.as_str() {
        "true" => style.bad("holds"),
        "false" => style.good("does not hold"),
        _ => "cannot be told".to_owned(),
    };
    let hold = match (rule.held, rule.hold.is_zero()) {
        (Some(held), false) => format!(
            " for {} of {}",
            show_duration(held),
            format_duration(rule.hold)
        ),
        (Some(held), true) => format!(" for {}", show_duration(held)),
        (None, _) => String::new(),
    };
    line(out, &format!("  {}: {verdict}{hold}", rule.rule));
    for value in &rule.evidence.values {
        line(out, &format!("    {value}"));
    }
}

/// Text of agents and clouds without what could write on a terminal.
pub(super) fn plain(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

fn line(out: &mut String, text: &str) {
    out.push_str(text);
    out.push('\n');
}

/// Columns as wide as their widest cell; the first row is the head.
pub(super) fn table(out: &mut String, rows: &[Vec<String>], style: Style) {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns)
        .map(|column| {
            rows.iter()
                .filter_map(|row| row.get(column))
                .map(|cell| width(cell))
                .max()
                .unwrap_or(0)
        })
        .collect();
    for (number, row) in rows.iter().enumerate() {
        let mut text = String::new();
        for (cell, wide) in row.iter().zip(&widths) {
            let _ = write!(text, "{cell}{}  ", " ".repeat(wide - width(cell)));
        }
        let text = text.trim_end();
        line(
            out,
            &if number == 0 {
                style.head(text)
            } else {
                text.to_owned()
            },
        );
    }
    out.push('\n');
}

/// Characters that are seen: not those of a colour.
fn width(text: &str) -> usize {
    let mut seen = 0;
    let mut hidden = false;
    for c in text.chars() {
        match (hidden, c) {
            (false, '\u{1b}') => hidden = true,
            (true, 'm') => hidden = false,
            (true, _) => {}
            (false, _) => seen += 1,
        }
    }
    seen
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_for_terminals_whose_owner_wants_them() {
        assert!(Style::of(true, None).colours);
        assert!(Style::of(true, Some(OsString::new())).colours);
        assert!(!Style::of(true, Some("1".into())).colours);
        assert!(!Style::of(false, None).colours);
    }

    #[test]
    fn a_colour_takes_no_room_in_a_table() {
        let rows = |style: Style| {
            vec![
                vec!["A".to_owned(), "B".to_owned()],
                vec![style.bad("no"), "x".to_owned()],
            ]
        };
        let show = |style: Style| {
            let mut out = String::new();
            table(&mut out, &rows(style), style);
            out
        };
        let bare = Style { colours: false };
        assert_eq!(show(bare), "A   B\nno  x\n\n");
        let coloured = show(Style { colours: true });
        assert!(coloured.contains("\u{1b}[31mno\u{1b}[0m  x"), "{coloured}");
    }
}
