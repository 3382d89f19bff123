//! The URL of a server: libpq's form, taken apart. TLS parameters have libpq's names and meanings; nothing is looked for
//! in anybody's home folder.

use std::path::PathBuf;
use std::str::FromStr;

use super::Password;
use crate::net::Address;

/// A server's URL, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerUrl {
    /// Where it listens.
    pub address: Address,
    /// The probing role.
    pub user: String,
    /// Its password.
    pub password: Option<Password>,
    /// The database that probes connect to.
    pub database: String,
    /// How connections to it are encrypted.
    pub tls: ServerTls,
}

/// How connections to one server are encrypted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerTls {
    /// `sslmode`
    pub mode: SslMode,
    /// `sslrootcert`
    pub root: Option<Root>,
    /// `sslcert` and `sslkey`: what Highwater shows to the server.
    pub own: Option<(PathBuf, PathBuf)>,
    /// `sslnegotiation=direct`: TLS from the first byte (PostgreSQL 17).
    pub direct: bool,
    /// `channel_binding`
    pub binding: ChannelBinding,
}

/// libpq's `sslmode`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum SslMode {
    /// Never TLS.
    Disable,
    /// TLS where the server will not have it otherwise.
    Allow,
    /// TLS where the server has it.
    #[default]
    Prefer,
    /// TLS, whoever the server is; with `sslrootcert` as `verify-ca`, as in libpq.
    Require,
    /// TLS with a server whose certificate is signed by the root.
    VerifyCa,
    /// And the certificate names the host of the URL.
    VerifyFull,
}

/// libpq's `sslrootcert`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Root {
    /// The operating system's list of authorities.
    System,
    /// A file of certificates.
    File(PathBuf),
}

/// libpq's `channel_binding`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ChannelBinding {
    /// Never.
    Disable,
    /// Where the server offers it.
    #[default]
    Prefer,
    /// Or no login.
    Require,
}

impl FromStr for ServerUrl {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // libpq's form for sockets, user@/database?host=/directory, has no host where a URL wants one.
        let url = url::Url::parse(&text.replacen("@/", "@localhost/", 1))
            .map_err(|error| anyhow::anyhow!("not a URL ({error})"))?;
        anyhow::ensure!(["postgres", "postgresql"].contains(&url.scheme()), "the scheme must be postgres://");
        let decode = |part: &str| percent_encoding::percent_decode_str(part).decode_utf8_lossy().into_owned();
        let mut host = url.host_str().map(|host| decode(host.trim_matches(['[', ']']))).unwrap_or_default();
        let mut port = url.port().unwrap_or(5432);
        let mut tls = Parameters::default();
        for (key, value) in url.query_pairs() {
            match key.as_ref() {
                "host" => host = value.into_owned(),
                "port" => port = value.parse().map_err(|_| anyhow::anyhow!("port={value} is no port"))?,
                _ => tls.take(&key, &value)?,
            }
        }
        let address = if host.starts_with('/') {
            Address::Unix(PathBuf::from(host).join(format!(".s.PGSQL.{port}")))
        } else {
            anyhow::ensure!(!host.is_empty(), "the host is missing");
            Address::Tcp(host, port)
        };
        let user = decode(url.username());
        anyhow::ensure!(!user.is_empty(), "the user is missing: postgres://USER@host/database");
        let path = decode(url.path().trim_start_matches('/'));
        let database = if path.is_empty() { user.clone() } else { path };
        let password = url.password().map(|text| Password(decode(text)));
        Ok(Self { address, user, password, database, tls: tls.complete()? })
    }
}

/// What a URL says about TLS, before it is known to fit together.
#[derive(Default)]
struct Parameters {
    tls: ServerTls,
    mode_given: bool,
    cert: Option<PathBuf>,
    key: Option<PathBuf>,
}

impl Parameters {
    fn take(&mut self, key: &str, value: &str) -> anyhow::Result<()> {
        match key {
            "sslmode" => {
                self.mode_given = true;
                self.tls.mode = match value {
                    "disable" => SslMode::Disable,
                    "allow" => SslMode::Allow,
                    "prefer" => SslMode::Prefer,
                    "require" => SslMode::Require,
                    "verify-ca" => SslMode::VerifyCa,
                    "verify-full" => SslMode::VerifyFull,
                    _ => anyhow::bail!(
                        "sslmode={value}: there are disable, allow, prefer, require, verify-ca and verify-full"
                    ),
                };
            }
            "sslrootcert" if value == "system" => self.tls.root = Some(Root::System),
            "sslrootcert" => self.tls.root = Some(Root::File(value.into())),
            "sslcert" => self.cert = Some(value.into()),
            "sslkey" => self.key = Some(value.into()),
            "sslnegotiation" => match value {
                "postgres" => self.tls.direct = false,
                "direct" => self.tls.direct = true,
                _ => anyhow::bail!("sslnegotiation={value}: there are postgres and direct"),
            },
            "channel_binding" => {
                self.tls.binding = match value {
                    "disable" => ChannelBinding::Disable,
                    "prefer" => ChannelBinding::Prefer,
                    "require" => ChannelBinding::Require,
                    _ => anyhow::bail!("channel_binding={value}: there are disable, prefer and require"),
                };
            }
            other => anyhow::bail!("the parameter {other} is not supported"),
        }
        Ok(())
    }

    /// Refuses what contradicts itself, as libpq does.
    fn complete(mut self) -> anyhow::Result<ServerTls> {
        let tls = &mut self.tls;
        if tls.root == Some(Root::System) {
            if !self.mode_given {
                tls.mode = SslMode::VerifyFull;
            }
            // Whoever may buy a certificate must not pass for the server.
            anyhow::ensure!(tls.mode == SslMode::VerifyFull, "sslrootcert=system needs sslmode=verify-full");
        }
        anyhow::ensure!(
            tls.mode < SslMode::VerifyCa || tls.root.is_some(),
            "sslmode=verify-ca and verify-full need sslrootcert: a file, or system"
        );
        anyhow::ensure!(
            !tls.direct || tls.mode >= SslMode::Require,
            "sslnegotiation=direct needs sslmode=require or more"
        );
        tls.own = match (self.cert, self.key) {
            (None, None) => None,
            (Some(cert), Some(key)) => Some((cert, key)),
            _ => anyhow::bail!("sslcert and sslkey go together"),
        };
        Ok(self.tls)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> anyhow::Result<ServerUrl> {
        text.parse()
    }

    #[test]
    fn urls_are_taken_apart() {
        let url = read("postgres://u%40x:p%2Fw@db:5433/shop").expect("a URL");
        assert_eq!((url.user.as_str(), url.password.as_deref(), url.database.as_str()), ("u@x", Some("p/w"), "shop"));
        assert_eq!(url.address, Address::Tcp("db".into(), 5433));
        assert!(!format!("{url:?}").contains("p/w"));
        let unix = read("postgres://u@/shop?host=/run/pg").expect("a URL");
        assert_eq!(unix.address, Address::Unix("/run/pg/.s.PGSQL.5432".into()));
        let unix = read("postgres://u@/shop?host=/run/pg&port=5433").expect("a URL");
        assert_eq!(unix.address, Address::Unix("/run/pg/.s.PGSQL.5433".into()));
        assert_eq!(read("postgres://u@%2Frun%2Fpg:5433/shop").expect("a URL").address, unix.address);
        assert_eq!(read("postgres://u@[::1]/d").expect("a URL").address, Address::Tcp("::1".into(), 5432));
    }

    #[test]
    fn tls_parameters_are_those_of_libpq() {
        let tls = |query: &str| read(&format!("postgres://u@db/shop?{query}")).map(|url| url.tls);
        assert_eq!(tls("").expect("valid").mode, SslMode::Prefer);
        let full = tls("sslmode=verify-full&sslrootcert=/ca.pem&sslcert=/c.pem&sslkey=/k.pem&channel_binding=require");
        let full = full.expect("valid");
        assert_eq!((full.mode, full.root), (SslMode::VerifyFull, Some(Root::File("/ca.pem".into()))));
        assert_eq!(full.own, Some(("/c.pem".into(), "/k.pem".into())));
        assert_eq!(tls("sslrootcert=system").expect("valid").mode, SslMode::VerifyFull);
        for bad in [
            "sslmode=always",
            "sslmode=verify-ca",
            "sslcert=/c.pem",
            "sslnegotiation=direct",
            "sslmode=require&sslrootcert=system",
            "channel_binding=maybe",
            "sslpassword=x",
        ] {
            tls(bad).expect_err(bad);
        }
    }
}
