//! A certificate that proxies show to clients, and the clients who believe it.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

/// For 127.0.0.1, signed by itself.
pub(super) struct Certificate {
    pub(super) cert: PathBuf,
    pub(super) key: PathBuf,
    _folder: tempfile::TempDir,
}

impl Certificate {
    /// Has `openssl` make one, which PostgreSQL's packages bring along.
    pub(super) fn make() -> Result<Self> {
        let folder = tempfile::tempdir().context("no temporary folder")?;
        let [cert, key] = ["cert.pem", "key.pem"].map(|name| folder.path().join(name));
        let mut command = Command::new("openssl");
        command.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]);
        command.args(["-subj", "/CN=bench", "-days", "1", "-addext", "subjectAltName=IP:127.0.0.1"]);
        command.args(["-addext", "basicConstraints=critical,CA:FALSE"]);
        let output = command.arg("-out").arg(&cert).arg("-keyout").arg(&key).output().context("cannot run openssl")?;
        ensure!(output.status.success(), "openssl: {}", String::from_utf8_lossy(&output.stderr));
        // PgBouncer reads them as somebody else.
        for path in [folder.path(), &cert, &key] {
            open_to_all(path)?;
        }
        Ok(Self { cert, key, _folder: folder })
    }

    /// What a client needs who trusts it.
    pub(super) fn client(&self) -> Result<Arc<ClientConfig>> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(&self.cert)?)?;
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let builder = builder.with_safe_default_protocol_versions()?.with_root_certificates(roots);
        Ok(Arc::new(builder.with_no_client_auth()))
    }
}

fn open_to_all(path: &Path) -> Result<()> {
    std::fs::set_permissions(path, Permissions::from_mode(0o755)).context("cannot open the certificate's folder")
}
