//! Settings: one definition each (name, type, default, text), read from a TOML file or the command line.
//! Every complaint names the file, the line and the key.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use highwater_core::Level;
use serde::de::{self, Deserializer};
use serde::{Deserialize, Serialize, Serializer};

use crate::net::Address;
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
            /// Who may connect, with a password where `auth = "scram"`.
            #[serde(rename = "user")]
            pub users: Vec<UserConfig>,
            /// Defaults by database.
            #[serde(rename = "database")]
            pub databases: Vec<DatabaseConfig>,
            /// Tables whose reads have a level of their own.
            #[serde(rename = "table")]
            pub tables: Vec<TableConfig>,
        }

        impl Default for Config {
            fn default() -> Self {
                Self { $($name: $default,)+ servers: vec![], users: vec![], databases: vec![], tables: vec![] }
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
    /// How clients prove who they are: `scram` (a password known here) or `trust` (whoever reaches the listener).
    auth: Auth = Auth::Scram;
    /// Threads that carry traffic.
    workers: usize = std::thread::available_parallelism().map_or(1, |cores| (cores.get() / 2).max(1));
    /// The level of a client that names no session and asks for nothing.
    consistency: Consistency = Consistency(Level::Strong);
    /// The staleness that the level `bounded` allows.
    max_lag: Span = Span(Duration::from_secs(10));
    /// How long a read may wait for a standby to have replayed far enough, before the primary is asked.
    wait_budget: Span = Span(Duration::from_millis(10));
    /// How long what must run on the primary may wait until the primary shows what the session saw on a standby.
    visibility_timeout: Span = Span(Duration::from_secs(5));
    /// How many reads at once may fall back to the primary because no standby was fresh enough.
    primary_fallback_max: u32 = 64;
    /// How far session positions are trusted: `any` (always right) or `sync_only` (nobody uses synchronous_commit=off).
    commit_visibility: Visibility = Visibility::Any;
    /// Server connections per user, database and server.
    pool_size: usize = 20;
    /// How long a client may wait for a server connection.
    checkout_timeout: Span = Span(Duration::from_secs(15));
    /// How long connecting to a server may take.
    connect_timeout: Span = Span(Duration::from_secs(5));
    /// How long a client may take to log in.
    login_timeout: Span = Span(Duration::from_secs(30));
    /// How long a client may take nothing of its answer before it is cut off.
    client_stall_timeout: Span = Span(Duration::from_secs(60));
    /// Users who may use the console, beside those of the server URLs.
    admins: Vec<String> = vec![];
    /// Clients at once.
    clients_max: usize = 10_000;
    /// The largest message accepted from a client, in bytes. Rows to the client are streamed and have no limit.
    message_bytes_max: usize = 64 * 1024 * 1024;
    /// The least time between two position probes of one server: the bound on probe load.
    probe_gap: Span = Span(Duration::from_millis(1));
    /// The time between position probes of a server while there is traffic and nobody waits.
    probe_interval: Span = Span(Duration::from_millis(10));
    /// The time between position probes of an idle server, and between checks of its role and timeline.
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
    /// The password, for logging in here and there.
    pub password: Option<String>,
    /// Overrides `consistency` for this user.
    pub consistency: Option<Consistency>,
}

/// Defaults of one database.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatabaseConfig {
    /// The database's name.
    pub name: String,
    /// Overrides `consistency`; a user's own setting comes first.
    pub consistency: Option<Consistency>,
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

/// How clients prove who they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Auth {
    /// SCRAM-SHA-256 with a password known to the configuration.
    Scram,
    /// No proof: whoever reaches the listener is who he says.
    Trust,
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

/// A server's URL, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerUrl {
    /// Where it listens.
    pub address: Address,
    /// The probing role.
    pub user: String,
    /// Its password.
    pub password: Option<String>,
    /// The database that probes connect to.
    pub database: String,
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
        let evidence = self.evidence_age_max.0;
        anyhow::ensure!(evidence > self.probe_interval_idle.0, "evidence_age_max: must exceed probe_interval_idle");
        Ok(())
    }

    /// The password of `user`: its own entry's, else that of the first server URL with this user.
    pub(crate) fn password(&self, user: &str) -> Option<&str> {
        let listed = self.users.iter().find(|entry| entry.name == user).and_then(|entry| entry.password.as_deref());
        listed.or_else(|| {
            self.servers.iter().find(|server| server.url.user == user).and_then(|server| server.url.password.as_deref())
        })
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

impl FromStr for ServerUrl {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // libpq's form for sockets, user@/database?host=/directory, has no host where a URL wants one.
        let url = url::Url::parse(&text.replacen("@/", "@localhost/", 1))
            .map_err(|error| anyhow::anyhow!("not a URL ({error})"))?;
        anyhow::ensure!(["postgres", "postgresql"].contains(&url.scheme()), "the scheme must be postgres://");
        let decode = |part: &str| percent_encoding::percent_decode_str(part).decode_utf8_lossy().into_owned();
        let mut host = url.host_str().map(decode).unwrap_or_default();
        for (key, value) in url.query_pairs() {
            match key.as_ref() {
                "host" => host = value.into_owned(),
                "sslmode" => anyhow::ensure!(
                    ["disable", "allow", "prefer"].contains(&value.as_ref()),
                    "sslmode={value} is not supported: connections to servers are not encrypted"
                ),
                other => anyhow::bail!("the parameter {other} is not supported"),
            }
        }
        let port = url.port().unwrap_or(5432);
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
        Ok(Self { address, user, password: url.password().map(decode), database })
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
    Listen => |listen| match listen { Listen::Tcp(address) => address.to_string(), Listen::Unix(path) => format!("unix:{}", path.display()) };
    ServerUrl => |url| format!("postgres://{}@{}/{}", url.user, url.address, url.database);
}

/// A setting's value as the console shows it.
fn setting_text<T: Serialize>(value: &T) -> String {
    match toml::Value::try_from(value) {
        Ok(toml::Value::String(text)) => text,
        Ok(other) => other.to_string(),
        Err(error) => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complaint(text: &str) -> String {
        Config::from_toml(text).expect_err("must complain").to_string()
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
    fn urls_are_taken_apart() {
        let url: ServerUrl = "postgres://u%40x:p%2Fw@db:5433/shop".parse().expect("a URL");
        assert_eq!((url.user.as_str(), url.password.as_deref(), url.database.as_str()), ("u@x", Some("p/w"), "shop"));
        assert_eq!(url.address, Address::Tcp("db".into(), 5433));
        let unix: ServerUrl = "postgres://u@/shop?host=/run/pg".parse().expect("a URL");
        assert_eq!(unix.address, Address::Unix("/run/pg/.s.PGSQL.5432".into()));
        assert!("postgres://u@db/shop?sslmode=require".parse::<ServerUrl>().is_err());
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
