//! Label and field selectors, as list and watch take them.

use serde_json::Value;

use crate::json::text;

/// Which objects a list or a watch asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Selector {
    namespace: Option<String>,
    terms: Vec<Term>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Term {
    /// A JSON pointer.
    path: String,
    test: Test,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Test {
    Is(String),
    IsNot(String),
    In(Vec<String>),
    NotIn(Vec<String>),
    Exists,
    Absent,
}

impl Selector {
    /// Reads `namespace`, `labelSelector` and `fieldSelector`; an error is Go's in its spirit.
    pub(crate) fn read(
        namespace: Option<&str>,
        labels: Option<&str>,
        fields: Option<&str>,
    ) -> Result<Self, String> {
        let mut terms = Vec::new();
        for part in split_terms(labels.unwrap_or_default()) {
            terms.push(label_term(&part).ok_or_else(|| {
                format!("unable to parse requirement: found '{part}', expected: a selector")
            })?);
        }
        for part in fields
            .unwrap_or_default()
            .split(',')
            .filter(|part| !part.is_empty())
        {
            terms.push(
                field_term(part).ok_or_else(|| {
                    format!("invalid selector: '{part}'; can't understand '{part}'")
                })?,
            );
        }
        Ok(Self {
            namespace: namespace.map(str::to_owned),
            terms,
        })
    }

    /// Whether an object is asked for.
    pub(crate) fn takes(&self, object: &Value) -> bool {
        self.namespace
            .as_deref()
            .is_none_or(|wanted| text(object, "/metadata/namespace") == Some(wanted))
            && self.terms.iter().all(|term| term.holds(object))
    }
}

impl Term {
    fn holds(&self, object: &Value) -> bool {
        let found = object.pointer(&self.path).map(|value| match value {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        });
        // A field that is not there reads as empty, or false for `spec.unschedulable`.
        let is = |wanted: &String| match (&found, self.path.starts_with("/metadata/labels/")) {
            (Some(found), _) => found == wanted,
            (None, true) => false,
            (None, false) => wanted.is_empty() || wanted == "false",
        };
        match &self.test {
            Test::Is(wanted) => is(wanted),
            Test::IsNot(wanted) => !is(wanted),
            Test::In(wanted) => wanted.iter().any(is),
            Test::NotIn(wanted) => !wanted.iter().any(is),
            Test::Exists => found.is_some(),
            Test::Absent => found.is_none(),
        }
    }
}

/// Splits at the commas that stand outside of parentheses.
fn split_terms(text: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut depth = 0;
    for letter in text.chars() {
        match letter {
            '(' => depth += 1,
            ')' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(String::new());
                continue;
            }
            _ => {}
        }
        if let Some(last) = parts.last_mut() {
            last.push(letter);
        }
    }
    parts
        .into_iter()
        .map(|part| part.trim().to_owned())
        .filter(|part| !part.is_empty())
        .collect()
}

fn equality(part: &str) -> Option<(&str, Test)> {
    if let Some((key, value)) = part.split_once("!=") {
        return Some((key.trim(), Test::IsNot(value.trim().to_owned())));
    }
    let (key, value) = part.split_once("==").or_else(|| part.split_once('='))?;
    Some((key.trim(), Test::Is(value.trim().to_owned())))
}

fn label_term(part: &str) -> Option<Term> {
    let list = |text: &str| -> Option<Vec<String>> {
        let inner = text.trim().strip_prefix('(')?.strip_suffix(')')?;
        Some(
            inner
                .split(',')
                .map(|item| item.trim().to_owned())
                .collect(),
        )
    };
    let (key, test) = if let Some((key, rest)) = part.split_once(" notin ") {
        (key.trim(), Test::NotIn(list(rest)?))
    } else if let Some((key, rest)) = part.split_once(" in ") {
        (key.trim(), Test::In(list(rest)?))
    } else if let Some(found) = equality(part) {
        found
    } else if let Some(key) = part.strip_prefix('!') {
        (key.trim(), Test::Absent)
    } else {
        (part, Test::Exists)
    };
    let valid = !key.is_empty() && !key.contains([' ', '(', ')']);
    valid.then(|| Term {
        path: format!(
            "/metadata/labels/{}",
            key.replace('~', "~0").replace('/', "~1")
        ),
        test,
    })
}

fn field_term(part: &str) -> Option<Term> {
    let (key, test) = equality(part)?;
    Some(Term {
        path: format!("/{}", key.replace('.', "/")),
        test,
    })
}

/// Whether an object's labels match a `LabelSelector` object, as budgets have it.
pub(crate) fn label_selector_takes(selector: &Value, object: &Value) -> bool {
    let label = |key: &str| {
        object
            .pointer("/metadata/labels")
            .and_then(|labels| labels.get(key))
            .and_then(Value::as_str)
    };
    let labels_match = selector
        .get("matchLabels")
        .and_then(Value::as_object)
        .is_none_or(|wanted| {
            wanted
                .iter()
                .all(|(key, value)| label(key) == value.as_str())
        });
    let expressions_match = crate::json::items(selector, "/matchExpressions").all(|expression| {
        let found = text(expression, "/key").and_then(label);
        let listed = || {
            found.is_some_and(|found| {
                crate::json::items(expression, "/values").any(|value| value == found)
            })
        };
        match text(expression, "/operator") {
            Some("In") => listed(),
            Some("NotIn") => !listed(),
            Some("Exists") => found.is_some(),
            Some("DoesNotExist") => found.is_none(),
            _ => false,
        }
    });
    labels_match && expressions_match
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn selectors_take_what_they_say() {
        let pod = json!({
            "metadata": {"name": "p", "namespace": "d", "labels": {"app": "web", "a/b": "c"}},
            "spec": {"nodeName": "n1"},
            "status": {"phase": "Running"},
        });
        for (labels, fields, takes) in [
            ("", "", true),
            ("app=web", "", true),
            ("app==web,a/b=c", "", true),
            ("app!=web", "", false),
            ("app in (api, web)", "", true),
            ("app notin (api,web)", "", false),
            ("app,!tier", "", true),
            ("tier", "", false),
            ("tier!=x", "", true),
            ("", "spec.nodeName=n1,status.phase!=Failed", true),
            ("", "spec.nodeName=n2", false),
            ("", "metadata.name=p", true),
            ("", "spec.unschedulable=false", true),
        ] {
            let selector = Selector::read(None, Some(labels), Some(fields)).unwrap();
            assert_eq!(selector.takes(&pod), takes, "{labels} {fields}");
        }
        assert!(!Selector::read(Some("e"), None, None).unwrap().takes(&pod));
        assert!(Selector::read(None, None, Some("nonsense")).is_err());
        assert!(Selector::read(None, Some("a in b"), None).is_err());
    }
}
