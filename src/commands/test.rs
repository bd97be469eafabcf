//! `rhizome test`: scenarios, played on virtual time against a model of a cloud and a cluster.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use clap::Args;
use rhizome_engine::time::format_duration;
use serde::Serialize;
use similar::{ChangeTag, TextDiff};

use super::check::{Output, count};
use super::{Out, Style};
use crate::engine_thread::STACK_BYTES;
use crate::exit::Exit;
use crate::scenario::{self, FileError, Outcome};

/// Lines that are shown around one that differs.
const CONTEXT: usize = 2;

/// Which scenarios, and how to tell.
#[derive(Debug, Args)]
pub struct TestArgs {
    /// Scenarios, or folders of them.
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Write what comes of each under its `expect`, in place of what stands there.
    #[arg(long)]
    update: bool,
    /// How to tell.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

/// What came of all.
#[derive(Debug, Serialize)]
struct Report {
    ok: bool,
    scenarios: Vec<Line>,
}

/// What came of one.
#[derive(Debug, Serialize)]
struct Line {
    file: PathBuf,
    ok: bool,
    /// Whether what came of it was written into the file.
    rewritten: bool,
    /// Why it could not be played, or written.
    error: Option<String>,
    /// The lines under `expect`.
    expected: Vec<String>,
    /// The lines that came of it.
    came: Vec<String>,
    #[serde(skip)]
    text: String,
}

pub(super) fn run(args: &TestArgs, out: &Out) -> Exit {
    let files = match scenario::files(&args.files) {
        Ok(files) => files,
        Err(error) => {
            out.complain(&error.to_string());
            return Exit::Failed;
        }
    };
    let mut report = Report {
        ok: true,
        scenarios: Vec::new(),
    };
    for file in files {
        let line = play(file, args.update, out.style);
        report.ok &= line.ok;
        // One at a time: the next may take a while.
        if args.output == Output::Text {
            out.say(&line.text);
        }
        report.scenarios.push(line);
    }
    match args.output {
        Output::Json => match serde_json::to_string_pretty(&report) {
            Ok(text) => out.say(&format!("{text}\n")),
            Err(error) => out.complain(&error.to_string()),
        },
        Output::Text => out.say(&summary(&report)),
    }
    if report.ok { Exit::Ok } else { Exit::Failed }
}

fn play(file: PathBuf, update: bool, style: Style) -> Line {
    let name = file.display();
    let mut line = Line {
        ok: true,
        rewritten: false,
        error: None,
        expected: Vec::new(),
        came: Vec::new(),
        text: String::new(),
        file: file.clone(),
    };
    match on_its_stack(&file) {
        Ok(outcome) => {
            if outcome.is_met() {
                let lines = count(outcome.came.len(), "line");
                let length = format_duration(outcome.length);
                line.text = format!("{name}: {}, {lines} over {length}\n", style.good("ok"));
            } else if !update {
                line.ok = false;
                let differs = difference(&outcome, style);
                line.text = format!("{name}: {}\n{differs}", style.bad("FAILED"));
            } else if let Err(error) = outcome.accept(&file) {
                line.error = Some(format!("`{name}` cannot be written: {error}\n"));
            } else {
                line.rewritten = true;
                line.text = format!("{name}: rewritten\n");
            }
            line.expected = outcome.expected;
            line.came = outcome.came;
        }
        Err(error) => line.error = Some(error.to_string()),
    }
    if let Some(error) = &mut line.error {
        line.ok = false;
        line.text = format!("{name}: {}\n{error}", style.bad("FAILED"));
        error.truncate(error.trim_end().len());
    }
    line
}

/// Plays it where scripts have the stack that they have in the engine.
fn on_its_stack(file: &Path) -> Result<Outcome, FileError> {
    let failed = |source| FileError::Read {
        path: file.to_owned(),
        source,
    };
    let thread = std::thread::Builder::new().stack_size(STACK_BYTES);
    std::thread::scope(|scope| {
        let played = thread.spawn_scoped(scope, || scenario::play_file(file));
        match played.map_err(failed)?.join() {
            Ok(outcome) => outcome,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

/// The lines that were expected and did not come, and those that came instead.
fn difference(outcome: &Outcome, style: Style) -> String {
    let expected: Vec<_> = outcome.expected.iter().map(String::as_str).collect();
    let came: Vec<_> = outcome.came.iter().map(String::as_str).collect();
    let diff = TextDiff::from_slices(&expected, &came);
    let mut text = String::new();
    for (place, group) in diff.grouped_ops(CONTEXT).iter().enumerate() {
        if place > 0 {
            text.push_str("    ...\n");
        }
        for change in group.iter().flat_map(|op| diff.iter_changes(op)) {
            let line = match change.tag() {
                ChangeTag::Equal => format!("    {}", change.value()),
                ChangeTag::Delete => style.bad(&format!("  - {}", change.value())),
                ChangeTag::Insert => style.good(&format!("  + {}", change.value())),
            };
            text.push_str(&line);
            text.push('\n');
        }
    }
    text
}

fn summary(report: &Report) -> String {
    let all = report.scenarios.len();
    let failed = report.scenarios.iter().filter(|line| !line.ok).count();
    let differ = |line: &Line| !line.ok && line.error.is_none();
    let mut text = match failed {
        0 => format!("{}: ok\n", count(all, "scenario")),
        failed => format!("{}: {failed} failed\n", count(all, "scenario")),
    };
    if report.scenarios.iter().any(differ) {
        let _ = writeln!(
            text,
            "`-` was expected, `+` came instead; with `--update` it is written into the file"
        );
    }
    text
}
