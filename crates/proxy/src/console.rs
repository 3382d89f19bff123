//! The console: what a person at psql, connected to the database `highwater`, can ask.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use highwater_core::ServerId;
use highwater_sql::{Catalog, Scratch};
use highwater_wire::frontend::Query;
use highwater_wire::{TransactionStatus, backend, frame};

use crate::clock::now;
use crate::control;
use crate::error::{self, Complaint, End};
use crate::net::{Buffer, Stream};
use crate::shared::{Proxy, Server};
use crate::text::{self, show_micros};

/// How long an administrator's terminal may take nothing.
const STALL: Duration = Duration::from_secs(60);
/// Nothing that is said here is long.
const MESSAGE_BYTES_MAX: u32 = 1024 * 1024;

/// How long PAUSE and DRAIN wait if they are not told.
const PATIENCE: Duration = Duration::from_secs(60);

/// A table as the console shows it.
pub(crate) struct Table {
    columns: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

/// Serves one administrator.
pub(crate) async fn serve(proxy: &Arc<Proxy>, mut stream: Stream, mut input: Buffer) -> End {
    let mut out = Vec::new();
    loop {
        let header = match frame::frontend_header(input.filled(), MESSAGE_BYTES_MAX) {
            Ok(header) => header,
            Err(offence) => return End::Offence(offence),
        };
        let Some(header) = header.filter(|header| header.len <= input.filled().len()) else {
            match input.read_from(&mut stream).await {
                Ok(0) => return End::Closed,
                Ok(_) => continue,
                Err(error) => return End::Broken(error),
            }
        };
        let body = &input.filled()[5..header.len];
        match header.tag {
            b'X' => return End::Closed,
            b'Q' => {
                let text =
                    Query::read(body).map(|query| String::from_utf8_lossy(query.text).into_owned()).unwrap_or_default();
                answer(proxy, &text, &mut out).await;
                backend::ready_for_query(&mut out, TransactionStatus::Idle);
            }
            b'S' => {
                let told = error::complaint(&Complaint::Console("the console speaks the simple protocol only".into()));
                backend::error_response(&mut out, &told.report());
                backend::ready_for_query(&mut out, TransactionStatus::Idle);
            }
            _ => {}
        }
        input.consume(header.len);
        if let Err(error) = stream.write_all(&out, STALL).await {
            return End::Broken(error);
        }
        out.clear();
    }
}

async fn answer(proxy: &Proxy, text: &str, out: &mut Vec<u8>) {
    let command = text.trim().trim_end_matches(';').trim();
    if command.is_empty() {
        return backend::empty_query_response(out);
    }
    match run(proxy, command).await {
        Ok(Said::Done(tag)) => backend::command_complete(out, tag),
        Ok(Said::Table(table)) => {
            backend::row_description(out, &table.columns);
            for row in &table.rows {
                let cells: Vec<Option<&str>> = row.iter().map(|cell| Some(cell.as_str())).collect();
                backend::data_row(out, &cells);
            }
            backend::command_complete(out, "SHOW");
        }
        Err(complaint) => backend::error_response(out, &error::complaint(&complaint).report()),
    }
}

/// What a command answers.
enum Said {
    Table(Table),
    /// The tag of its CommandComplete.
    Done(&'static str),
}

/// Carries out one command.
async fn run(proxy: &Proxy, command: &str) -> Result<Said, Complaint> {
    let (verb, rest) = command.split_once(char::is_whitespace).unwrap_or((command, ""));
    Ok(match verb.to_ascii_uppercase().as_str() {
        "SHOW" => Said::Table(show(proxy, rest.trim())?),
        "EXPLAIN" => Said::Table(explain(proxy, rest.trim())),
        "PAUSE" => {
            let (servers, limit) = servers_and_limit(proxy, rest)?;
            control::pause(proxy, &servers, limit).await?;
            Said::Done("PAUSE")
        }
        "DRAIN" if !rest.trim().is_empty() => {
            let (servers, limit) = servers_and_limit(proxy, rest)?;
            control::drain(proxy, &servers, limit).await?;
            Said::Done("DRAIN")
        }
        "RESUME" => {
            control::resume(proxy, &servers_and_limit(proxy, rest)?.0);
            Said::Done("RESUME")
        }
        "RECONNECT" if rest.trim().is_empty() => {
            control::reconnect(proxy);
            Said::Done("RECONNECT")
        }
        "KILL" => {
            let client =
                rest.trim().parse().map_err(|_| Complaint::Console("KILL takes a pid of SHOW CLIENTS".into()))?;
            control::kill(proxy, client).await?;
            Said::Done("KILL")
        }
        _ => return Err(unknown()),
    })
}

/// Reads `[server] [TIMEOUT time]`; all servers when none is named.
fn servers_and_limit(proxy: &Proxy, rest: &str) -> Result<(Vec<ServerId>, Duration), Complaint> {
    let mut words: Vec<&str> = rest.split_whitespace().collect();
    let mut limit = PATIENCE;
    if let [.., keyword, time] = words[..]
        && keyword.eq_ignore_ascii_case("timeout")
    {
        limit = text::duration(time).ok_or_else(|| Complaint::Console(format!("\"{time}\" is no time such as 10s")))?;
        words.truncate(words.len() - 2);
    }
    let servers = match words[..] {
        [] => proxy.servers.iter().map(|server| server.id).collect(),
        [wanted] => {
            let named = |server: &&Server| server.config.name == wanted.trim_matches('"');
            let found = proxy.servers.iter().find(named).map(|server| vec![server.id]);
            found.ok_or_else(|| Complaint::Console(format!("there is no server \"{wanted}\"; see SHOW SERVERS")))?
        }
        _ => return Err(Complaint::Console("one server, or none for all, and TIMEOUT with a time".into())),
    };
    Ok((servers, limit))
}

fn show(proxy: &Proxy, object: &str) -> Result<Table, Complaint> {
    Ok(match object.to_ascii_lowercase().as_str() {
        "servers" => servers(proxy),
        "pools" => pools(proxy),
        "clients" => clients(proxy),
        "sessions" => sessions(proxy),
        "routes" => routes(proxy),
        "stats" => stats(proxy),
        "lag" => lag(proxy),
        "config" => config(proxy),
        "version" => Table::new(["version"], [[format!("Highwater {}", env!("CARGO_PKG_VERSION"))]]),
        "help" | "" => help(),
        _ => return Err(unknown()),
    })
}

fn unknown() -> Complaint {
    Complaint::Console("unknown command; there are SHOW SERVERS, POOLS, CLIENTS, SESSIONS, ROUTES, STATS, LAG, CONFIG, VERSION, HELP, EXPLAIN [database] SQL, DRAIN, PAUSE, RESUME and KILL".into())
}

impl Table {
    fn new<const N: usize>(columns: [&'static str; N], rows: impl IntoIterator<Item = [String; N]>) -> Self {
        Self { columns: columns.to_vec(), rows: rows.into_iter().map(Vec::from).collect() }
    }
}

fn shown<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(String::new, |value| value.to_string())
}

fn name(proxy: &Proxy, id: ServerId) -> String {
    proxy.server(id).config.name.clone()
}

fn servers(proxy: &Proxy) -> Table {
    let cluster = proxy.cluster.lock();
    let rows = proxy.servers.iter().filter_map(|server| {
        let view = cluster.server_view(server.id, now())?;
        let identity = view.identity;
        Some([
            server.config.name.clone(),
            server.config.url.address.to_string(),
            identity.map_or_else(|| "unknown".to_owned(), |identity| identity.role.to_string()),
            shown(identity.map(|identity| identity.branch.timeline.0)),
            shown(view.head.or(view.replay)),
            shown(view.lag_bytes),
            shown(view.lag_time.map(show_micros)),
            shown(view.evidence_age.map(show_micros)),
            server.gate.traffic().name().to_owned(),
            server.busy.load(Ordering::Relaxed).to_string(),
            server.monitor.probes.get().to_string(),
            server.monitor.trouble.lock().clone().unwrap_or_default(),
        ])
    });
    Table::new(
        [
            "name",
            "address",
            "role",
            "timeline",
            "lsn",
            "lag_bytes",
            "lag_time",
            "evidence_age",
            "traffic",
            "busy",
            "probes",
            "trouble",
        ],
        rows.collect::<Vec<_>>(),
    )
}

fn lag(proxy: &Proxy) -> Table {
    let cluster = proxy.cluster.lock();
    let rows = proxy.servers.iter().filter_map(|server| {
        let view = cluster.server_view(server.id, now()).filter(|view| view.replay.is_some())?;
        Some([
            server.config.name.clone(),
            shown(view.replay),
            shown(view.lag_bytes),
            shown(view.lag_time.map(show_micros)),
        ])
    });
    Table::new(["standby", "replay_lsn", "lag_bytes", "lag_time"], rows.collect::<Vec<_>>())
}

fn pools(proxy: &Proxy) -> Table {
    let mut rows = Vec::new();
    for pool in proxy.pools.all() {
        rows.extend(pool.views().map(|view| {
            [
                pool.key.database.clone(),
                pool.key.user.clone(),
                name(proxy, view.server),
                view.busy.to_string(),
                view.idle.to_string(),
                view.waiting.to_string(),
                pool.key.settings.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" "),
            ]
        }));
    }
    rows.sort();
    Table::new(["database", "user", "server", "sv_active", "sv_idle", "cl_waiting", "settings"], rows)
}

fn clients(proxy: &Proxy) -> Table {
    let clients: Vec<_> = proxy.clients.lock().values().cloned().collect();
    let at = now();
    let mut rows: Vec<_> = clients
        .iter()
        .map(|client| {
            let view = client.view.lock().clone();
            [
                client.pid.to_string(),
                client.user.to_string(),
                client.database.to_string(),
                client.peer.map_or_else(|| "unix".to_owned(), |peer| peer.to_string()),
                if client.encrypted { "TLS" } else { "" }.to_owned(),
                client.application.to_string(),
                view.state.to_owned(),
                view.level.to_owned(),
                view.session,
                view.server.map_or_else(String::new, |id| name(proxy, id)),
                view.pin.unwrap_or_default().to_owned(),
                view.last_route.map_or_else(String::new, |route| route.text(proxy)),
                show_micros(at.since(client.connected)),
            ]
        })
        .collect();
    rows.sort();
    Table::new(
        [
            "pid",
            "user",
            "database",
            "peer",
            "tls",
            "application",
            "state",
            "level",
            "session",
            "server",
            "pin",
            "last_route",
            "age",
        ],
        rows,
    )
}

fn sessions(proxy: &Proxy) -> Table {
    let rows = proxy.sessions.all().into_iter().map(|(key, session)| {
        let mut session = session.lock();
        session.resolve(&proxy.cluster.lock());
        [
            key,
            shown(session.watermark()),
            shown(session.replica_watermark()),
            if session.is_resolved() { "" } else { "yes" }.into(),
        ]
    });
    Table::new(["session", "watermark", "replica_watermark", "pending"], rows.collect::<Vec<_>>())
}

fn routes(proxy: &Proxy) -> Table {
    let total: u64 = proxy.stats.routes().iter().map(|route| route.2).sum();
    let mut rows: Vec<_> = proxy
        .stats
        .routes()
        .into_iter()
        .map(|(id, reason, count)| {
            let share = count as f64 * 100.0 / total.max(1) as f64;
            [name(proxy, id), reason.name().to_owned(), count.to_string(), format!("{share:.1}"), reason.to_string()]
        })
        .collect();
    rows.sort();
    rows.extend(proxy.stats.refusals().into_iter().map(|(refusal, count)| {
        [String::new(), refusal.to_owned(), count.to_string(), String::new(), "refused".to_owned()]
    }));
    Table::new(["server", "reason", "count", "percent", "meaning"], rows)
}

fn stats(proxy: &Proxy) -> Table {
    let stats = &proxy.stats;
    let counters = [
        ("stale_reads_prevented", stats.stale_reads_prevented.get()),
        ("corrections", stats.corrections.get()),
        ("retries", stats.retries.get()),
        ("retries_refused", stats.retries_refused.get()),
        ("waits", stats.waits.get()),
        ("transactions_moved", stats.transactions_moved.get()),
        ("tokens_refused", stats.tokens_refused.get()),
        ("losses_told", stats.losses.get()),
        ("standbys_late", stats.standbys_late.get()),
        ("sync_only_broken", stats.asynchronous_commits.get()),
        ("sessions", proxy.sessions.len() as u64),
        ("clients", proxy.clients.lock().len() as u64),
        ("fallbacks_now", u64::from(proxy.fallbacks.load(Ordering::Relaxed))),
    ];
    let probes =
        proxy.servers.iter().map(|server| (format!("probes.{}", server.config.name), server.monitor.probes.get()));
    let pins = stats.pins().into_iter().map(|(pin, count)| (format!("pins.{}", pin.name()), count));
    let rows = counters.into_iter().map(|(name, value)| (name.to_owned(), value)).chain(probes).chain(pins);
    Table::new(["name", "value"], rows.map(|(name, value)| [name, value.to_string()]).collect::<Vec<_>>())
}

fn config(proxy: &Proxy) -> Table {
    let rows = proxy.config.rows();
    Table::new(
        ["key", "value", "meaning"],
        rows.into_iter().map(|(key, value, meaning)| [key.to_owned(), value, meaning]),
    )
}

fn help() -> Table {
    let rows = [
        ("SHOW SERVERS", "roles, timelines, positions, lag, probes"),
        ("SHOW POOLS", "server connections by database, user and server"),
        ("SHOW CLIENTS", "who is connected, where, with which level and pin"),
        ("SHOW SESSIONS", "sessions by key and how far they must see"),
        ("SHOW ROUTES", "where statements went, by reason"),
        ("SHOW STATS", "counters, stale reads prevented among them"),
        ("SHOW LAG", "how far standbys are behind"),
        ("SHOW CONFIG", "settings, with their meaning"),
        ("DRAIN server [TIMEOUT time]", "no more reads for a standby; returns when nothing runs there"),
        ("PAUSE [server] [TIMEOUT time]", "all that must run there waits; returns when nothing runs there"),
        ("RESUME [server]", "ends DRAIN and PAUSE"),
        ("RECONNECT", "new connections to servers in the place of all pooled ones, each as soon as nobody uses it"),
        ("KILL pid", "ends a client"),
        ("EXPLAIN [database] SQL", "what a statement may do, and where it would go"),
    ];
    Table::new(["command", "meaning"], rows.map(|(command, meaning)| [command.to_owned(), meaning.to_owned()]))
}

/// Classifies a statement with the catalogue of the database that its first word names, if it names one.
fn explain(proxy: &Proxy, rest: &str) -> Table {
    let first = rest.split_whitespace().next().unwrap_or_default();
    let named = proxy.databases.lock().get(first).cloned();
    let only = || {
        let databases = proxy.databases.lock();
        (databases.len() == 1).then(|| databases.values().next().cloned()).flatten()
    };
    let (database, sql) = match named {
        Some(database) => (Some(database), rest[first.len()..].trim_start()),
        None => (only(), rest),
    };
    let catalog = database.map_or_else(|| Arc::new(Catalog::empty()), |database| database.catalog());
    let facts = proxy.classifier.classify(sql, &catalog, &mut Scratch::default());
    let goes = match facts.class {
        highwater_sql::Class::Read => "a standby that has replayed far enough for the session, else the primary",
        highwater_sql::Class::Empty => "nowhere: there is nothing to run",
        _ => "the primary",
    };
    let rows = [
        ("class", facts.class.name().to_owned()),
        ("why", format!("{}: {}", facts.why.name(), facts.why)),
        ("goes to", goes.to_owned()),
        ("pins the connection", facts.pin.map_or_else(|| "no".to_owned(), |pin| pin.name().to_owned())),
        ("tables", facts.tables.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")),
        ("may run again unseen", if facts.rerun_safe { "yes" } else { "no" }.to_owned()),
        ("unknown names", if facts.unknown_names { "yes: the catalogue does not hold them" } else { "no" }.to_owned()),
        ("primary", proxy.cluster.lock().primary().map_or_else(|| "unknown".to_owned(), |id| name(proxy, id))),
    ];
    Table::new(["fact", "value"], rows.map(|(fact, value)| [fact.to_owned(), value]))
}
