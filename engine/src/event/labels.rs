//! Labels, annotations and metadata of one thing, in as little room as they take.
//!
//! A listing of a large fleet is held as a whole until it is taken in, and what it leaves behind
//! between that which is kept is never given back. As a map each of its texts would be a piece of its
//! own.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Keys and their values, in the order of the keys.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct Labels {
    /// All keys and values, one after the other.
    text: Box<str>,
    /// Where each of them ends in it.
    ends: Box<[u32]>,
}

impl Labels {
    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&str> {
        let found = self.iter().find(|(own, _)| *own == key);
        found.map(|(_, value)| value)
    }

    /// Whether there is such a key.
    pub fn contains_key(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    /// All keys and values, in the order of the keys.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        let pairs = (0..self.ends.len()).step_by(2);
        pairs.map(|place| (self.word(place), self.word(place + 1)))
    }

    fn word(&self, place: usize) -> &str {
        let end = |place: usize| self.ends.get(place).map_or(0, |end| *end as usize);
        let start = place.checked_sub(1).map_or(0, end);
        self.text.get(start..end(place)).unwrap_or_default()
    }
}

/// Of two values of one key the last stays.
impl<K: AsRef<str>, V: AsRef<str>> FromIterator<(K, V)> for Labels {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(pairs: I) -> Self {
        let mut pairs: Vec<(K, V)> = pairs.into_iter().collect();
        pairs.reverse();
        pairs.sort_by(|(one, _), (other, _)| one.as_ref().cmp(other.as_ref()));
        pairs.dedup_by(|(one, _), (kept, _)| one.as_ref() == kept.as_ref());
        let words = || {
            pairs
                .iter()
                .flat_map(|(key, value)| [key.as_ref(), value.as_ref()])
        };
        let mut text = String::with_capacity(words().map(str::len).sum());
        let mut ends = Vec::with_capacity(pairs.len() * 2);
        for word in words() {
            text.push_str(word);
            ends.push(u32::try_from(text.len()).unwrap_or(u32::MAX));
        }
        Self {
            text: text.into(),
            ends: ends.into(),
        }
    }
}

impl<K: AsRef<str>, V: AsRef<str>> Extend<(K, V)> for Labels {
    fn extend<I: IntoIterator<Item = (K, V)>>(&mut self, pairs: I) {
        let pairs: Vec<(K, V)> = pairs.into_iter().collect();
        let more = pairs
            .iter()
            .map(|(key, value)| (key.as_ref(), value.as_ref()));
        *self = self.iter().chain(more).collect();
    }
}

impl fmt::Debug for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

/// Written as a map.
impl Serialize for Labels {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

impl<'de> Deserialize<'de> for Labels {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let pairs = BTreeMap::<String, String>::deserialize(deserializer)?;
        Ok(pairs.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn they_are_what_a_map_of_them_is(
            first in prop::collection::vec(("[ab/é]{0,3}", "[xy\u{0}]{0,3}"), 0..8),
            more in prop::collection::vec(("[ab/é]{0,3}", "[xy\u{0}]{0,3}"), 0..4),
        ) {
            let mut map: BTreeMap<String, String> = first.iter().cloned().collect();
            let mut labels: Labels = first.into_iter().collect();
            map.extend(more.clone());
            labels.extend(more);
            let pairs = map.iter().map(|(key, value)| (key.as_str(), value.as_str()));
            prop_assert!(labels.iter().eq(pairs));
            for key in ["", "a", "b", "é", "a/b", "none"] {
                prop_assert_eq!(labels.get(key), map.get(key).map(String::as_str));
                prop_assert_eq!(labels.contains_key(key), map.contains_key(key));
            }
            prop_assert_eq!(format!("{labels:?}"), format!("{map:?}"));
            let written = serde_json::to_string(&labels).unwrap();
            prop_assert_eq!(&written, &serde_json::to_string(&map).unwrap());
            prop_assert_eq!(serde_json::from_str::<Labels>(&written).unwrap(), labels);
        }
    }
}
