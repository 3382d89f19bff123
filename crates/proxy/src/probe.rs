//! The statements by which a server says who it is and how far it is, and the reading of its answers.
//! An answer that cannot be read is an error, never a default.

use highwater_core::{Branch, History, Identity, Lsn, MvccSnapshot, PrimaryAnswer, Role, Timeline};

use crate::server::{Connection, Failure, Rows};

/// Who the server is, as far as any role may ask: the same on every connection of one instance.
/// `pg_control_system` needs no right; the timeline comes apart ([`timeline`]).
const IDENTITY: &str = "SELECT (SELECT system_identifier FROM pg_catalog.pg_control_system()), \
    pg_catalog.pg_is_in_recovery(), \
    (EXTRACT(epoch FROM pg_catalog.pg_postmaster_start_time()) * 1000000)::pg_catalog.int8, \
    pg_catalog.pg_backend_pid(), \
    (SELECT setting FROM pg_catalog.pg_settings WHERE name = 'wal_block_size'), \
    (SELECT setting FROM pg_catalog.pg_settings WHERE name = 'wal_segment_size'), \
    pg_catalog.current_setting('default_transaction_isolation')";

/// The primary's timeline: the first eight digits of the current WAL file's name.
const PRIMARY_TIMELINE: &str =
    "SELECT pg_catalog.substr(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_insert_lsn()), 1, 8)";

/// The replay position first, the MVCC snapshot in a later statement: its xmax must not be older than the position, and
/// the timeline neither. The receiver's timeline is at least the replayed one while it streams; readable with the rights
/// of pg_monitor.
const STANDBY: &str = "SELECT pg_catalog.pg_is_in_recovery(), pg_catalog.pg_last_wal_replay_lsn(); \
    SELECT pg_catalog.pg_snapshot_xmax(pg_catalog.pg_current_snapshot()), \
    (SELECT received_tli FROM pg_catalog.pg_stat_wal_receiver WHERE status OPERATOR(pg_catalog.=) 'streaming')";

/// A primary's positions. Asked of a server in recovery it fails with 55000, which ends the probe connection: right.
const PRIMARY: &str = "SELECT pg_catalog.pg_is_in_recovery(), pg_catalog.pg_current_wal_insert_lsn(), \
    pg_catalog.pg_current_wal_flush_lsn(); SELECT pg_catalog.pg_current_snapshot()";

/// Every spelling of `off` in the defaults counts, and so does what the configuration says.
const ASYNCHRONOUS: &str = "SELECT EXISTS (SELECT FROM pg_catalog.pg_db_role_setting, pg_catalog.unnest(setconfig) one \
        WHERE one OPERATOR(pg_catalog.~*) '^synchronous_commit=(of|f|n|0)') \
    OR EXISTS (SELECT FROM pg_catalog.pg_settings WHERE name OPERATOR(pg_catalog.=) 'synchronous_commit' \
        AND 'off' OPERATOR(pg_catalog.=) ANY (ARRAY[setting, reset_val]))";

/// A server's first answer on a connection.
pub(crate) struct Introduction {
    /// As if of the first branch, until [`primary_timeline`] or [`identify_system`] and [`history`] have been asked.
    pub(crate) identity: Identity,
    /// `default_transaction_isolation` of the role in this database.
    pub(crate) isolation: String,
}

/// Asks a new connection who is there.
pub(crate) async fn introduce(connection: &mut Connection) -> Result<Introduction, Failure> {
    let rows = connection.query(IDENTITY).await?;
    if rows.parse::<u32>(0, 3)? != connection.pid {
        return Err(Failure::Pooler);
    }
    let role = if rows.bool(0, 1)? { Role::Standby } else { Role::Primary };
    let identity = Identity {
        system_id: rows.parse(0, 0)?,
        branch: Branch::FIRST,
        role,
        postmaster_start: rows.parse(0, 2)?,
        block_size: rows.parse(0, 4)?,
        segment_size: rows.parse(0, 5)?,
    };
    Ok(Introduction { identity, isolation: rows.text(0, 6)?.to_owned() })
}

/// A primary's timeline.
pub(crate) async fn primary_timeline(connection: &mut Connection) -> Result<Timeline, Failure> {
    let rows = connection.query(PRIMARY_TIMELINE).await?;
    let digits = u32::from_str_radix(rows.text(0, 0)?, 16);
    digits.map(Timeline).map_err(|_| Failure::Unreadable("the name of the current WAL file"))
}

/// The timeline that is replayed or written, by the replication protocol.
pub(crate) async fn identify_system(replication: &mut Connection) -> Result<Timeline, Failure> {
    Ok(Timeline(replication.query("IDENTIFY_SYSTEM").await?.parse(0, 1)?))
}

/// Where a timeline comes from, by the replication protocol.
pub(crate) async fn history(replication: &mut Connection, timeline: Timeline) -> Result<History, Failure> {
    let rows = replication.query(&format!("TIMELINE_HISTORY {}", timeline.0)).await?;
    let ancestors = ancestors(rows.text(0, 1)?).ok_or(Failure::Unreadable("the history of the timeline"))?;
    Ok(History::new(timeline, ancestors))
}

/// Reads a history file: a timeline and where it was left, line by line.
fn ancestors(text: &str) -> Option<Vec<(Timeline, Lsn)>> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| {
            let mut words = line.split_whitespace();
            Some((Timeline(words.next()?.parse().ok()?), words.next()?.parse().ok()?))
        })
        .collect()
}

/// What a standby says of itself.
pub(crate) enum Standby {
    /// Its position, the snapshot's xmax, and the timeline if its receiver knows that.
    Replaying(Lsn, u64, Option<Timeline>),
    /// It is none any more.
    Promoted,
}

/// One probe of a standby.
pub(crate) async fn standby(connection: &mut Connection) -> Result<Standby, Failure> {
    let rows = connection.query(STANDBY).await?;
    if !rows.bool(0, 0)? {
        return Ok(Standby::Promoted);
    }
    let timeline = if rows.is_null(1, 1) { None } else { Some(Timeline(rows.parse(1, 1)?)) };
    Ok(Standby::Replaying(rows.parse(0, 1)?, rows.parse(1, 0)?, timeline))
}

/// Whether the server's configuration, or a role's or database's defaults, let anybody commit asynchronously.
pub(crate) async fn commits_asynchronously(connection: &mut Connection) -> Result<bool, Failure> {
    let rows = connection.query(ASYNCHRONOUS).await?;
    rows.bool(0, 0)
}

/// One probe of the primary.
pub(crate) async fn primary(connection: &mut Connection) -> Result<PrimaryAnswer, Failure> {
    let rows = connection.query(PRIMARY).await?;
    if rows.bool(0, 0)? {
        return Err(Failure::Unreadable("the primary became a standby"));
    }
    Ok(PrimaryAnswer { insert: rows.parse(0, 1)?, flush: rows.parse(0, 2)?, snapshot: snapshot(rows.text(1, 0)?)? })
}

/// Which of these transactions the standby has seen commit.
pub(crate) async fn committed(connection: &mut Connection, xids: &[u64]) -> Result<Vec<u64>, Failure> {
    let list: Vec<String> = xids.iter().map(u64::to_string).collect();
    let sql = format!(
        "SELECT x FROM pg_catalog.unnest('{{{}}}'::pg_catalog.xid8[]) x \
         WHERE pg_catalog.pg_xact_status(x) OPERATOR(pg_catalog.=) 'committed'",
        list.join(",")
    );
    let rows = connection.query(&sql).await?;
    (0..rows.len()).map(|row| rows.parse(row, 0)).collect()
}

/// The insert position, and a transaction id assigned after it; see `Cluster::on_settled`. Rolled back: a commit would be
/// one more thing for delayed standbys to wait with.
pub(crate) async fn mark(connection: &mut Connection) -> Result<(Lsn, u64), Failure> {
    let position = connection.query("SELECT pg_catalog.pg_current_wal_insert_lsn()").await?.parse(0, 0)?;
    let xid = connection.query("BEGIN; SELECT pg_catalog.pg_current_xact_id(); ROLLBACK").await?.parse(0, 0)?;
    Ok((position, xid))
}

/// Commits an empty logical message, so that the unflushed end of the WAL is flushed and shipped. It must not wait for
/// standbys: a synchronous one that is away would take the primary's monitor with it.
pub(crate) async fn nudge(connection: &mut Connection) -> Result<Rows, Failure> {
    let local = "SET LOCAL synchronous_commit TO local";
    connection.query(&format!("{local}; SELECT pg_catalog.pg_logical_emit_message(true, 'highwater', '')")).await
}

/// Reads `xmin:xmax:xid,xid`.
fn snapshot(text: &str) -> Result<MvccSnapshot, Failure> {
    let unreadable = || Failure::Unreadable("the MVCC snapshot");
    let mut parts = text.split(':');
    let mut number = || parts.next().and_then(|part| part.parse().ok()).ok_or_else(unreadable);
    let (xmin, xmax) = (number()?, number()?);
    let list = parts.next().ok_or_else(unreadable)?;
    let xids = list.split(',').filter(|xid| !xid.is_empty());
    let xip = xids.map(|xid| xid.parse().map_err(|_| unreadable())).collect::<Result<_, _>>()?;
    Ok(MvccSnapshot { xmin, xmax, xip })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn histories_are_read_or_refused() {
        let text = "1\t0/5000140\tno recovery target specified\n\n# a remark\n2\t16/B374D848\tbefore 2026\n";
        let read = ancestors(text).expect("valid");
        assert_eq!(read, [(Timeline(1), Lsn(0x500_0140)), (Timeline(2), Lsn(0x16_B374_D848))]);
        assert_eq!(ancestors("1\tnowhere\tx"), None);
        assert_eq!(ancestors(""), Some(vec![]));
    }

    #[test]
    fn snapshots_are_read_or_refused() {
        let read = snapshot("877:881:877,879").expect("valid");
        assert_eq!((read.xmin, read.xmax, read.xip), (877, 881, vec![877, 879]));
        assert!(snapshot("877:877:").expect("valid").xip.is_empty());
        assert!(snapshot("877:x:").is_err() && snapshot("877").is_err());
    }
}
