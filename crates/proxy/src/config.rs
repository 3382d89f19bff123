//! Settings: one definition each (name, type, default, text), read from a TOML file or the command line.
//! Every complaint names the file, the line and the key.

mod allow;
mod url;

use std::net::SocketAddr;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use highwater_core::Level;
use serde::de::{self, Deserializer};
use serde::{Deserialize, Serialize, Serializer};

pub(crate) use self::allow::Caller;
pub use self::allow::{Addresses, AllowConfig, Auth, CertConfig, Names};
pub use self::url::{ChannelBinding, Root, ServerTls, ServerUrl, SslMode};
use crate::net::KeepAlive;
use crate::text;

/// Defines the flat settings once: field, default and text; `SHOW CONFIG` and the file both come from it.
macro_rules! settings {
    ($($(#[doc = $text:literal])+ $name:ident: $kind:ty = $default:expr;)+) => {
        /// All settings. Absent keys have the defaults given here.
        #[derive(Clone, Debug, Deserialize)]
        #[serde(deny_unknown_fields, default)]
        pub struct Config {
            $($(#[doc = $text])+ pub $name: $kind,)+
            /// The PostgreSQL servers; which one is the primary is discovered.
            #[serde(rename = "server")]
            pub servers: Vec<ServerConfig>,
            /// Users with passwords, levels or limits of their own; others may connect too.
            #[serde(rename = "user")]
            pub users: Vec<UserConfig>,
            /// Defaults by database.
            #[serde(rename = "database")]
            pub databases: Vec<DatabaseConfig>,
            /// Tables whose reads have a level of their own.
            #[serde(rename = "table")]
            pub tables: Vec<TableConfig>,
            /// Who may connect; the first entry that fits decides. Without entries everybody may try.
            pub allow: Vec<AllowConfig>,
            /// Whose certificates are.
            #[serde(rename = "cert")]
            pub certificates: Vec<CertConfig>,
        }

        impl Default for Config {
            fn default() -> Self {
                Self {
                    $($name: $default,)+
                    servers: vec![],
                    users: vec![],
                    databases: vec![],
                    tables: vec![],
                    allow: vec![],
                    certificates: vec![],
                }
            }
        }

        impl Config {
            /// The flat settings as (name, value, meaning).
            pub fn rows(&self) -> Vec<(&'static str, String, String)> {
                vec![$((stringify!($name), setting_text(&self.$name), [$($text.trim()),+].join(" "))),+]
            }
        }
    };
}

settings! {
    /// Where clients connect: `address:port`, or `unix:/directory` for a socket `.s.PGSQL.<port>` there.
    listen: Vec<Listen> = vec![Listen::Tcp(SocketAddr::from(([127, 0, 0, 1], 6432)))];
    /// How clients prove who they are where no `[[allow]]` entry says otherwise: `scram` (a password), `cert` (a certificate
    /// that names them), `trust` (whoever reaches the listener) or `reject`.
    auth: Auth = Auth::Scram;
    /// A file of lines "user" "password", the password as it is or as PostgreSQL stores it; read again when it changes.
    password_file: PathBuf = PathBuf::new();
    /// The statement that yields a role's name and stored password for $1; empty for highwater.lookup($1), which `highwater
    /// auth-sql` makes, or pg_authid where it may be read.
    auth_query: String = String::new();
    /// The role that runs it, with the password of its [[user]] entry; empty for the role of the server URLs.
    auth_user: String = String::new();
    /// How long an answer of it serves further logins. With 0 each login asks, and logins at the same time share a question.
    auth_query_cache: Span = Span(Duration::ZERO);
    /// Whether clients get TLS: `disable`, `allow` or `require`. Unix sockets never have it.
    client_tls: ClientTls = ClientTls::Allow;
    /// The certificate that clients are shown, with those of its authorities behind it; without one there is no TLS.
    tls_cert: PathBuf = PathBuf::new();
    /// Its key.
    tls_key: PathBuf = PathBuf::new();
    /// The authorities that sign clients' certificates.
    client_ca: PathBuf = PathBuf::new();
    /// The certificates that these authorities have revoked: a list of each, in one file.
    client_crl: PathBuf = PathBuf::new();
    /// What clients show over TCP: `none`, `optional` (a good certificate or none), `verify-ca` (a good one) or `verify-full`
    /// (one that names the user).
    client_cert: ClientCert = ClientCert::None;
    /// Who may open a Unix socket, as chmod takes it.
    unix_socket_mode: SocketMode = SocketMode(0o777);
    /// Threads that carry traffic.
    workers: usize = std::thread::available_parallelism().map_or(1, |cores| (cores.get() / 2).max(1));
    /// The level of a client that names no session and asks for nothing.
    consistency: Consistency = Consistency(Level::Strong);
    /// The staleness that the level `bounded` allows.
    max_lag: Span = Span(Duration::from_secs(10));
    /// How long a read may wait for a standby to have replayed far enough, before the primary is asked.
    wait_budget: Span = Span(Duration::from_millis(10));
    /// Where the first reads of a READ COMMITTED transaction run: `primary`, or `standby` until it does anything else.
    transaction_reads: TransactionReads = TransactionReads::Primary;
    /// How long what must run on the primary may wait until the primary shows what the session saw on a standby.
    visibility_timeout: Span = Span(Duration::from_secs(5));
    /// How long a client that sets highwater.wait_for_standbys waits behind a commit until so many standbys show it.
    standbys_timeout: Span = Span(Duration::from_secs(1));
    /// How long what must run on the primary may wait for one while there is none.
    failover_wait: Span = Span(Duration::from_secs(10));
    /// How a session is told, before anything else, that a failover has lost what it wrote or saw: `warning`, or `error`, which
    /// fails its next statement.
    lost_writes: LostWrites = LostWrites::Warning;
    /// How many reads at once may fall back to the primary because no standby was fresh enough.
    primary_fallback_max: u32 = 64;
    /// How far session positions are trusted: `any` (always right) or `sync_only` (nobody uses synchronous_commit=off; once
    /// somebody may, `any` is used until the next start).
    commit_visibility: Visibility = Visibility::Any;
    /// The most server connections per user, database and server.
    pool_size: usize = 20;
    /// So many of them are kept open while the pool has clients, so that these find one. They are opened behind clients' backs.
    pool_size_min: usize = 0;
    /// How long a server connection lives; it is closed when nobody uses it. Each ends up to a tenth earlier, so that they do
    /// not all end at once. 0 for ever.
    server_lifetime: Span = Span(Duration::from_secs(60 * 60));
    /// How long a server connection beyond `pool_size_min` stays open without use; 0 for ever.
    server_idle_timeout: Span = Span(Duration::from_secs(10 * 60));
    /// How long a client may wait for a server connection.
    checkout_timeout: Span = Span(Duration::from_secs(15));
    /// How long a client may wait for a server that an administrator has paused.
    pause_timeout: Span = Span(Duration::from_secs(120));
    /// How long connecting to a server may take.
    connect_timeout: Span = Span(Duration::from_secs(5));
    /// How long a client may take to log in.
    login_timeout: Span = Span(Duration::from_secs(30));
    /// How long a client may take nothing of its answer before it is cut off.
    client_stall_timeout: Span = Span(Duration::from_secs(60));
    /// How long a write by itself goes on whose client has gone, before it is cancelled; 0 to its end. Whatever leaves nothing
    /// without its client is cancelled at once: reads, and statements of a transaction that is rolled back.
    client_gone_timeout: Span = Span(Duration::from_secs(60));
    /// How long a client may be idle outside of transactions before it is cut off; 0 for ever.
    client_idle_timeout: Span = Span(Duration::ZERO);
    /// How long a client may be idle inside a transaction before it is cut off and the transaction rolled back; 0 for ever.
    idle_in_transaction_timeout: Span = Span(Duration::ZERO);
    /// How long a statement may take, from its arrival until its answer has been passed on, before it is cancelled; 0 for ever.
    query_timeout: Span = Span(Duration::ZERO);
    /// After so long a silence TCP asks a peer, client or server, whether it is still there; 0 leaves it to the system.
    tcp_keepalives_idle: Span = Span(Duration::from_secs(60));
    /// How long TCP waits for an answer before it asks again; 0 leaves it to the system.
    tcp_keepalives_interval: Span = Span(Duration::from_secs(10));
    /// So many questions without an answer end a connection; 0 leaves it to the system.
    tcp_keepalives_count: u32 = 3;
    /// How long a peer may leave what was sent to it without acknowledgement or take nothing, before the connection ends; 0
    /// leaves it to the system. Clients that may stall, and servers that may be long in taking a COPY, need more than they do.
    tcp_user_timeout: Span = Span(Duration::ZERO);
    /// Users who may use the console, beside those of the server URLs.
    admins: Vec<String> = vec![];
    /// Clients at once.
    clients_max: usize = 10_000;
    /// The largest message accepted from a client, in bytes. Rows to the client are streamed and have no limit.
    message_bytes_max: usize = 64 * 1024 * 1024;
    /// The least time between two position probes of one server, on an average: the bound on probe load. After a time of
    /// fewer probes a hundred may follow each other at once.
    probe_gap: Span = Span(Duration::from_millis(1));
    /// The time between position probes of a server while there is traffic and nobody waits.
    probe_interval: Span = Span(Duration::from_millis(10));
    /// The time between position probes of an idle server.
    probe_interval_idle: Span = Span(Duration::from_secs(1));
    /// How long a server's role and position are believed without news.
    evidence_age_max: Span = Span(Duration::from_secs(3));
    /// Session keys remembered by this process.
    sessions_max: usize = 100_000;
    /// How often the catalogue (functions, views, tables) is read again, beside after DDL.
    catalog_refresh: Span = Span(Duration::from_secs(60));
    /// Different statement texts whose classification is remembered.
    statement_cache: usize = 20_000;
    /// Prepared statements kept on one server connection.
    prepared_max: usize = 500;
}

/// One PostgreSQL server.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServerConfig {
    /// Its name in the console and in `database@NAME`; `server1`, `server2` ... when absent.
    #[serde(default)]
    pub name: String,
    /// `postgres://user:password@host:port/database`: the role that probes positions.
    pub url: ServerUrl,
}

/// One user who may connect.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UserConfig {
    /// The role's name, the same for clients and on the servers.
    pub name: String,
    /// The password, for logging in here and there: as it is, or as PostgreSQL stores it.
    pub password: Option<Password>,
    /// Overrides `consistency` for this user.
    pub consistency: Option<Consistency>,
    /// Its clients at once.
    pub clients_max: Option<usize>,
    /// Its connections to one server, over all databases.
    pub server_connections_max: Option<usize>,
}

/// Defaults of one database.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatabaseConfig {
    /// The database's name.
    pub name: String,
    /// Overrides `consistency`; a user's own setting comes first.
    pub consistency: Option<Consistency>,
    /// Its clients at once.
    pub clients_max: Option<usize>,
    /// Its connections to one server, over all users.
    pub server_connections_max: Option<usize>,
}

/// The level of one table's reads.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TableConfig {
    /// `table` or `schema.table`.
    pub name: String,
    /// A statement that reads several tables takes the strictest of their levels.
    pub consistency: Consistency,
}

/// A level as text: `strong`, `session`, `bounded`, `eventual`, `primary`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Consistency(pub Level);

/// A password, which is never printed.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Password(pub String);

impl Deref for Password {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Password {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Password(secret)")
    }
}

/// Whether clients get TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ClientTls {
    /// Never.
    Disable,
    /// If they ask for it.
    Allow,
    /// Or they are refused.
    Require,
}

/// What certificates clients show.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ClientCert {
    /// They are not asked for one.
    None,
    /// A good one or none.
    Optional,
    /// A good one.
    VerifyCa,
    /// A good one that names the user.
    VerifyFull,
}

/// The permissions of a Unix socket, in octal as chmod takes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SocketMode(pub u32);

/// Where plain reads at the head of a transaction run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TransactionReads {
    /// With the rest of the transaction.
    Primary,
    /// On a standby, if its level allows; the transaction moves to the primary at its first other statement.
    Standby,
}

/// How a loss is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LostWrites {
    /// A WARNING; the statement runs.
    Warning,
    /// An ERROR instead of the statement.
    Error,
}

/// Which of the primary's positions bounds what was acknowledged or visible.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Visibility {
    /// The insert position: right for every `synchronous_commit`.
    Any,
    /// The flush position: tighter, and right only while nobody commits asynchronously.
    SyncOnly,
}

/// A duration as text: `10ms`, `2s`, `1.5s`, `5min`; a bare number counts milliseconds, as in PostgreSQL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span(pub Duration);

/// Where clients connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    /// A TCP address.
    Tcp(SocketAddr),
    /// A directory for a Unix socket named as PostgreSQL names its own.
    Unix(PathBuf),
}

impl Config {
    /// Reads a TOML file. The complaint names file, line, column and key.
    pub fn from_file(path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path).map_err(|error| anyhow::anyhow!("{}: {error}", path.display()))?;
        Self::from_toml(&text).map_err(|error| anyhow::anyhow!("{}: {error}", path.display()))
    }

    /// Reads TOML text; see [`Config::from_file`].
    pub fn from_toml(text: &str) -> anyhow::Result<Self> {
        Ok(toml::from_str(text)?)
    }

    /// Names the unnamed servers and refuses what cannot work. Call it once everything is collected.
    pub fn complete(mut self) -> anyhow::Result<Self> {
        for (index, server) in self.servers.iter_mut().enumerate() {
            if server.name.is_empty() {
                server.name = format!("server{}", index + 1);
            }
        }
        self.complain()?;
        Ok(self)
    }

    fn complain(&self) -> anyhow::Result<()> {
        anyhow::ensure!(!self.servers.is_empty(), "server: none given; use --server postgres://... or [[server]]");
        anyhow::ensure!(self.servers.len() <= 64, "server: at most 64");
        anyhow::ensure!(!self.listen.is_empty(), "listen: no address given");
        for (index, server) in self.servers.iter().enumerate() {
            let reserved = ["primary", "replica"].contains(&server.name.as_str());
            anyhow::ensure!(!reserved || self.servers.len() > 1, "server.name: {} is reserved", server.name);
            let twice = self.servers[..index].iter().any(|other| other.name == server.name);
            anyhow::ensure!(!twice, "server.name: {} is given twice", server.name);
        }
        for (name, value) in
            [("pool_size", self.pool_size), ("workers", self.workers), ("clients_max", self.clients_max)]
        {
            anyhow::ensure!(value > 0, "{name}: must be at least 1");
        }
        anyhow::ensure!(self.pool_size_min <= self.pool_size, "pool_size_min: must not exceed pool_size");
        let evidence = self.evidence_age_max.0;
        anyhow::ensure!(evidence > self.probe_interval_idle.0, "evidence_age_max: must exceed probe_interval_idle");
        self.complain_about_login()
    }

    fn complain_about_login(&self) -> anyhow::Result<()> {
        let given = |path: &PathBuf| !path.as_os_str().is_empty();
        anyhow::ensure!(given(&self.tls_cert) == given(&self.tls_key), "tls_key: it goes together with tls_cert");
        let offers = given(&self.tls_cert) && self.client_tls != ClientTls::Disable;
        anyhow::ensure!(
            offers || self.client_tls != ClientTls::Require,
            "client_tls: require needs tls_cert and tls_key"
        );
        anyhow::ensure!(
            self.client_cert == ClientCert::None || (offers && given(&self.client_ca)),
            "client_cert: it needs tls_cert, tls_key and client_ca"
        );
        let lists = given(&self.client_crl);
        anyhow::ensure!(
            !lists || self.client_cert != ClientCert::None,
            "client_crl: it needs client_ca and client_cert"
        );
        let by_certificate = self.allow.iter().position(|entry| entry.method == Some(Auth::Cert));
        let asks = self.client_cert != ClientCert::None;
        if let (Some(index), false) = (by_certificate, asks) {
            anyhow::bail!("allow: entry {}, method: cert needs client_cert = \"optional\" or more", index + 1);
        }
        anyhow::ensure!(self.auth != Auth::Cert || asks, "auth: cert needs client_cert = \"optional\" or more");
        let limits = self.users.iter().map(|user| (&user.name, user.server_connections_max));
        let limits =
            limits.chain(self.databases.iter().map(|database| (&database.name, database.server_connections_max)));
        for (name, limit) in limits {
            anyhow::ensure!(limit != Some(0), "server_connections_max: {name} needs at least 1");
        }
        Ok(())
    }

    /// How peers are noticed that are gone without a word.
    pub(crate) fn keep_alive(&self) -> KeepAlive {
        KeepAlive {
            idle: self.tcp_keepalives_idle.0,
            interval: self.tcp_keepalives_interval.0,
            count: self.tcp_keepalives_count,
            user_timeout: self.tcp_user_timeout.0,
        }
    }

    /// How this client proves who he is; `None` where no entry fits.
    pub(crate) fn method(&self, caller: &Caller<'_>) -> Option<Auth> {
        if self.allow.is_empty() {
            return Some(self.auth);
        }
        self.allow.iter().find(|entry| entry.fits(caller)).map(|entry| entry.method.unwrap_or(self.auth))
    }

    /// Whether a certificate with this common name is the user's: by its own name unless an entry says whose it is.
    pub(crate) fn names_user(&self, common_name: &str, user: &str) -> bool {
        let mut entries = self.certificates.iter().filter(|entry| entry.fits(common_name)).peekable();
        if entries.peek().is_none() { common_name == user } else { entries.any(|entry| entry.user == user) }
    }

    /// The password of `user`: its own entry's, else that of the first server URL with this user.
    pub(crate) fn password(&self, user: &str) -> Option<&str> {
        let listed = self.user(user).and_then(|entry| entry.password.as_deref());
        listed.or_else(|| {
            self.servers.iter().find(|server| server.url.user == user).and_then(|server| server.url.password.as_deref())
        })
    }

    /// The entry of `user`.
    pub(crate) fn user(&self, user: &str) -> Option<&UserConfig> {
        self.users.iter().find(|entry| entry.name == user)
    }

    /// The level that a client of `user` and `database` begins with.
    pub(crate) fn level(&self, user: &str, database: &str) -> Level {
        let by_user = self.users.iter().find(|entry| entry.name == user).and_then(|entry| entry.consistency);
        let by_database =
            || self.databases.iter().find(|entry| entry.name == database).and_then(|entry| entry.consistency);
        by_user.or_else(by_database).unwrap_or(self.consistency).0
    }

    /// Whether an operator said what unnamed clients of `user` and `database` get.
    pub(crate) fn names_level(&self, user: &str, database: &str) -> bool {
        self.users.iter().any(|entry| entry.name == user && entry.consistency.is_some())
            || self.databases.iter().any(|entry| entry.name == database && entry.consistency.is_some())
            || self.consistency != Consistency(Level::Strong)
    }
}

impl FromStr for Listen {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some(path) = text.strip_prefix("unix:") {
            return Ok(Self::Unix(path.into()));
        }
        text.parse().map(Self::Tcp).map_err(|_| anyhow::anyhow!("{text:?} is neither address:port nor unix:/directory"))
    }
}

impl FromStr for SocketMode {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mode = u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o777);
        mode.map(Self).ok_or_else(|| anyhow::anyhow!("{text:?} is no mode such as 0770"))
    }
}

impl FromStr for Span {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text::duration(text)
            .map(Self)
            .ok_or_else(|| anyhow::anyhow!("{text:?} is not a duration such as 10ms, 2s or 5min"))
    }
}

impl FromStr for Consistency {
    type Err = anyhow::Error;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        text::level(name)
            .map(Self)
            .ok_or_else(|| anyhow::anyhow!("{name:?} is not a level: strong, session, bounded, eventual or primary"))
    }
}

macro_rules! as_text {
    ($($kind:ty => |$value:ident| $shown:expr;)+) => {$(
        impl<'de> Deserialize<'de> for $kind {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                String::deserialize(from)?.parse().map_err(de::Error::custom)
            }
        }

        impl Serialize for $kind {
            fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                let $value = self;
                to.serialize_str($shown.as_ref())
            }
        }
    )+};
}

as_text! {
    Span => |span| text::show_duration(span.0);
    Consistency => |level| text::level_name(&level.0);
    SocketMode => |mode| format!("{:04o}", mode.0);
    Listen => |listen| match listen { Listen::Tcp(address) => address.to_string(), Listen::Unix(path) => format!("unix:{}", path.display()) };
    ServerUrl => |url| format!("postgres://{}@{}/{}", url.user, url.address, url.database);
}

/// A setting's value as the console shows it.
fn setting_text<T: Serialize>(value: &T) -> String {
    if let Ok(toml::Value::String(text)) = toml::Value::try_from(value) {
        return text;
    }
    let mut text = String::new();
    let written = value.serialize(toml::ser::ValueSerializer::new(&mut text)).map(drop);
    written.map_or_else(|error| error.to_string(), |()| text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complaint(text: &str) -> String {
        Config::from_toml(text).expect_err("must complain").to_string()
    }

    #[test]
    fn the_largest_number_is_shown_as_it_is() {
        let config =
            Config::from_toml("workers = 18446744073709551615\nadmins = [\"ann\"]").expect("a number of workers");
        let shown = |name| config.rows().into_iter().find(|row| row.0 == name).expect("a setting").1;
        assert_eq!([shown("workers"), shown("admins")], ["18446744073709551615", "[\"ann\"]"]);
    }

    #[test]
    fn complaints_name_line_and_key() {
        let unknown = complaint("workers = 1\nwait_budgte = \"1ms\"\n");
        assert!(unknown.contains("line 2") && unknown.contains("wait_budgte"), "{unknown}");
        let wrong = complaint("wait_budget = \"soon\"");
        assert!(wrong.contains("line 1") && wrong.contains("wait_budget") && wrong.contains("soon"), "{wrong}");
        let url = complaint("[[server]]\nurl = \"mysql://x\"");
        assert!(url.contains("line 2") && url.contains("postgres://"), "{url}");
    }

    #[test]
    fn levels_follow_user_then_database_then_default() {
        let config = Config::from_toml(
            "consistency = 'eventual'\n[[user]]\nname='u'\nconsistency='primary'\n[[database]]\nname='d'\nconsistency='session'",
        )
        .expect("valid");
        assert_eq!(config.level("u", "d"), Level::Primary);
        assert_eq!(config.level("x", "d"), Level::Session);
        assert_eq!(config.level("x", "y"), Level::Eventual);
    }
}
