//! `rhizome check`: policies, before they run.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use rhizome_engine::names::PoolName;
use rhizome_engine::policy::{RuleKind, SourceFile};
use serde::Serialize;

use super::Out;
use crate::config;
use crate::exit::Exit;
use crate::policies::{self, LoadError};

/// Which policies, and how to tell.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// Policy files, or folders of them.
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// A configuration: its pools are those that rules may name.
    #[arg(long)]
    config: Option<PathBuf>,
    /// How to tell.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

/// How to tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Output {
    /// Lines for a person.
    Text,
    /// JSON for a program.
    Json,
}

/// What `check` found.
#[derive(Debug, Serialize)]
struct Report {
    ok: bool,
    rules: Vec<RuleLine>,
    findings: Vec<Line>,
}

#[derive(Debug, Serialize)]
struct RuleLine {
    rule: String,
    native: bool,
}

#[derive(Debug, Serialize)]
struct Line {
    level: &'static str,
    file: String,
    line: usize,
    column: usize,
    message: String,
    #[serde(skip)]
    rendered: String,
}

pub(super) fn run(args: &CheckArgs, out: &Out) -> Exit {
    let pools = match args.config.as_deref().map(config::load).transpose() {
        Ok(loaded) => loaded.map(|loaded| {
            let names = loaded.config.pools.keys();
            names.map(PoolName::new).collect::<Vec<_>>()
        }),
        Err(error) => {
            out.complain(&error.to_string());
            return Exit::Config;
        }
    };
    let files = match read(&args.files) {
        Ok(files) => files,
        Err(error) => {
            out.complain(&error.to_string());
            return Exit::Failed;
        }
    };
    let report = match examine(&files, pools.as_deref()) {
        Ok(report) => report,
        Err(error) => {
            out.complain(&error.to_string());
            return Exit::Failed;
        }
    };
    match args.output {
        Output::Json => match serde_json::to_string_pretty(&report) {
            Ok(text) => out.say(&format!("{text}\n")),
            Err(error) => out.complain(&error.to_string()),
        },
        Output::Text => out.say(&text(&files, &report)),
    }
    if report.ok { Exit::Ok } else { Exit::Failed }
}

fn read(paths: &[PathBuf]) -> Result<Vec<SourceFile>, LoadError> {
    let mut files = Vec::new();
    for path in paths {
        if path.is_dir() {
            files.extend(policies::read_folder(path)?);
        } else {
            files.push(policies::read_file(path)?);
        }
    }
    Ok(files)
}

fn examine(files: &[SourceFile], pools: Option<&[PoolName]>) -> Result<Report, LoadError> {
    let text_of = |name: &str| {
        let file = files.iter().find(|file| file.name == name);
        file.map_or("", |file| file.text.as_str())
    };
    let set = match policies::check(files) {
        Ok(set) => set,
        Err(LoadError::Bad { errors, .. }) => {
            let findings = errors.iter().map(|error| Line {
                level: "error",
                file: error.file.clone(),
                line: error.line,
                column: error.column,
                message: error.message.clone(),
                rendered: error.render(text_of(&error.file)),
            });
            return Ok(Report {
                ok: false,
                rules: Vec::new(),
                findings: findings.collect(),
            });
        }
        Err(error) => return Err(error),
    };
    let rules = set.rules().iter().map(|rule| RuleLine {
        rule: format!("{} {}", rule.id, kind(&rule.kind)),
        native: rule.native,
    });
    let findings: Vec<_> = set
        .check(pools)
        .into_iter()
        .map(|finding| Line {
            level: "warning",
            rendered: finding.render(text_of(&finding.file)),
            file: finding.file,
            line: finding.line,
            column: finding.column,
            message: finding.message,
        })
        .collect();
    Ok(Report {
        ok: findings.is_empty(),
        rules: rules.collect(),
        findings,
    })
}

fn kind(kind: &RuleKind) -> String {
    match kind {
        RuleKind::ScaleUp(pool) => format!("scale_up({pool})"),
        RuleKind::ScaleDown(pool) => format!("scale_down({pool})"),
        RuleKind::Heal { pool, .. } => format!("heal({pool})"),
        RuleKind::OnAlert(name) => format!("on_alert({name})"),
    }
}

fn text(files: &[SourceFile], report: &Report) -> String {
    let mut text = String::new();
    for finding in &report.findings {
        text.push_str(finding.rendered.trim_end());
        text.push_str("\n\n");
    }
    for rule in &report.rules {
        let how = if rule.native {
            "native"
        } else {
            "by script, each time"
        };
        text.push_str(&format!("{}: {how}\n", rule.rule));
    }
    text.push_str(&format!(
        "{}, {}: {}\n",
        count(files.len(), "file"),
        count(report.rules.len(), "rule"),
        match report.findings.len() {
            0 => "ok".to_owned(),
            found => count(found, "finding"),
        }
    ));
    text
}

/// So many of something, in words.
pub(super) fn count(count: usize, word: &str) -> String {
    let s = if count == 1 { "" } else { "s" };
    format!("{count} {word}{s}")
}
