//! Certificates and keys from files into what TLS sessions begin with, towards clients and towards servers.

mod trust;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use highwater_wire::certificate::Certificate;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer, ServerName};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection};

use self::trust::{Roots, Trust};
use crate::config::{ClientCert, ClientTls, Config, Root, ServerUrl, SslMode};
use crate::files::Watched;
use crate::net::Address;

/// The protocol's name in ALPN (PostgreSQL 17).
pub(crate) const PROTOCOL: &[u8] = b"postgresql";

/// Where operating systems keep the authorities that they trust: Debian, Fedora, Alpine and BSD.
const SYSTEM_ROOTS: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];

/// What a TLS session with a client begins with.
#[derive(Debug)]
pub(crate) struct ToClients {
    config: Arc<ServerConfig>,
    /// What binds a login to this certificate; `None` where its signature names no hash.
    pub(crate) end_point: Option<Vec<u8>>,
}

/// What a TLS session with one server begins with.
#[derive(Debug)]
pub(crate) struct ToServer {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

/// Reads what clients are shown; `None` where they are offered no TLS.
///
/// # Errors
/// A file that cannot be read or does not fit the others.
pub(crate) fn to_clients(config: &Config) -> anyhow::Result<Option<Watched<ToClients>>> {
    if config.client_tls == ClientTls::Disable || config.tls_cert.as_os_str().is_empty() {
        return Ok(None);
    }
    let (cert, key) = (config.tls_cert.clone(), config.tls_key.clone());
    let (ca, crl) = (config.client_ca.clone(), config.client_crl.clone());
    let asks = config.client_cert != ClientCert::None;
    let mut files = vec![cert.clone(), key.clone()];
    files.extend([&ca, &crl].into_iter().filter(|file| asks && !file.as_os_str().is_empty()).cloned());
    Watched::new(files, move || {
        let clients = if asks { Some(client_verifier(&ca, &crl)?) } else { None };
        ToClients::load(&cert, &key, clients)
    })
    .map(Some)
}

/// Reads what connections to a server need; `None` where they never use TLS.
///
/// # Errors
/// A file that cannot be read or does not fit the others.
pub(crate) fn to_server(url: &ServerUrl) -> anyhow::Result<Option<Watched<ToServer>>> {
    let Address::Tcp(host, _) = &url.address else { return Ok(None) };
    if url.tls.mode == SslMode::Disable {
        return Ok(None);
    }
    let mut files = Vec::new();
    files.extend(url.tls.root.as_ref().map(root_file));
    files.extend(url.tls.own.iter().flat_map(|(cert, key)| [cert.clone(), key.clone()]));
    let (tls, host) = (url.tls.clone(), host.clone());
    Watched::new(files, move || {
        let roots = tls.root.as_ref().map(|root| roots(&root_file(root))).transpose()?;
        let host_checked = (tls.mode == SslMode::VerifyFull).then(|| host.clone());
        ToServer::new(roots, &host, host_checked, tls.own.as_ref())
    })
    .map(Some)
}

impl ToClients {
    fn load(cert: &Path, key: &Path, clients: Option<Arc<dyn ClientCertVerifier>>) -> anyhow::Result<Self> {
        let chain = certificates(cert)?;
        let own = chain.first().with_context(|| format!("{}: no certificate in it", cert.display()))?;
        let end_point = Certificate::read(own).and_then(|own| own.end_point());
        let builder = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
        let builder = match clients {
            None => builder.with_no_client_auth(),
            Some(verifier) => builder.with_client_cert_verifier(verifier),
        };
        let mut config = builder
            .with_single_cert(chain, private_key(key)?)
            .with_context(|| format!("{} and {}", cert.display(), key.display()))?;
        config.alpn_protocols = vec![PROTOCOL.to_vec()];
        // No driver resumes sessions, and a session that was resumed would outlive its certificate.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Self { config: Arc::new(config), end_point })
    }

    /// A session with a client that has just connected.
    pub(crate) fn session(&self) -> std::io::Result<rustls::Connection> {
        let session = ServerConnection::new(Arc::clone(&self.config)).map_err(std::io::Error::other)?;
        Ok(session.into())
    }
}

impl ToServer {
    fn new(
        roots: Option<Roots>,
        host: &str,
        host_checked: Option<String>,
        own: Option<&(PathBuf, PathBuf)>,
    ) -> anyhow::Result<Self> {
        let provider = provider();
        let algorithms = provider.signature_verification_algorithms;
        let trust = Arc::new(Trust { roots, host: host_checked, algorithms });
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        let builder = builder.dangerous().with_custom_certificate_verifier(trust);
        let mut config = match own {
            None => builder.with_no_client_auth(),
            Some((cert, key)) => builder
                .with_client_auth_cert(certificates(cert)?, private_key(key)?)
                .with_context(|| format!("{} and {}", cert.display(), key.display()))?,
        };
        config.alpn_protocols = vec![PROTOCOL.to_vec()];
        config.resumption = rustls::client::Resumption::disabled();
        // What is no name in the domain name system is told to no server; an address never is.
        let name = ServerName::try_from(host.to_owned())
            .unwrap_or_else(|_| ServerName::from(std::net::IpAddr::from([0, 0, 0, 0])));
        Ok(Self { config: Arc::new(config), name })
    }

    /// A session with the server that was just connected to.
    pub(crate) fn session(&self) -> std::io::Result<rustls::Connection> {
        let session = ClientConnection::new(Arc::clone(&self.config), self.name.clone());
        Ok(session.map_err(std::io::Error::other)?.into())
    }
}

/// Believes certificates that `ca` has signed and that do not stand in `crl`. Who shows none is told so in PostgreSQL's words,
/// after the handshake.
fn client_verifier(ca: &Path, crl: &Path) -> anyhow::Result<Arc<dyn ClientCertVerifier>> {
    let authorities = Arc::new(roots(ca)?.authorities);
    let mut verifier = WebPkiClientVerifier::builder_with_provider(authorities, provider()).allow_unauthenticated();
    if !crl.as_os_str().is_empty() {
        let lists =
            CertificateRevocationListDer::pem_file_iter(crl).and_then(|lists| lists.collect::<Result<Vec<_>, _>>());
        let lists = lists.map_err(|error| anyhow::anyhow!("{}: {error}", crl.display()))?;
        anyhow::ensure!(!lists.is_empty(), "{}: no list of revoked certificates in it", crl.display());
        // As OpenSSL does for PostgreSQL, which refuses a list that is out of date.
        verifier = verifier.with_crls(lists).enforce_revocation_expiration();
    }
    verifier.build().with_context(|| format!("{} {}", ca.display(), crl.display()))
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn root_file(root: &Root) -> PathBuf {
    match root {
        Root::File(path) => path.clone(),
        // As OpenSSL has it.
        Root::System => std::env::var_os("SSL_CERT_FILE").map(PathBuf::from).unwrap_or_else(|| {
            SYSTEM_ROOTS.iter().map(PathBuf::from).find(|path| path.exists()).unwrap_or_else(|| SYSTEM_ROOTS[0].into())
        }),
    }
}

fn roots(file: &Path) -> anyhow::Result<Roots> {
    let themselves = certificates(file)?;
    let mut authorities = RootCertStore::empty();
    let (good, bad) = authorities.add_parsable_certificates(themselves.iter().cloned());
    anyhow::ensure!(good > 0, "{}: no certificate of an authority in it ({bad} unreadable)", file.display());
    Ok(Roots { authorities, themselves })
}

fn certificates(file: &Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let read = CertificateDer::pem_file_iter(file).and_then(|list| list.collect());
    read.map_err(|error| anyhow::anyhow!("{}: {error}", file.display()))
}

fn private_key(file: &Path) -> anyhow::Result<PrivateKeyDer<'static>> {
    PrivateKeyDer::from_pem_file(file)
        .map_err(|error| anyhow::anyhow!("{}: no private key in it: {error}", file.display()))
}
