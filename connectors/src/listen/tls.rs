//! Certificate and key from PEM files to a TLS acceptor, with ring as the one provider.

use std::path::Path;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

use super::{ListenError, TlsOptions};

pub(super) fn acceptor(options: &TlsOptions) -> Result<TlsAcceptor, ListenError> {
    let wrong = |path: &Path, detail: String| ListenError::Tls {
        path: path.to_owned(),
        detail,
    };
    let certificates = CertificateDer::pem_file_iter(&options.certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| wrong(&options.certificate, error.to_string()))?;
    if certificates.is_empty() {
        return Err(wrong(
            &options.certificate,
            "no certificate in it: give it in PEM".to_owned(),
        ));
    }
    let key = PrivateKeyDer::from_pem_file(&options.key)
        .map_err(|error| wrong(&options.key, error.to_string()))?;
    let mut config =
        ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| wrong(&options.certificate, error.to_string()))?
            .with_no_client_auth()
            .with_single_cert(certificates, key)
            .map_err(|error| wrong(&options.key, error.to_string()))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}
