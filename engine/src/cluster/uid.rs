//! A Node's uid, in as little room as it takes: a cluster has one for each of its nodes.

use std::fmt;

use uuid::Uuid;

/// The uid of a Node. With the name it is the Node's generation.
///
/// Kubernetes writes UUIDs, which are kept as their sixteen bytes; any other text is kept as it is.
#[derive(Clone, PartialEq, Eq)]
pub struct Uid(Form);

#[derive(Clone, PartialEq, Eq)]
enum Form {
    Uuid(Uuid),
    Text(Box<str>),
}

/// The UUID that is written as this text: in lower case, with its hyphens.
fn read_uuid(text: &str) -> Option<Uuid> {
    let uuid = Uuid::try_parse(text).ok()?;
    let mut again = Uuid::encode_buffer();
    (uuid.hyphenated().encode_lower(&mut again) == text).then_some(uuid)
}

impl From<&str> for Uid {
    fn from(text: &str) -> Self {
        Self(match read_uuid(text) {
            Some(uuid) => Form::Uuid(uuid),
            None => Form::Text(text.into()),
        })
    }
}

impl fmt::Display for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Form::Uuid(uuid) => uuid.hyphenated().fmt(f),
            Form::Text(text) => f.write_str(text),
        }
    }
}

impl fmt::Debug for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

/// A text and the same text are the same uid, whichever way it is kept.
impl PartialEq<str> for Uid {
    fn eq(&self, text: &str) -> bool {
        match &self.0 {
            Form::Uuid(uuid) => read_uuid(text).as_ref() == Some(uuid),
            Form::Text(own) => **own == *text,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uid_is_the_text_that_it_was_made_of() {
        let uuid = "0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9";
        for text in [
            uuid,
            "uid-17",
            "",
            // Not what is written back: kept as they are.
            "0A1B2C3D-4E5F-6071-8293-A4B5C6D7E8F9",
            "0a1b2c3d4-e5f-6071-8293-a4b5c6d7e8f9",
            "0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f",
            "0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f90",
            "0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8fg",
            "0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8é",
        ] {
            let uid = Uid::from(text);
            assert_eq!(uid.to_string(), text);
            assert!(uid == *text, "{text}");
            assert_eq!(uid, uid.clone());
            assert_eq!(uid == *uuid, text == uuid);
        }
        assert_eq!(size_of::<Uid>(), 24);
    }
}
