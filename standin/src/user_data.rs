//! User data as a guest reads it at its first boot: which token, which node name.
//!
//! Templates are the operator's own, so this is tolerant of every form that a join can take.

use std::io::Read as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flate2::read::GzDecoder;
use regex_lite::Regex;

use crate::cloud::Server;

/// The user data as the guest reads it.
pub(crate) fn user_data(server: &Server) -> String {
    server
        .user_data
        .as_deref()
        .and_then(|encoded| STANDARD.decode(encoded).ok())
        .map(|bytes| {
            unpacked(&bytes).unwrap_or_else(|| String::from_utf8_lossy(&bytes).into_owned())
        })
        .unwrap_or_default()
}

/// What gzip has packed, which cloud-init knows by its first bytes; none for anything else.
fn unpacked(bytes: &[u8]) -> Option<String> {
    /// Longest that is read: a guest's memory is not for filling.
    const MAX_UNPACKED: u64 = 4 * 1024 * 1024;
    let mut text = String::new();
    GzDecoder::new(bytes)
        .take(MAX_UNPACKED)
        .read_to_string(&mut text)
        .ok()?;
    Some(text)
}

/// A join token, wherever in the user data it stands.
pub(crate) fn find_token(text: &str) -> Option<String> {
    let regex = Regex::new(r"\b([a-z0-9]{6}\.[a-z0-9]{16})\b").ok()?;
    // The line that speaks of a token first: other words may look like one.
    let line = text
        .lines()
        .find(|line| line.contains("token") && regex.is_match(line));
    let found = regex.captures(line.unwrap_or(text))?;
    found.get(1).map(|token| token.as_str().to_owned())
}

/// The node's name, if the user data gives one: in `nodeRegistration` or by a kubelet's flag.
/// What cloud-init would fill in (`local_hostname`) is the server's own name, and not found
/// here.
pub(crate) fn find_node_name(text: &str) -> Option<String> {
    let first = |pattern: &str, text: &str| {
        let regex = Regex::new(pattern).ok()?;
        let found = regex.captures(text)?;
        found.get(1).map(|name| name.as_str().to_owned())
    };
    let registration = text
        .find("nodeRegistration")
        .and_then(|start| text.get(start..))
        .unwrap_or_default();
    // The kubelet's arguments have names too, written `- name:` or `{name: …, value: …}`.
    first(
        r#"(?m)nodeRegistration["']?\s*:\s*\{?\s*["']?name["']?\s*:\s*['"]?([a-z0-9][a-z0-9.-]*)['"]?\s*(?:,|\}|$)"#,
        registration,
    )
    .or_else(|| first(r"--(?:node-name|hostname-override)[ =]([a-z0-9][a-z0-9.-]*)", text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn token_and_name_are_found_in_every_form_of_user_data() {
        let token = "07401b.f395accd246ae52d";
        for (text, name) in [
            (
                "## template: jinja\n# The token was filled in.\n    discovery:\n      bootstrapToken:\n        apiServerEndpoint: \"10.0.0.10:6443\"\n        token: \"07401b.f395accd246ae52d\"\n    nodeRegistration:\n      name: \"w-1\"\n      kubeletExtraArgs:\n      - name: provider-id\n",
                Some("w-1"),
            ),
            (
                "token: 07401b.f395accd246ae52d\nnodeRegistration:\n  name: '{{ local_hostname }}'\n  kubeletExtraArgs:\n  - {name: cloud-provider, value: external}\n",
                None,
            ),
            (
                "kubeadm join 10.0.0.10:6443 --token 07401b.f395accd246ae52d --node-name w-2",
                Some("w-2"),
            ),
            (
                r#"{"token":"07401b.f395accd246ae52d","nodeRegistration":{"name":"w-3"}}"#,
                Some("w-3"),
            ),
        ] {
            assert_eq!(find_token(text).as_deref(), Some(token), "{text}");
            assert_eq!(find_node_name(text).as_deref(), name, "{text}");
        }
        assert_eq!(find_token("#cloud-config"), None);
    }
}
