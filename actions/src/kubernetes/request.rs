//! What a request for a certificate asks for: the subject of its PKCS #10, read from the DER.
//!
//! Only what is compared is read, and strictly: a kubelet's own request has exactly one
//! organization and one common name, so anything else is not one.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// First line of the PEM.
const BEGIN: &str = "-----BEGIN CERTIFICATE REQUEST-----";
/// Last line of the PEM.
const END: &str = "-----END CERTIFICATE REQUEST-----";

const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const OBJECT_ID: u8 = 0x06;
const INTEGER: u8 = 0x02;
/// UTF8String, PrintableString and IA5String: those whose bytes are read as they are.
const STRINGS: [u8; 3] = [0x0c, 0x13, 0x16];
/// 2.5.4.10.
const ORGANIZATION: &[u8] = &[0x55, 0x04, 0x0a];
/// 2.5.4.3.
const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];

/// Whom a certificate is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Subject {
    pub(super) organization: String,
    pub(super) common_name: String,
}

/// The subject of a request in PEM; none if it is not of the form that a kubelet sends.
pub(super) fn subject(pem: &[u8]) -> Option<Subject> {
    let text = std::str::from_utf8(pem).ok()?.trim();
    let body = text.strip_prefix(BEGIN)?.strip_suffix(END)?;
    let body: String = body.split_ascii_whitespace().collect();
    let der = STANDARD.decode(body).ok()?;
    let (whole, rest) = value(&der, SEQUENCE)?;
    let (info, _signature) = value(whole, SEQUENCE)?;
    let (_version, info) = value(info, INTEGER)?;
    let (mut names, _key) = value(info, SEQUENCE)?;
    let (mut organization, mut common_name) = (None, None);
    while !names.is_empty() {
        let (set, others) = value(names, SET)?;
        names = others;
        let (pair, none) = value(set, SEQUENCE)?;
        let (kind, string) = value(pair, OBJECT_ID)?;
        let (tag, content, nothing) = any(string)?;
        if !none.is_empty() || !nothing.is_empty() || !STRINGS.contains(&tag) {
            return None;
        }
        let text = std::str::from_utf8(content).ok()?.to_owned();
        let place = match kind {
            ORGANIZATION => &mut organization,
            COMMON_NAME => &mut common_name,
            _ => return None,
        };
        // One of each.
        if place.replace(text).is_some() {
            return None;
        }
    }
    rest.is_empty().then_some(())?;
    Some(Subject {
        organization: organization?,
        common_name: common_name?,
    })
}

/// The content of the value that `bytes` begin with, which must be of this tag, and the rest.
fn value(bytes: &[u8], wanted: u8) -> Option<(&[u8], &[u8])> {
    let (tag, content, rest) = any(bytes)?;
    (tag == wanted).then_some((content, rest))
}

/// Tag and content of the value that `bytes` begin with, and the rest.
fn any(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, bytes) = bytes.split_first()?;
    let (&first, bytes) = bytes.split_first()?;
    let (length, bytes) = match first {
        0..=0x7f => (usize::from(first), bytes),
        0x81 => {
            let (&low, bytes) = bytes.split_first()?;
            (usize::from(low), bytes)
        }
        0x82 => {
            let (&[high, low], bytes) = bytes.split_first_chunk()?;
            (usize::from(u16::from_be_bytes([high, low])), bytes)
        }
        // No request is longer than 64 KiB.
        _ => return None,
    };
    let (content, rest) = bytes.split_at_checked(length)?;
    Some((tag, content, rest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Made by `openssl req -new -newkey ec … -subj SUBJECT`.
    const OF_A_KUBELET: &str = "\
-----BEGIN CERTIFICATE REQUEST-----
MIHsMIGTAgEAMDExFTATBgNVBAoMDHN5c3RlbTpub2RlczEYMBYGA1UEAwwPc3lz
dGVtOm5vZGU6dy0xMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE2u/SaW0Uxb+B
40bU3AZK1AR6l4B0m0q508wAevQyXxBTi6tPacxMvUt4XC4S0y0gQyI93nhN9wFF
WP2HGH61X6AAMAoGCCqGSM49BAMCA0gAMEUCIQC1ES/jl5oAdvsWs2sRG7BK6GtS
ojfiCbO9HsXa9jcy1QIgI9vQnRi4ex7AvwgZsTWkBA9CHL7ixe/gsv+mkf4EaQA=
-----END CERTIFICATE REQUEST-----
";
    const OF_TWO_ORGANIZATIONS: &str = "\
-----BEGIN CERTIFICATE REQUEST-----
MIIBBTCBrAIBADBKMRUwEwYDVQQKDAxzeXN0ZW06bm9kZXMxFzAVBgNVBAoMDnN5
c3RlbTptYXN0ZXJzMRgwFgYDVQQDDA9zeXN0ZW06bm9kZTp3LTEwWTATBgcqhkjO
PQIBBggqhkjOPQMBBwNCAASNe0/RvtfolB0YIvaK+DmazFwGlpbuz4NbYkFNjEnk
wUghrrr+uWKliFyPAFAwaKpTvSUH+NqGSo04MqoCVQoioAAwCgYIKoZIzj0EAwID
SAAwRQIgc+VZqMzRHIOqgrRXW6M6tKVz4Y5ooJacHqNajyUZXkoCIQDKQqR6D+2Q
UJJNZ9xJjpY7EfTjy4zPOOk5NZXjj42DRA==
-----END CERTIFICATE REQUEST-----
";

    #[test]
    fn a_kubelets_request_is_read_and_another_is_not() {
        let wanted = Subject {
            organization: "system:nodes".to_owned(),
            common_name: "system:node:w-1".to_owned(),
        };
        assert_eq!(subject(OF_A_KUBELET.as_bytes()), Some(wanted));
        assert_eq!(subject(OF_TWO_ORGANIZATIONS.as_bytes()), None);
        for text in [
            "",
            "nonsense",
            "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----",
        ] {
            assert_eq!(subject(text.as_bytes()), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>, cut in 0_usize..400) {
            let pem = format!("{BEGIN}\n{}\n{END}", STANDARD.encode(&bytes));
            prop_assert_eq!(subject(pem.as_bytes()), None);
            let whole = OF_A_KUBELET.trim().strip_prefix(BEGIN).unwrap().strip_suffix(END).unwrap();
            let der = STANDARD.decode(whole.split_ascii_whitespace().collect::<String>()).unwrap();
            let short = der.get(..cut.min(der.len() - 1)).unwrap();
            let pem = format!("{BEGIN}\n{}\n{END}", STANDARD.encode(short));
            prop_assert_eq!(subject(pem.as_bytes()), None);
        }
    }
}
