//! Line protocol: `measurement,tag=value field=1.5,other=2i 1568760922000000000`.
//!
//! Telegraf's Kafka output writes this unless told otherwise. One record may hold many
//! lines; a bad line costs itself. A line without a time is refused: when it arrived is not
//! when it was measured.

use super::DecodeOptions;
use super::bad::{BadReason, shown};
use super::scratch::{Number, Scratch};
use super::sink::Sink;
use super::telegraf;
use super::time::Time;

/// Reads every line of `text`.
pub(crate) fn decode(
    text: &str,
    options: &DecodeOptions,
    scratch: &mut Scratch,
    sink: &mut Sink<'_>,
) {
    let mut measurement = String::new();
    let mut value = String::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        sink.at(index);
        scratch.clear();
        measurement.clear();
        match read(line, &mut measurement, &mut value, scratch) {
            Ok(time) => {
                telegraf::finish(&measurement, time, options, scratch, sink);
                scratch.refuse_overflow(sink);
            }
            Err(what) => sink.refuse(reason(line), || format!("{what}: `{}`", shown(line))),
        }
    }
}

/// collectd's two other formats are one setting away from one that is read; say which.
fn reason(line: &str) -> BadReason {
    if line.starts_with("PUTVAL ") || is_graphite(line) {
        BadReason::UnknownFormat
    } else {
        BadReason::Syntax
    }
}

fn is_graphite(line: &str) -> bool {
    let mut words = line.split(' ');
    words.next().is_some_and(|path| !path.contains(['=', ',']))
        && words.next().is_some_and(|word| word.parse::<f64>().is_ok())
        && words.next().is_some_and(|word| word.parse::<i64>().is_ok())
        && words.next().is_none()
}

/// Reads one line into the scratch and says its time.
fn read(
    line: &str,
    measurement: &mut String,
    value: &mut String,
    scratch: &mut Scratch,
) -> Result<Time, &'static str> {
    if line.starts_with("PUTVAL ") {
        return Err("collectd's format `Command` is not read: set `Format \"JSON\"`");
    }
    if is_graphite(line) {
        return Err("the format `Graphite` is not read: with collectd, set `Format \"JSON\"`");
    }
    let mut rest = take(line, &[',', ' '], measurement);
    if measurement.is_empty() {
        return Err("line protocol begins with a measurement");
    }
    let mut key = String::new();
    while let Some(tags) = rest.strip_prefix(',') {
        key.clear();
        value.clear();
        rest = take(tags, &['=', ',', ' '], &mut key);
        let Some(after) = rest.strip_prefix('=') else {
            return Err("a tag of line protocol is `key=value`");
        };
        rest = take(after, &[',', ' '], value);
        scratch.push_tag(&key, value);
    }
    rest = rest.trim_start_matches(' ');
    if rest.is_empty() {
        return Err("line protocol has at least one field");
    }
    loop {
        key.clear();
        rest = take(rest, &['=', ',', ' '], &mut key);
        let Some(after) = rest.strip_prefix('=') else {
            return Err("a field of line protocol is `key=value`");
        };
        let (number, after) = field_value(after)?;
        scratch.push_field(&key, number);
        match after.strip_prefix(',') {
            Some(next) => rest = next,
            None => {
                rest = after;
                break;
            }
        }
    }
    let time = rest.trim_start_matches(' ');
    Ok(if time.is_empty() {
        Time::Missing
    } else {
        time.parse().map_or(Time::Bad, Time::from_integer)
    })
}

/// Copies up to an unescaped character of `ends`, without the backslashes that escape.
///
/// A backslash escapes the characters that would end or split a name, and nothing else.
fn take<'a>(text: &'a str, ends: &[char], into: &mut String) -> &'a str {
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        if ends.contains(&c) {
            return text.get(at..).unwrap_or_default();
        }
        let mut ahead = chars.clone();
        match ahead.next() {
            Some((_, escaped)) if c == '\\' && matches!(escaped, ',' | '=' | ' ') => {
                into.push(escaped);
                chars = ahead;
            }
            _ => into.push(c),
        }
    }
    ""
}

/// A field's value and what follows it.
fn field_value(text: &str) -> Result<(Number, &str), &'static str> {
    if let Some(quoted) = text.strip_prefix('"') {
        let mut escaped = false;
        for (at, c) in quoted.char_indices() {
            if c == '"' && !escaped {
                let after = quoted.get(at + 1..).unwrap_or_default();
                return Ok((Number::Wrong, after));
            }
            escaped = c == '\\' && !escaped;
        }
        return Err("a text in a field has no closing quote");
    }
    let end = text.find([',', ' ']).unwrap_or(text.len());
    let (word, after) = text.split_at(end);
    if matches!(
        word,
        "t" | "T" | "true" | "True" | "TRUE" | "f" | "F" | "false" | "False" | "FALSE"
    ) {
        return Ok((Number::Wrong, after));
    }
    let (digits, whole) = match word.strip_suffix(['i', 'u']) {
        Some(digits) => (digits, true),
        None => (word, false),
    };
    // `inf`, `nan` and `infinity` are numbers to Rust and to nobody who writes this format.
    if !digits
        .bytes()
        .all(|byte| byte.is_ascii_digit() || matches!(byte, b'+' | b'-' | b'.' | b'e' | b'E'))
    {
        return Err("a field is neither a number nor a flag nor a quoted text");
    }
    match digits.parse::<f64>() {
        Ok(value) => Ok((Number::Value { value, whole }, after)),
        Err(_) => Err("a field is neither a number nor a flag nor a quoted text"),
    }
}
