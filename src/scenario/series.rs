//! Series in promtool's notation, and the notation of labels.

use std::collections::BTreeMap;

/// Most values of one series: a week of one every ten seconds.
const VALUES_MAX: usize = 60_480;

/// Reads the values of a series as promtool does: `0.2x30` is 0.2 and thirty more of it,
/// `1+2x3` is 1 3 5 7, `_` is a missing sample and `_x10` ten of them.
pub(super) fn values(text: &str) -> Result<Vec<Option<f64>>, String> {
    let mut values = Vec::new();
    for word in text.split_whitespace() {
        expand(word, &mut values)?;
        if values.len() > VALUES_MAX {
            return Err(format!("more than {VALUES_MAX} values in one series"));
        }
    }
    if values.is_empty() {
        return Err("a series needs values, such as `0.2x30 0.9x60 _x10`".to_owned());
    }
    Ok(values)
}

fn expand(word: &str, values: &mut Vec<Option<f64>>) -> Result<(), String> {
    let bad = || format!("`{word}` is no value: write `0.2`, `0.2x30`, `0.2+0.1x5`, `_` or `_x10`");
    let (what, times) = match word.split_once('x') {
        Some((what, times)) => (what, Some(times.parse::<usize>().map_err(|_| bad())?)),
        None => (word, None),
    };
    if times.is_some_and(|times| times > VALUES_MAX) {
        return Err(format!("more than {VALUES_MAX} values in one series"));
    }
    if what == "_" {
        values.extend(std::iter::repeat_n(None, times.unwrap_or(1)));
        return Ok(());
    }
    // The sign of the step is the first one that is not the value's own or an exponent's.
    let bytes = what.as_bytes();
    let step_at = (1..bytes.len()).find(|at| {
        let sign = matches!(bytes.get(*at), Some(b'+' | b'-'));
        let exponent = matches!(bytes.get(at - 1), Some(b'e' | b'E'));
        sign && !exponent
    });
    let (first, step) = match step_at {
        Some(at) => {
            let (first, step) = what.split_at(at);
            (first, step.parse::<f64>().map_err(|_| bad())?)
        }
        None => (what, 0.0),
    };
    let mut value = first.parse::<f64>().map_err(|_| bad())?;
    for _ in 0..=times.unwrap_or(0) {
        values.push(Some(value));
        value += step;
    }
    Ok(())
}

/// Reads `name{key="value",...}`.
pub(super) fn labelled(text: &str) -> Result<(String, BTreeMap<String, String>), String> {
    let text = text.trim();
    let Some((name, rest)) = text.split_once('{') else {
        return Ok((text.to_owned(), BTreeMap::new()));
    };
    let inner = rest
        .strip_suffix('}')
        .ok_or_else(|| format!("`{text}`: the `{{` is not closed"))?;
    let mut labels = BTreeMap::new();
    for pair in inner.split(',').filter(|pair| !pair.trim().is_empty()) {
        let read = pair.split_once('=').and_then(|(key, value)| {
            let value = value.trim().strip_prefix('"')?.strip_suffix('"')?;
            Some((key.trim().to_owned(), value.to_owned()))
        });
        let (key, value) =
            read.ok_or_else(|| format!("`{}` is no label: write `node=\"w1\"`", pair.trim()))?;
        labels.insert(key, value);
    }
    Ok((name.trim().to_owned(), labels))
}
