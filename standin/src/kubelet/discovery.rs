//! Whom to trust: the cluster-info that anybody may read, signed with the token, and the CA in
//! it held against the pins.
//!
//! The first look trusts nobody's certificate. Neither signature nor pin can be made by one who
//! stands in between and knows neither the token's secret nor the CA's key.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use reqwest::Client;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::{Api, Join, JoinError, TIMEOUT};

/// Where it stands.
const CLUSTER_INFO: &str = "/api/v1/namespaces/kube-public/configmaps/cluster-info";
/// The block of HMAC-SHA256, in bytes.
const BLOCK: usize = 64;

/// The CA of the cluster that the token is for.
pub(super) async fn discover(join: &Join) -> Result<reqwest::Certificate, JoinError> {
    let blind = Api {
        base: format!("https://{}", join.endpoint),
        client: Client::builder()
            .tls_danger_accept_invalid_certs(true)
            .timeout(TIMEOUT)
            .build()?,
        token: None,
        certificate: None,
    };
    let info = blind
        .insist(
            "cluster-info",
            reqwest::Method::GET,
            CLUSTER_INFO,
            &Value::Null,
        )
        .await?;
    let (id, secret) = join
        .token
        .split_once('.')
        .ok_or(JoinError::NotTrusted("the token has not its form"))?;
    let data = |key: &str| {
        info.get("data")
            .and_then(|data| data.get(key))
            .and_then(Value::as_str)
    };
    let kubeconfig =
        data("kubeconfig").ok_or(JoinError::NotTrusted("it says nothing of itself"))?;
    let signature = data(&format!("jws-kubeconfig-{id}"))
        .ok_or(JoinError::NotTrusted("it is not signed with the token"))?;
    if !is_signed(kubeconfig, signature, secret) {
        return Err(JoinError::NotTrusted("its signature is not the token's"));
    }
    let pem = authority(kubeconfig).ok_or(JoinError::NotTrusted("it names no CA"))?;
    let pin = pin(&pem).ok_or(JoinError::NotTrusted("its CA cannot be read"))?;
    if !join.ca_cert_hashes.contains(&pin) {
        return Err(JoinError::NotTrusted("no pin is that of its CA"));
    }
    Ok(reqwest::Certificate::from_pem(&pem)?)
}

/// A detached JWS: header and signature, with the content left out in between.
fn is_signed(content: &str, jws: &str, secret: &str) -> bool {
    let Some((header, signature)) = jws.split_once("..") else {
        return false;
    };
    let payload = format!("{header}.{}", URL_SAFE_NO_PAD.encode(content));
    let wanted = hmac_sha256(secret.as_bytes(), payload.as_bytes());
    URL_SAFE_NO_PAD
        .decode(signature)
        .is_ok_and(|signature| signature == wanted)
}

/// RFC 2104; the key is shorter than a block.
fn hmac_sha256(key: &[u8], message: &[u8]) -> [u8; 32] {
    let pad = |with: u8| {
        let mut block = [with; BLOCK];
        for (byte, key) in block.iter_mut().zip(key) {
            *byte ^= key;
        }
        block
    };
    let inner = Sha256::new().chain_update(pad(0x36)).chain_update(message);
    Sha256::new()
        .chain_update(pad(0x5c))
        .chain_update(inner.finalize())
        .finalize()
        .into()
}

/// The CA of a kubeconfig, in PEM. What kubeadm writes there has one line for it.
fn authority(kubeconfig: &str) -> Option<Vec<u8>> {
    let line = kubeconfig
        .lines()
        .find_map(|line| line.trim().strip_prefix("certificate-authority-data:"))?;
    STANDARD.decode(line.trim()).ok()
}

/// `sha256:` and the hash of the public key, as `kubeadm token create --print-join-command`
/// says it.
fn pin(pem: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(pem).ok()?;
    let body = text
        .split_once("-----BEGIN CERTIFICATE-----")?
        .1
        .split_once("-----END CERTIFICATE-----")?
        .0;
    let body: String = body.split_ascii_whitespace().collect();
    let der = STANDARD.decode(body).ok()?;
    let (_, certificate, _) = value(&der)?;
    let (_, mut rest, _) = value(certificate)?;
    // version (if any), serial, algorithm, issuer, validity, subject: then the public key.
    let (first, ..) = value(rest)?;
    let before = if first == 0xa0 { 6 } else { 5 };
    for _ in 0..before {
        rest = value(rest)?.2;
    }
    let (_, _, after) = value(rest)?;
    let key = rest.get(..rest.len() - after.len())?;
    let hash = Sha256::digest(key);
    let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    Some(format!("sha256:{hex}"))
}

/// Tag and content of the DER value that `bytes` begin with, and the rest.
fn value(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, bytes) = bytes.split_first()?;
    let (&first, bytes) = bytes.split_first()?;
    let (length, bytes) = if first < 0x80 {
        (usize::from(first), bytes)
    } else {
        let (length, bytes) = bytes.split_at_checked(usize::from(first & 0x7f))?;
        let length = length
            .iter()
            .fold(0_usize, |all, byte| (all << 8) | usize::from(*byte));
        (length, bytes)
    };
    let (content, rest) = bytes.split_at_checked(length)?;
    Some((tag, content, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hmac_is_that_of_rfc_4231() {
        let hex = |bytes: [u8; 32]| -> String {
            bytes.iter().map(|byte| format!("{byte:02x}")).collect()
        };
        assert_eq!(
            hex(hmac_sha256(b"Jefe", b"what do ya want for nothing?")),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
    }

    #[test]
    fn only_the_tokens_own_signature_counts() {
        let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256","kid":"abcdef"}"#);
        let payload = format!("{header}.{}", URL_SAFE_NO_PAD.encode("content"));
        let mac = hmac_sha256(b"0123456789abcdef", payload.as_bytes());
        let jws = format!("{header}..{}", URL_SAFE_NO_PAD.encode(mac));
        assert!(is_signed("content", &jws, "0123456789abcdef"));
        assert!(!is_signed("content", &jws, "0123456789abcdeF"));
        assert!(!is_signed("another", &jws, "0123456789abcdef"));
        assert!(!is_signed("content", "nonsense", "0123456789abcdef"));
    }
}
