//! A scenario's file and the policies that it names: read, played, and its `expect` rewritten.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rhizome_engine::policy::SourceFile;
use rhizome_engine::snippet::excerpt;

use super::{ParseError, PlayError, Rehearsal, Scenario, parse};
use crate::policies::{self, LoadError};

/// What the name of a scenario's file ends in.
const EXTENSION: &str = "scenario";

/// The largest scenario that is read, in bytes: days of samples, written one by one.
const MAX_FILE_BYTES: u64 = 4 << 20;

/// A scenario that was played.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The lines under `expect`.
    pub expected: Vec<String>,
    /// The lines that came of it.
    pub came: Vec<String>,
    /// How much time passed in it.
    pub length: Duration,
    text: String,
}

/// Why a scenario's file cannot be played. Its text says what, and where.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// A file or folder cannot be read.
    #[error("`{path}` cannot be read: {source}\n")]
    Read {
        /// The path.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A folder has none.
    #[error(
        "there is no scenario in `{0}`: name a file, or a folder with files whose names end in `.{EXTENSION}`\n"
    )]
    None(PathBuf),
    /// It is larger than anybody writes.
    #[error("`{path}` has {size} bytes, and at most {MAX_FILE_BYTES} are read\n")]
    TooLarge {
        /// The path.
        path: PathBuf,
        /// Its size.
        size: u64,
    },
    /// A line of it says nothing.
    #[error("{rendered}")]
    Parse {
        /// Where, and what.
        error: ParseError,
        /// The same with the line and a caret.
        rendered: String,
    },
    /// Its policies cannot be read or do not load.
    #[error("{0}")]
    Policies(#[from] LoadError),
    /// It contradicts itself.
    #[error("{path}: {error}\n")]
    Play {
        /// The path.
        path: PathBuf,
        /// Why.
        error: PlayError,
    },
}

/// The scenarios that `paths` name: files as they are, and of folders each file whose name ends in
/// `.scenario`, in the order of the names. Folders in folders are not looked into.
///
/// # Errors
///
/// Returns a folder that cannot be read, or that has none.
pub fn files(paths: &[PathBuf]) -> Result<Vec<PathBuf>, FileError> {
    let mut all = Vec::new();
    for path in paths {
        if path.is_dir() {
            all.extend(of_folder(path)?);
        } else {
            all.push(path.clone());
        }
    }
    Ok(all)
}

fn of_folder(folder: &Path) -> Result<Vec<PathBuf>, FileError> {
    let failed = |source| FileError::Read {
        path: folder.to_owned(),
        source,
    };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.extension().is_some_and(|end| end == EXTENSION) {
            files.push(path);
        }
    }
    if files.is_empty() {
        return Err(FileError::None(folder.to_owned()));
    }
    files.sort();
    Ok(files)
}

/// Plays the scenario in this file, with the policies that it names.
///
/// Scripts want 16 MiB of stack (`engine_thread::STACK_BYTES`): call it on a thread that has them.
///
/// # Errors
///
/// Returns why it cannot be played at all.
pub fn play_file(path: &Path) -> Result<Outcome, FileError> {
    let text = read(path)?;
    let scenario = parse(&text).map_err(|error| FileError::Parse {
        rendered: render(&error, path, &text),
        error,
    })?;
    let folder = path.parent().unwrap_or(Path::new(""));
    let policies = policies_of(&scenario, folder)?;
    let policies = policies::check(&policies)?;
    let unplayable = |error| FileError::Play {
        path: path.to_owned(),
        error,
    };
    let mut rehearsal = Rehearsal::with(&scenario, policies).map_err(unplayable)?;
    while rehearsal.second() {}
    // Blanks at the end of a line say nothing in a file.
    let came = rehearsal
        .lines()
        .iter()
        .map(|line| line.trim_end().to_owned());
    Ok(Outcome {
        came: came.collect(),
        length: rehearsal.length(),
        expected: scenario.expected,
        text,
    })
}

/// The policies that a scenario in `folder` names.
///
/// # Errors
///
/// Returns the first that cannot be read.
pub fn policies_of(scenario: &Scenario, folder: &Path) -> Result<Vec<SourceFile>, LoadError> {
    let names = scenario.policies.iter();
    names
        .map(|name| policies::read_file(&folder.join(name)))
        .collect()
}

impl Outcome {
    /// Whether just what was expected came of it.
    pub fn is_met(&self) -> bool {
        self.expected == self.came
    }

    /// Writes what came of it into the file, in place of the lines under `expect`.
    ///
    /// The file is replaced as a whole, so that a crash or a full disk leaves it as it was.
    ///
    /// # Errors
    ///
    /// Returns why it cannot be written; it is then as it was.
    pub fn accept(&self, path: &Path) -> std::io::Result<()> {
        // Of a link, what it leads to.
        let path = std::fs::canonicalize(path)?;
        let new = path.with_extension(format!("{EXTENSION}.new"));
        let replaced = std::fs::metadata(&path)
            .and_then(|old| {
                std::fs::write(&new, self.rewritten())?;
                std::fs::set_permissions(&new, old.permissions())
            })
            .and_then(|()| std::fs::rename(&new, &path));
        replaced.inspect_err(|_| {
            // It may not be there at all.
            let _ = std::fs::remove_file(&new);
        })
    }

    /// The text of the file with what came of it under `expect`, and comments there kept above it.
    fn rewritten(&self) -> String {
        let is_head = |line: &&str| line.trim_end() != "expect";
        let head: Vec<_> = self.text.lines().take_while(is_head).collect();
        let comments = self.text.lines().skip(head.len() + 1);
        let comments = comments.filter(|line| line.trim_start().starts_with('#'));
        let mut new = format!("{}\n\nexpect\n", head.join("\n").trim_end());
        for comment in comments {
            new.push_str(comment);
            new.push('\n');
        }
        for line in &self.came {
            new.push_str("  ");
            new.push_str(line);
            new.push('\n');
        }
        new
    }
}

fn read(path: &Path) -> Result<String, FileError> {
    let failed = |source| FileError::Read {
        path: path.to_owned(),
        source,
    };
    let size = std::fs::metadata(path).map_err(failed)?.len();
    if size > MAX_FILE_BYTES {
        return Err(FileError::TooLarge {
            path: path.to_owned(),
            size,
        });
    }
    std::fs::read_to_string(path).map_err(failed)
}

fn render(error: &ParseError, path: &Path, text: &str) -> String {
    let ParseError {
        line,
        column,
        message,
    } = error;
    let margin = " ".repeat(line.to_string().len());
    let shown = excerpt(text, *line, *column).unwrap_or_default();
    let path = path.display();
    format!("error: {message}\n{margin}--> {path}:{line}:{column}\n{shown}")
}
