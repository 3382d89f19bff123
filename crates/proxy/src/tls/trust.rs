//! Whether a server's certificate will do, as libpq's `sslmode` has it.

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use highwater_wire::certificate::Certificate;

/// Which servers are believed. Whatever it says, the server must own the key of the certificate that it shows.
#[derive(Debug)]
pub(super) struct Trust {
    pub(super) roots: Option<Roots>,
    /// The name that the certificate must bear.
    pub(super) host: Option<String>,
    pub(super) algorithms: WebPkiSupportedAlgorithms,
}

/// Whose signature counts.
#[derive(Debug)]
pub(super) struct Roots {
    pub(super) authorities: RootCertStore,
    /// The same certificates as they are. A server that shows one of them itself is believed too: most self-signed
    /// certificates of PostgreSQL servers are authorities of their own, which webpki takes for no server's.
    pub(super) themselves: Vec<CertificateDer<'static>>,
}

impl Trust {
    fn signed(
        &self,
        roots: &Roots,
        own: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Error> {
        if roots.themselves.iter().any(|root| root == own) {
            let holds = Certificate::read(own).is_some_and(|read| read.holds_at(now.as_secs()));
            return if holds { Ok(()) } else { Err(CertificateError::Expired.into()) };
        }
        let parsed = ParsedCertificate::try_from(own)?;
        verify_server_cert_signed_by_trust_anchor(&parsed, &roots.authorities, intermediates, now, self.algorithms.all)
    }
}

/// libpq asks the common name only where the certificate names nothing else.
fn bears_name(own: &CertificateDer<'_>, host: &str) -> Result<(), Error> {
    let read = Certificate::read(own).ok_or(CertificateError::BadEncoding)?;
    if !read.has_alternative_names() {
        let named = read.common_name().is_some_and(|name| is_name_of(name, host));
        return if named { Ok(()) } else { Err(CertificateError::NotValidForName.into()) };
    }
    let name = ServerName::try_from(host).map_err(|_| CertificateError::NotValidForName)?;
    verify_server_name(&ParsedCertificate::try_from(own)?, &name)
}

/// A common name, whose first label may be `*`.
fn is_name_of(name: &str, host: &str) -> bool {
    let wildcard = || {
        let (rest, (_, domain)) = (name.strip_prefix("*.")?, host.split_once('.')?);
        Some(domain.contains('.') && rest.eq_ignore_ascii_case(domain))
    };
    name.eq_ignore_ascii_case(host) || wildcard().unwrap_or(false)
}

impl ServerCertVerifier for Trust {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if let Some(roots) = &self.roots {
            self.signed(roots, end_entity, intermediates, now)?;
        }
        if let Some(host) = &self.host {
            bears_name(end_entity, host)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::is_name_of;

    #[test]
    fn a_wildcard_stands_for_one_label() {
        for (name, host, fits) in [
            ("db.example.org", "DB.example.org", true),
            ("*.example.org", "db.example.org", true),
            ("*.example.org", "a.db.example.org", false),
            ("*.example.org", "example.org", false),
            ("*.org", "example.org", false),
            ("*", "db", false),
            ("db", "db2", false),
        ] {
            assert_eq!(is_name_of(name, host), fits, "{name} {host}");
        }
    }
}
