//! Why a broker's certificate is refused, in words an operator can act on.
//!
//! librdkafka has one text for a wrong authority, an expired certificate and a wrong name. So
//! after such an error the handshake is made once more, by ourselves, and looked at. Nothing
//! is sent over that connection, and no secret is used.

use std::net::{TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{CertificateError, ClientConfig, ClientConnection, Error, RootCertStore};

use super::options::KafkaTls;

/// How long the broker may take. It answered librdkafka a moment ago.
const HANDSHAKE_WAIT: Duration = Duration::from_secs(3);

/// Why the certificate of `broker` is refused; none if it is not, or cannot be looked at.
///
/// Only for certificates checked against a file of authorities: which of the system's
/// librdkafka trusts is its own affair.
pub(super) fn refusal(broker: &str, tls: &KafkaTls) -> Option<String> {
    let ca = tls.ca.as_ref()?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(ca).ok()? {
        roots.add(certificate.ok()?).ok()?;
    }
    let (host, _) = broker.rsplit_once(':')?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let name = ServerName::try_from(host.to_owned()).ok()?;
    let config =
        ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .ok()?
            .with_root_certificates(roots)
            .with_no_client_auth();
    let mut connection = ClientConnection::new(Arc::new(config), name).ok()?;
    let address = broker.to_socket_addrs().ok()?.next()?;
    let mut socket = TcpStream::connect_timeout(&address, HANDSHAKE_WAIT).ok()?;
    socket.set_read_timeout(Some(HANDSHAKE_WAIT)).ok()?;
    socket.set_write_timeout(Some(HANDSHAKE_WAIT)).ok()?;
    while connection.is_handshaking() {
        if let Err(error) = connection.complete_io(&mut socket) {
            let error = error.get_ref()?.downcast_ref::<Error>()?;
            let reason = words(error, &ca.display().to_string(), host)?;
            return Some(format!("the certificate of `{broker}` {reason}"));
        }
    }
    None
}

fn words(error: &Error, ca: &str, host: &str) -> Option<String> {
    let Error::InvalidCertificate(error) = error else {
        return None;
    };
    Some(match error {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "has expired: renew it on the broker".to_owned()
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "is not valid yet: compare the clocks".to_owned()
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            format!("does not name `{host}`: reach the broker by a name that it has")
        }
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            format!("is not signed by an authority in `{ca}`: name the right file in `tls.ca`")
        }
        other => format!("is refused: {other}"),
    })
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
    use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
    use rustls::{ServerConfig, ServerConnection};

    use super::*;

    fn authority() -> CertifiedIssuer<'static, KeyPair> {
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
    }

    /// What is said of a certificate for `name` until `year`, signed by one authority and
    /// checked against another or the same.
    fn said(name: &str, year: i32, same_authority: bool) -> Option<String> {
        let signer = authority();
        let folder = tempfile::tempdir().unwrap();
        let ca = folder.path().join("ca.pem");
        let trusted = if same_authority {
            signer.pem()
        } else {
            authority().pem()
        };
        std::fs::write(&ca, trusted).unwrap();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.not_after = rcgen::date_time_ymd(year, 1, 1);
        let certificate = params.signed_by(&key, &signer).unwrap();
        let config =
            ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_no_client_auth()
                .with_single_cert(
                    vec![certificate.der().clone()],
                    PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der())),
                )
                .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = std::thread::spawn(move || {
            let (mut socket, _) = listener.accept().unwrap();
            let mut connection = ServerConnection::new(Arc::new(config)).unwrap();
            while connection.is_handshaking() && connection.complete_io(&mut socket).is_ok() {}
        });
        let tls = KafkaTls {
            ca: Some(ca),
            ..KafkaTls::default()
        };
        let said = refusal(&format!("localhost:{port}"), &tls);
        server.join().unwrap();
        said
    }

    #[test]
    fn the_reason_is_told() {
        assert_eq!(said("localhost", 2100, true), None);
        let cases = [
            (
                said("localhost", 2100, false),
                "is not signed by an authority in",
            ),
            (said("localhost", 2020, true), "has expired"),
            (said("elsewhere", 2100, true), "does not name `localhost`"),
        ];
        for (said, expected) in cases {
            let said = said.unwrap();
            assert!(said.contains(expected), "{said}");
        }
    }
}
