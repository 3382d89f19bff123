//! What concerns the servers together.

use highwater_core::Role;

use super::Report;
use crate::doctor::facts::{Facts, Server};

/// A standby on another version, on another timeline, of another cluster; too many primaries or none.
pub(super) fn examine(
    report: &mut Report,
    servers: &[Server],
    known: &[(&Server, &Facts)],
    primary: Option<(&Server, &Facts)>,
) {
    for server in servers {
        if let Err(reason) = &server.facts {
            report.server = Some(server.name.clone());
            report.error(
                "unreachable",
                format!("it cannot be asked: {reason}"),
                "start it, or correct its URL; a standby needs hot_standby = on",
            );
        }
    }
    report.server = None;
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
    let Some((main, main_facts)) = primary else { return };
    for (server, facts) in known.iter().filter(|(server, _)| server.name != main.name) {
        report.server = Some(server.name.clone());
        if facts.system_id != main_facts.system_id {
            report.error(
                "other-cluster",
                format!("it belongs to another cluster than {}, and gets nothing to do", main.name),
                "correct its URL, or rebuild it with pg_basebackup",
            );
            continue;
        }
        if facts.major() != main_facts.major() {
            report.error(
                "other-version",
                format!("PostgreSQL {} beside {} on {}", facts.major(), main_facts.major(), main.name),
                "physical replication needs the same major version everywhere",
            );
        }
        if let (Ok(own), Ok(newest)) = (&facts.timeline, &main_facts.timeline)
            && facts.role == Role::Standby
            && own < newest
        {
            report.error(
                "other-timeline",
                format!("it is on timeline {own}, the primary on {newest}: it missed the last promotion"),
                "let it follow (recovery_target_timeline = latest and primary_conninfo), or pg_rewind or rebuild it",
            );
        }
    }
    report.server = None;
}
