//! What is said about a policy, and where: errors that refuse it and findings that do not.

use rhai::{EvalAltResult, ParseErrorType, Position};

use super::vocabulary;
use crate::snippet::excerpt;

/// What is wrong with a policy, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}:{column}: {message}")]
pub struct PolicyError {
    /// The file.
    pub file: String,
    /// From 1; 0 if not known.
    pub line: usize,
    /// From 1; 0 if not known.
    pub column: usize,
    /// In words: what, and what to do.
    pub message: String,
}

/// What is doubtful in a policy that loads, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The file.
    pub file: String,
    /// From 1; 0 if not known.
    pub line: usize,
    /// From 1; 0 if not known.
    pub column: usize,
    /// In words: what, a witness where there is one, and what to do.
    pub message: String,
}

impl PolicyError {
    /// The error with the line of `text` it points at, and a caret under the place.
    pub fn render(&self, text: &str) -> String {
        render(
            "error",
            &self.message,
            &self.file,
            (self.line, self.column),
            text,
        )
    }

    pub(super) fn at(file: &str, at: Position, message: impl Into<String>) -> Self {
        Self {
            file: file.to_owned(),
            line: at.line().unwrap_or(0),
            column: at.position().unwrap_or(0),
            message: message.into(),
        }
    }
}

impl Finding {
    /// The finding with the line of `text` it points at, and a caret under the place.
    pub fn render(&self, text: &str) -> String {
        render(
            "warning",
            &self.message,
            &self.file,
            (self.line, self.column),
            text,
        )
    }
}

fn render(
    level: &str,
    message: &str,
    file: &str,
    (line, column): (usize, usize),
    text: &str,
) -> String {
    match excerpt(text, line, column) {
        Some(excerpt) => {
            let margin = " ".repeat(line.to_string().len());
            format!("{level}: {message}\n{margin}--> {file}:{line}:{column}\n{excerpt}")
        }
        None => format!("{level}: {message}\n --> {file}\n"),
    }
}

/// Tells an error of Rhai in the words of a policy, with the innermost place that is known.
pub(super) fn explain(error: &EvalAltResult) -> (Position, String) {
    let at = error.position();
    let (inner_at, message) = match error {
        EvalAltResult::ErrorInFunctionCall(_, _, inner, _)
        | EvalAltResult::ErrorInModule(_, inner, _) => {
            return match explain(inner) {
                (inner_at, message) if inner_at.is_none() => (at, message),
                told => told,
            };
        }
        EvalAltResult::ErrorRuntime(value, _) => {
            let text = value.clone().into_string();
            (
                at,
                text.unwrap_or_else(|_| "the policy threw an error".to_owned()),
            )
        }
        EvalAltResult::ErrorParsing(parse, _) => (at, explain_parse(parse)),
        EvalAltResult::ErrorFunctionNotFound(signature, _) => {
            (at, vocabulary::no_function(signature))
        }
        EvalAltResult::ErrorVariableNotFound(name, _) => (at, no_variable(name)),
        EvalAltResult::ErrorMismatchDataType(wanted, got, _) => (at, mismatch(wanted, got)),
        EvalAltResult::ErrorTooManyOperations(_) => (
            at,
            format!(
                "the policy ran for more than {} operations and was ended",
                super::profile::MAX_OPERATIONS
            ),
        ),
        EvalAltResult::ErrorTerminated(_, _) => (
            at,
            "the policy ran past its deadline and was ended".to_owned(),
        ),
        other => {
            let mut bare = other.to_string();
            if let Some(cut) = bare.rfind(" (line ") {
                bare.truncate(cut);
            }
            (at, lower_first(&bare))
        }
    };
    (inner_at, clean(&message, 600))
}

/// The function whose absence ended a run, if that did.
pub(super) fn missing_function(error: &EvalAltResult) -> Option<&str> {
    match error {
        EvalAltResult::ErrorInFunctionCall(_, _, inner, _)
        | EvalAltResult::ErrorInModule(_, inner, _) => missing_function(inner),
        EvalAltResult::ErrorFunctionNotFound(signature, _) => Some(
            signature
                .split_once(" (")
                .map_or(signature, |(name, _)| name),
        ),
        _ => None,
    }
}

fn explain_parse(error: &ParseErrorType) -> String {
    match error {
        ParseErrorType::VariableUndefined(name) => no_variable(name),
        ParseErrorType::Reserved(word)
            if matches!(word.as_str(), "eval" | "import" | "export" | "curry") =>
        {
            format!("`{word}` is not allowed in a policy")
        }
        other => lower_first(&other.to_string()),
    }
}

fn no_variable(name: &str) -> String {
    match name {
        "true" | "false" => format!("`{name}` is not a variable"),
        _ => format!(
            "no variable `{name}`: a `fn` cannot see the file's `let` or `const`; metrics are \
             named by texts, as in `mean(\"cpu\", \"5m\")`"
        ),
    }
}

fn mismatch(wanted: &str, got: &str) -> String {
    let is_tree = [wanted, got]
        .iter()
        .any(|name| name.contains("Condition") || name.contains("Signal"));
    if is_tree && wanted.contains("bool") {
        return "a condition is not a bool: `if`, `while`, `&&` and `||` cannot look into it; join \
                conditions with `and` and `or` and hand them to `.when(...)`"
            .to_owned();
    }
    format!("this is `{got}` where `{wanted}` is needed")
}

/// Takes control characters out of what a script or an alert says, and bounds its length.
pub(super) fn clean(text: &str, most: usize) -> String {
    text.chars()
        .take(most)
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

fn lower_first(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| {
        first.to_lowercase().chain(chars).collect()
    })
}
