//! What a policy's words tell that running its top level does not: calls of functions that do
//! not exist, windows that only bodies read, a `return` that would end the file.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use rhai::Position;

use crate::time::parse_duration;
use crate::window::Stat;

use super::lexer::{Kind, Token, words};
use super::vocabulary::{self, STATS};

/// The largest file. Ten times what a person would want to read.
pub(super) const MAX_FILE_BYTES: usize = 256 * 1024;

/// What the words told.
#[derive(Debug, Default)]
pub(super) struct Scan {
    pub(super) errors: Vec<(Position, String)>,
    /// Functions among them that do not exist.
    pub(super) unknown: BTreeSet<String>,
    /// Windows that bodies read.
    pub(super) reads: Vec<(Stat, Arc<str>, Duration)>,
}

/// Goes through the words of `text`. `known` are Rhai's own functions.
pub(super) fn scan(text: &str, known: &BTreeSet<String>) -> Scan {
    let mut scan = Scan::default();
    if text.len() > MAX_FILE_BYTES {
        let message = format!("the file is larger than {MAX_FILE_BYTES} bytes");
        scan.errors.push((Position::NONE, message));
        return scan;
    }
    let (tokens, unclosed) = words(text);
    if let Some(open) = unclosed {
        scan.errors.push((
            place(open.line, open.column),
            "this comment is never closed: the rest of the file would be ignored in silence"
                .to_owned(),
        ));
    }
    let own = own_names(&tokens);
    let has_watch = calls(&tokens).any(|call| call.name == "watch" && !call.method);
    for call in calls(&tokens) {
        if call.name == "curry" || call.name == "eval" {
            let message = format!("`{}` is not allowed in a policy", call.name);
            scan.errors.push((call.at, message));
        } else if !is_known(call.name, known, &own) {
            let message = vocabulary::unknown(call.name, known);
            scan.unknown.insert(call.name.to_owned());
            scan.errors.push((call.at, message));
        }
        if call.method {
            scan.read(&tokens, &call, has_watch);
        }
    }
    scan.errors.extend(returns_at_top(&tokens));
    scan
}

fn is_known(name: &str, known: &BTreeSet<String>, own: &BTreeSet<&str>) -> bool {
    vocabulary::usage(name).is_some()
        || vocabulary::is_keyword(name)
        || known.contains(name)
        || own.contains(name)
}

struct Call<'a> {
    name: &'a str,
    /// Behind a dot.
    method: bool,
    at: Position,
    /// The place of its opening bracket among the tokens.
    open: usize,
}

fn mark(tokens: &[Token], place: usize) -> Option<char> {
    match tokens.get(place)?.kind {
        Kind::Mark(mark) => Some(mark),
        _ => None,
    }
}

fn word(tokens: &[Token], place: usize) -> Option<&str> {
    match &tokens.get(place)?.kind {
        Kind::Word(word) => Some(word),
        _ => None,
    }
}

fn before(tokens: &[Token], place: usize, back: usize) -> Option<char> {
    mark(tokens, place.checked_sub(back)?)
}

fn calls(tokens: &[Token]) -> impl Iterator<Item = Call<'_>> {
    tokens.iter().enumerate().filter_map(|(place_of, token)| {
        let name = word(tokens, place_of)?;
        let defined = place_of
            .checked_sub(1)
            .and_then(|before| word(tokens, before));
        if mark(tokens, place_of + 1) != Some('(') || defined == Some("fn") {
            return None;
        }
        let dot = before(tokens, place_of, 1) == Some('.');
        let range = dot && before(tokens, place_of, 2) == Some('.');
        Some(Call {
            name,
            method: dot && !range,
            at: place(token.line, token.column),
            open: place_of + 1,
        })
    })
}

/// Functions that the file defines, and keys of maps, which may hold closures.
fn own_names(tokens: &[Token]) -> BTreeSet<&str> {
    let names = tokens.iter().enumerate().filter_map(|(place_of, _)| {
        let name = word(tokens, place_of)?;
        let defined = place_of
            .checked_sub(1)
            .and_then(|before| word(tokens, before));
        let is_key = mark(tokens, place_of + 1) == Some(':');
        (defined == Some("fn") || is_key).then_some(name)
    });
    names.collect()
}

impl Scan {
    /// Takes the window that `x.mean("cpu", "5m")` reads, so that it is kept from the start.
    fn read(&mut self, tokens: &[Token], call: &Call<'_>, has_watch: bool) {
        let stat = match call.name {
            "covered" => Stat::Coverage,
            "target" => Stat::Mean,
            name => match STATS.iter().find(|(known, _)| *known == name) {
                Some((_, stat)) => *stat,
                None => return,
            },
        };
        let arguments = arguments(tokens, call.open);
        let (Some(metric), Some(window)) = (arguments.first(), arguments.get(1)) else {
            // `pool.size.max(3)` is Rhai's own.
            return;
        };
        match (plain_text(metric), plain_text(window)) {
            (Some(metric), Some(window)) => match parse_duration(window) {
                Ok(length) if !length.is_zero() => {
                    self.reads.push((stat, Arc::from(metric), length));
                }
                _ => self.errors.push((
                    call.at,
                    format!("`{window}` is no window: write `5m` or `90s`"),
                )),
            },
            _ if has_watch => {}
            _ => self.errors.push((
                call.at,
                format!(
                    "which window `{}` reads cannot be seen from here, and it would be empty: \
                     write metric and window as texts, or name them at the top level with \
                     `watch(\"cpu\", \"5m\")`",
                    call.name
                ),
            )),
        }
    }
}

/// The arguments of the call whose bracket opens at `open`, each as its tokens.
fn arguments(tokens: &[Token], open: usize) -> Vec<&[Token]> {
    let mut found = Vec::new();
    let mut depth = 0_usize;
    let mut begin = open + 1;
    for place in open..tokens.len() {
        match mark(tokens, place) {
            Some('(' | '[' | '{') => depth += 1,
            Some(')' | ']' | '}') => {
                depth -= 1;
                if depth == 0 {
                    found.extend(tokens.get(begin..place).filter(|tokens| !tokens.is_empty()));
                    break;
                }
            }
            Some(',') if depth == 1 => {
                found.extend(tokens.get(begin..place));
                begin = place + 1;
            }
            _ => {}
        }
    }
    found
}

fn plain_text(argument: &[Token]) -> Option<&str> {
    match argument {
        [
            Token {
                kind: Kind::Text(text),
                ..
            },
        ] => Some(text),
        _ => None,
    }
}

/// Each `return` outside of functions and closures: Rhai would leave the rest of the file unread
/// and say nothing.
fn returns_at_top(tokens: &[Token]) -> Vec<(Position, String)> {
    let mut open: Vec<bool> = Vec::new();
    let mut function_next = false;
    let mut found = Vec::new();
    for (place_of, token) in tokens.iter().enumerate() {
        match &token.kind {
            Kind::Word(word) if word == "fn" => function_next = true,
            Kind::Word(word) if word == "return" => {
                let inside = open.contains(&true) || before(tokens, place_of, 1) == Some('|');
                if !inside {
                    found.push((
                        place(token.line, token.column),
                        "`return` at the top level: the rest of the file would be left unread"
                            .to_owned(),
                    ));
                }
            }
            Kind::Mark('{') => {
                open.push(function_next || before(tokens, place_of, 1) == Some('|'));
                function_next = false;
            }
            Kind::Mark('}') => {
                open.pop();
            }
            _ => {}
        }
    }
    found
}

/// A place as Rhai has it; beyond its 65,535 lines or columns, its last.
pub(super) fn place(line: usize, column: usize) -> Position {
    let bound = |number: usize| u16::try_from(number).unwrap_or(u16::MAX);
    match line {
        0 => Position::NONE,
        _ => Position::new(bound(line), bound(column)),
    }
}
