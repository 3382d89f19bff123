//! What servers say of themselves, as far as the probing role may know.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use highwater_core::{Lsn, Role};
use highwater_wire::SqlState;
use tokio::task::JoinSet;

use crate::config::{Auth, Config, ServerConfig, Visibility};
use crate::net::Address;
use crate::server::{Connection, Endpoint, Failure, Login, Rows};
use crate::{probe, roles};

/// What is asked of `pg_settings`. Rows of settings that a version or a role does not have are simply not there.
const SETTINGS: &str = "SELECT name, setting FROM pg_catalog.pg_settings WHERE name OPERATOR(pg_catalog.=) ANY ('{\
    default_transaction_isolation,default_transaction_read_only,fsync,full_page_writes,hot_standby_feedback,\
    idle_replication_slot_timeout,max_connections,max_locks_per_transaction,max_prepared_transactions,\
    max_slot_wal_keep_size,max_standby_streaming_delay,max_wal_senders,max_worker_processes,password_encryption,\
    recovery_min_apply_delay,reserved_connections,server_version_num,superuser_reserved_connections,\
    synchronous_commit,synchronous_standby_names,wal_keep_size,wal_level,wal_receiver_status_interval,\
    wal_receiver_timeout,wal_sender_timeout,wal_writer_delay}')";

const RIGHTS: &str = "SELECT rolsuper, rolreplication, pg_catalog.pg_has_role(rolname, 'pg_monitor', 'USAGE'), \
    coalesce((SELECT ssl FROM pg_catalog.pg_stat_ssl WHERE pid OPERATOR(pg_catalog.=) pg_catalog.pg_backend_pid()), false) \
    FROM pg_catalog.pg_roles WHERE rolname OPERATOR(pg_catalog.=) current_user";

/// Defaults that hold for some sessions only.
const OVERRIDES: &str = "SELECT pg_catalog.concat_ws(' in ', 'role ' || r.rolname, 'database ' || d.datname), one \
    FROM pg_catalog.pg_db_role_setting s CROSS JOIN pg_catalog.unnest(s.setconfig) one \
    LEFT JOIN pg_catalog.pg_roles r ON r.oid OPERATOR(pg_catalog.=) s.setrole \
    LEFT JOIN pg_catalog.pg_database d ON d.oid OPERATOR(pg_catalog.=) s.setdatabase \
    WHERE one OPERATOR(pg_catalog.~) '^(synchronous_commit|default_transaction_(isolation|read_only))=' ORDER BY 1, 2";

const SENDERS: &str = "SELECT application_name, coalesce(state, ''), coalesce(sync_state, '') \
    FROM pg_catalog.pg_stat_replication ORDER BY 1";

/// Without those that a standby of version 17 or later copies from its primary: nobody uses them there, rightly. Older
/// versions have no such column, hence the detour.
const SLOTS: &str = "SELECT slot_name, active, coalesce(wal_status, ''), \
    coalesce(pg_catalog.pg_wal_lsn_diff(CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_last_wal_replay_lsn() \
        ELSE pg_catalog.pg_current_wal_lsn() END, restart_lsn), 0)::pg_catalog.int8 \
    FROM pg_catalog.pg_replication_slots s \
    WHERE coalesce((pg_catalog.to_jsonb(s) OPERATOR(pg_catalog.->>) 'synced')::pg_catalog.bool, false) IS FALSE ORDER BY 1";

const RECEIVER: &str = "SELECT status, sender_host, sender_port, slot_name FROM pg_catalog.pg_stat_wal_receiver";

const REPLAY: &str = "SELECT pg_catalog.pg_get_wal_replay_pause_state(), pg_catalog.pg_last_wal_replay_lsn()";

/// What the configuration of Highwater itself says that matters here.
#[derive(Clone, Debug, Default)]
pub(super) struct Terms {
    pub(super) pool_size: u64,
    pub(super) trusts_synchronous_commit: bool,
    /// Clients' passwords have to be looked up on the servers.
    pub(super) looks_up: bool,
}

/// A configured server, and what it has said.
#[derive(Clone, Debug)]
pub(super) struct Server {
    pub(super) name: String,
    /// The probing role.
    pub(super) user: String,
    pub(super) place: Place,
    pub(super) facts: Result<Facts, Silence>,
}

/// Where a server listens, as far as that is said and can be looked up.
#[derive(Clone, Debug, Default)]
pub(super) struct Place {
    /// Host and port as somebody wrote them; `None` for a Unix socket.
    pub(super) written: Option<(String, u16)>,
    /// What the host's name means on this machine.
    pub(super) addresses: Vec<SocketAddr>,
}

/// Why something is not known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Silence {
    pub(super) reason: String,
    pub(super) cause: Cause,
}

/// What a silence comes from, so far as it decides what to do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// Nobody answers, or what answers makes no sense.
    Away,
    /// A standby that admits nobody.
    HotStandbyOff,
    /// Too many connections.
    Full,
    /// No such user or database, a wrong password, a rule of `pg_hba.conf`.
    Login,
    /// No TLS, or not the certificate that was expected.
    Tls,
    /// The role lacks a right.
    Forbidden,
    /// Not PostgreSQL itself.
    Pooler,
}

/// One server's answers.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    pub(super) system_id: u64,
    pub(super) role: Role,
    /// Microseconds: no two servers are started at the same one.
    pub(super) started: i64,
    /// Why not, where the role may not use the replication protocol.
    pub(super) timeline: Result<u32, Silence>,
    /// What is flushed on a primary, replayed on a standby.
    pub(super) lsn: Option<Lsn>,
    pub(super) settings: BTreeMap<String, String>,
    pub(super) rights: Rights,
    /// Whose sessions have which default.
    pub(super) overrides: Vec<(String, String)>,
    /// Who streams from it.
    pub(super) senders: Vec<Sender>,
    pub(super) slots: Vec<Slot>,
    /// A standby's own.
    pub(super) receiver: Option<Receiver>,
    pub(super) is_paused: bool,
}

/// What the probing role may do.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Rights {
    pub(super) superuser: bool,
    pub(super) replication: bool,
    pub(super) monitor: bool,
    pub(super) lookup: bool,
    /// Not a right, but asked in the same breath: whether its connection is encrypted.
    pub(super) encrypted: bool,
}

/// A connection of a standby to its primary.
#[derive(Clone, Debug)]
pub(super) struct Sender {
    pub(super) application: String,
    pub(super) state: String,
    /// `async`, `potential`, `sync` or `quorum`.
    pub(super) sync_state: String,
}

/// A replication slot.
#[derive(Clone, Debug)]
pub(super) struct Slot {
    pub(super) name: String,
    pub(super) active: bool,
    /// `reserved`, `extended`, `unreserved` or `lost`.
    pub(super) wal_status: String,
    pub(super) retained_bytes: i64,
}

/// A standby's connection to whom it copies.
#[derive(Clone, Debug)]
pub(super) struct Receiver {
    pub(super) status: String,
    pub(super) from: Place,
    pub(super) slot: Option<String>,
}

impl Terms {
    pub(super) fn of(config: &Config) -> Self {
        let asks = config.auth == Auth::Scram && config.password_file.as_os_str().is_empty();
        Self {
            pool_size: config.pool_size as u64,
            trusts_synchronous_commit: config.commit_visibility == Visibility::SyncOnly,
            looks_up: asks && config.users.iter().all(|user| user.password.is_none()),
        }
    }
}

impl Facts {
    /// A setting as `pg_settings` has it; empty when it is not known.
    pub(super) fn setting(&self, name: &str) -> &str {
        self.settings.get(name).map_or("", String::as_str)
    }

    /// A number, in the setting's own unit.
    pub(super) fn number(&self, name: &str) -> Option<i64> {
        self.setting(name).parse().ok()
    }

    pub(super) fn major(&self) -> i64 {
        self.number("server_version_num").unwrap_or_default() / 10_000
    }
}

impl Server {
    /// Whether what is said on the way there can be overheard by nobody.
    pub(super) fn is_near(&self) -> bool {
        let is_own = |host: &String| host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
        self.place.written.as_ref().is_none_or(|(host, _)| is_own(host))
    }
}

impl Place {
    async fn look_up(written: Option<(String, u16)>, limit: Duration) -> Self {
        let mut addresses = Vec::new();
        if let Some(place) = &written
            && let Ok(Ok(found)) = tokio::time::timeout(limit, tokio::net::lookup_host(place.clone())).await
        {
            addresses.extend(found);
        }
        Self { written, addresses }
    }

    /// Whether both lead to one listener, by name or by address.
    pub(super) fn is(&self, other: &Self) -> bool {
        let is_same_name = self.written.is_some() && self.written == other.written;
        is_same_name || self.addresses.iter().any(|address| other.addresses.contains(address))
    }
}

impl From<Failure> for Silence {
    fn from(failure: Failure) -> Self {
        let cause = match &failure {
            Failure::Said(said) => match said.code {
                SqlState::TOO_MANY_CONNECTIONS => Cause::Full,
                SqlState::INSUFFICIENT_PRIVILEGE => Cause::Forbidden,
                SqlState::INVALID_AUTHORIZATION | SqlState::INVALID_PASSWORD | SqlState::INVALID_CATALOG_NAME => {
                    Cause::Login
                }
                // postmaster.c says it in this detail alone.
                SqlState::CANNOT_CONNECT_NOW if said.detail.as_deref() == Some("Hot standby mode is disabled.") => {
                    Cause::HotStandbyOff
                }
                _ => Cause::Away,
            },
            Failure::Scram(_) | Failure::NoPassword(_) | Failure::Authentication => Cause::Login,
            // On the way to a server nothing else is refused by ourselves.
            Failure::Tls(_) | Failure::Unbound | Failure::Refused(_) => Cause::Tls,
            Failure::Pooler => Cause::Pooler,
            _ => Cause::Away,
        };
        Self { reason: failure.to_string(), cause }
    }
}

/// Asks all servers at once; the order is that of the configuration.
pub(super) async fn gather(config: &Config) -> Vec<Server> {
    let mut asked = JoinSet::new();
    for (index, server) in config.servers.iter().enumerate() {
        let (config, server) = (config.clone(), server.clone());
        asked.spawn(async move {
            let written = match &server.url.address {
                Address::Tcp(host, port) => Some((host.clone(), *port)),
                Address::Unix(_) => None,
            };
            let place = Place::look_up(written, config.connect_timeout.0).await;
            (index, place, ask(&config, &server).await)
        });
    }
    let mut answers = asked.join_all().await;
    answers.sort_by_key(|(index, ..)| *index);
    let answers = answers.into_iter().zip(&config.servers);
    answers
        .map(|((_, place, facts), server)| Server {
            name: server.name.clone(),
            user: server.url.user.clone(),
            place,
            facts: facts.map_err(Silence::from),
        })
        .collect()
}

async fn ask(config: &Config, server: &ServerConfig) -> Result<Facts, Failure> {
    let limit = config.connect_timeout.0;
    let endpoint =
        Endpoint::new(&server.url, config.keep_alive()).map_err(|error| Failure::Refused(format!("{error:#}")))?;
    let mut connection = Connection::open(&endpoint, &Login::prober(&server.url), limit).await?;
    let known = tokio::time::timeout(limit, learn(&mut connection)).await;
    let mut facts = known.map_err(|_| Failure::Unreadable("no answer in time"))??;
    facts.timeline = timeline(&endpoint, server, config).await.map_err(Silence::from);
    if let Some(receiver) = &mut facts.receiver {
        receiver.from = Place::look_up(receiver.from.written.take(), limit).await;
    }
    Ok(facts)
}

async fn timeline(endpoint: &Endpoint, server: &ServerConfig, config: &Config) -> Result<u32, Failure> {
    let mut replication =
        Connection::open(endpoint, &Login::replication(&server.url), config.connect_timeout.0).await?;
    Ok(probe::identify_system(&mut replication).await?.0)
}

async fn learn(connection: &mut Connection) -> Result<Facts, Failure> {
    let identity = probe::introduce(connection).await?.identity;
    let settings = connection.query(SETTINGS).await?;
    let settings = pairs(&settings)?.into_iter().collect();
    let overrides = pairs(&connection.query(OVERRIDES).await?)?;
    let rights = rights(connection).await?;
    let senders = connection.query(SENDERS).await?;
    let senders = (0..senders.len()).map(|row| sender(&senders, row)).collect::<Result<_, _>>()?;
    let slots = connection.query(SLOTS).await?;
    let mut facts = Facts {
        system_id: identity.system_id,
        role: identity.role,
        started: identity.postmaster_start,
        timeline: Err(Silence { reason: "not asked".to_owned(), cause: Cause::Away }),
        lsn: None,
        settings,
        rights,
        overrides,
        senders,
        slots: (0..slots.len()).map(|row| slot(&slots, row)).collect::<Result<_, _>>()?,
        receiver: None,
        is_paused: false,
    };
    match identity.role {
        Role::Primary => facts.lsn = Some(probe::primary(connection).await?.flush),
        Role::Standby => {
            let replay = connection.query(REPLAY).await?;
            facts.is_paused = replay.text(0, 0)? != "not paused";
            facts.lsn = if replay.is_null(0, 1) { None } else { Some(replay.parse(0, 1)?) };
            facts.receiver = receiver(&connection.query(RECEIVER).await?);
        }
    }
    Ok(facts)
}

async fn rights(connection: &mut Connection) -> Result<Rights, Failure> {
    let rows = connection.query(RIGHTS).await?;
    let (superuser, replication) = (rows.bool(0, 0)?, rows.bool(0, 1)?);
    let (monitor, encrypted) = (rows.bool(0, 2)?, rows.bool(0, 3)?);
    let rows = connection.query(roles::MAY_ASK).await?;
    let lookup = rows.bool(0, 0)? || rows.bool(0, 1)?;
    Ok(Rights { superuser, replication, monitor, lookup, encrypted })
}

fn pairs(rows: &Rows) -> Result<Vec<(String, String)>, Failure> {
    (0..rows.len()).map(|row| Ok((rows.text(row, 0)?.to_owned(), rows.text(row, 1)?.to_owned()))).collect()
}

fn sender(rows: &Rows, row: usize) -> Result<Sender, Failure> {
    Ok(Sender {
        application: rows.text(row, 0)?.to_owned(),
        state: rows.text(row, 1)?.to_owned(),
        sync_state: rows.text(row, 2)?.to_owned(),
    })
}

fn slot(rows: &Rows, row: usize) -> Result<Slot, Failure> {
    Ok(Slot {
        name: rows.text(row, 0)?.to_owned(),
        active: rows.bool(row, 1)?,
        wal_status: rows.text(row, 2)?.to_owned(),
        retained_bytes: rows.parse(row, 3)?,
    })
}

/// Without the rights of `pg_monitor` there is a row, and nothing in it.
fn receiver(rows: &Rows) -> Option<Receiver> {
    let status = rows.text(0, 0).ok()?.to_owned();
    let written = rows.text(0, 1).ok().zip(rows.parse(0, 2).ok()).map(|(host, port)| (host.to_owned(), port));
    let from = Place { written, addresses: Vec::new() };
    let slot = rows.text(0, 3).ok().map(str::to_owned);
    Some(Receiver { status, from, slot })
}
