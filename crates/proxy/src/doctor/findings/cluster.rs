//! What concerns the servers together.

use highwater_core::Role;

use super::Report;
use crate::doctor::facts::{Cause, Facts, Server, Silence};
use crate::roles::quoted;

/// A standby on another version, on another timeline, of another cluster; too many primaries or none.
pub(super) fn examine(
    report: &mut Report,
    servers: &[Server],
    known: &[(&Server, &Facts)],
    primary: Option<(&Server, &Facts)>,
) {
    for server in servers {
        if let Err(silence) = &server.facts {
            report.server = Some(server.name.clone());
            silent(report, server, silence);
        }
    }
    report.server = None;
    primaries(report, known, primary);
    doubles(report, known);
    if let Some(primary) = primary {
        for (server, facts) in known.iter().filter(|(server, _)| server.name != primary.0.name) {
            report.server = Some(server.name.clone());
            member(report, facts, primary);
        }
    }
    report.server = None;
}

/// A server that says nothing of itself.
fn silent(report: &mut Report, server: &Server, silence: &Silence) {
    let user = quoted(&server.user);
    let (check, fix) = match silence.cause {
        Cause::Away => ("unreachable", "start it, or correct its URL; a standby needs hot_standby = on".to_owned()),
        Cause::HotStandbyOff => ("hot-standby-off", "hot_standby = on there, and restart".to_owned()),
        Cause::Full => (
            "no-room",
            format!("raise max_connections there, ALTER ROLE {user} CONNECTION LIMIT -1; or lower pool_size here"),
        ),
        Cause::Login => (
            "login-refused",
            format!("correct the password of {user} and the database in its URL, or pg_hba.conf there"),
        ),
        Cause::Tls => {
            ("tls-failed", "correct sslmode and sslrootcert in its URL, or the server's certificate".to_owned())
        }
        Cause::Forbidden => ("not-allowed", format!("grant to {user} what is denied there, as a superuser")),
        Cause::Pooler => ("pooler", "the address of PostgreSQL itself in its URL: Highwater is the pooler".to_owned()),
    };
    report.error(check, format!("nothing is known of it: {}", silence.reason), fix);
}

fn primaries(report: &mut Report, known: &[(&Server, &Facts)], primary: Option<(&Server, &Facts)>) {
    let home = primary.map(|(_, facts)| facts.system_id);
    let is_ours = |facts: &Facts| facts.role == Role::Primary && Some(facts.system_id) == home;
    let primaries: Vec<&str> =
        known.iter().filter(|(_, facts)| is_ours(facts)).map(|(server, _)| &*server.name).collect();
    match primaries.len() {
        0 => report.error("no-primary", "no server takes writes", "promote one, or add the primary's URL"),
        1 => {}
        _ => report.error(
            "two-primaries",
            format!("{} all say that they are the primary", primaries.join(", ")),
            "stop the one that was left behind, and rebuild it as a standby; until then writes may be refused",
        ),
    }
    if !known.iter().any(|(_, facts)| facts.role == Role::Standby) {
        report.note("no-standby", "no standby can be read: all reads run on the primary", "add the URLs of standbys");
    }
}

fn doubles(report: &mut Report, known: &[(&Server, &Facts)]) {
    for (index, (server, facts)) in known.iter().enumerate() {
        let same = |(_, other): &&(&Server, &Facts)| {
            (other.system_id, other.started, other.role) == (facts.system_id, facts.started, facts.role)
        };
        if let Some((twin, _)) = known[..index].iter().find(same) {
            report.warning(
                "same-server",
                format!("{} and {} lead to the same server, which is counted twice", twin.name, server.name),
                "remove one of the URLs",
            );
        }
    }
}

/// A server beside the primary.
fn member(report: &mut Report, facts: &Facts, (main, main_facts): (&Server, &Facts)) {
    if facts.system_id != main_facts.system_id {
        report.error(
            "other-cluster",
            format!("it belongs to another cluster than {}, and gets nothing to do", main.name),
            "correct its URL, or rebuild it with pg_basebackup",
        );
        return;
    }
    if facts.major() != main_facts.major() {
        report.error(
            "other-version",
            format!("PostgreSQL {} beside {} on {}", facts.major(), main_facts.major(), main.name),
            "physical replication needs the same major version everywhere",
        );
    }
    let (Ok(own), Ok(newest)) = (&facts.timeline, &main_facts.timeline) else { return };
    if facts.role != Role::Standby || own == newest {
        return;
    }
    let reason = format!("it is on timeline {own}, {} on {newest}", main.name);
    if own < newest {
        report.error(
            "other-timeline",
            format!("{reason}: it missed the last promotion"),
            "let it follow (recovery_target_timeline = latest and primary_conninfo), or pg_rewind or rebuild it",
        );
    } else {
        report.error(
            "other-timeline",
            format!("{reason}: it follows a primary that is newer and is not among the servers"),
            format!("add the newer primary's URL; {} may have been left behind by a promotion", main.name),
        );
    }
}
