//! A certificate for a server that is only tried, of an authority that signs nothing else.

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};

/// A certificate and what belongs to it, each in PEM.
pub struct Certificate {
    /// The authority's, for those who are to trust it.
    pub authority: String,
    /// The server's.
    pub certificate: String,
    /// The server's key.
    pub key: String,
}

/// Makes an authority, and a certificate of it for a server of these names. The authority's key is
/// thrown away.
///
/// # Errors
///
/// Returns rcgen's error, for a name that none can be.
pub fn certify(names: &[String]) -> Result<Certificate, rcgen::Error> {
    let mut authority = CertificateParams::new(Vec::new())?;
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority
        .distinguished_name
        .push(DnType::CommonName, "Rhizome, to be tried");
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate()?)?;
    let key = KeyPair::generate()?;
    let mut server = CertificateParams::new(names.to_vec())?;
    server.use_authority_key_identifier_extension = true;
    if let Some(first) = names.first() {
        server
            .distinguished_name
            .push(DnType::CommonName, first.as_str());
    }
    let certificate = server.signed_by(&key, &authority)?;
    Ok(Certificate {
        authority: authority.as_ref().pem(),
        certificate: certificate.pem(),
        key: key.serialize_pem(),
    })
}
