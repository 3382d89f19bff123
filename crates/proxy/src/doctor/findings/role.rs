//! What the probing role may do, and what concerns every server alike.

use highwater_core::Role;

use super::Report;
use crate::doctor::facts::{Cause, Facts, Server, Terms};
use crate::roles::quoted;

pub(super) fn examine(report: &mut Report, server: &Server, facts: &Facts, terms: &Terms) {
    rights(report, server, facts, terms);
    sessions(report, facts);
    if !facts.rights.encrypted && !server.is_near() {
        report.warning(
            "no-tls",
            "connections to it cross a network in the clear",
            "ssl = on there, and sslmode=verify-full with sslrootcert in its URL",
        );
    }
    if facts.setting("password_encryption") == "md5" {
        report.note(
            "md5-passwords",
            "new passwords are stored as MD5: whoever reads one can log in with it",
            "password_encryption = 'scram-sha-256', and set the passwords again",
        );
    }
    let reserved =
        facts.number("superuser_reserved_connections").unwrap_or(0) + facts.number("reserved_connections").unwrap_or(0);
    let free = facts.number("max_connections").unwrap_or(i64::MAX).saturating_sub(reserved);
    if u64::try_from(free).is_ok_and(|free| free < terms.pool_size) {
        report.warning(
            "few-connections",
            format!("it takes {free} connections, and pool_size is {} for each user and database", terms.pool_size),
            "raise max_connections there, or lower pool_size here",
        );
    }
}

fn rights(report: &mut Report, server: &Server, facts: &Facts, terms: &Terms) {
    let (rights, user) = (facts.rights, quoted(&server.user));
    if rights.superuser {
        report.warning(
            "superuser",
            "the probing role is a superuser, which it need not be",
            "CREATE ROLE highwater LOGIN REPLICATION PASSWORD '...'; GRANT pg_monitor TO highwater; and that role in the URLs",
        );
    }
    if let Err(silence) = &facts.timeline {
        let reason = format!("no replication connection, so its timeline is not known: {}", silence.reason);
        let (reason, fix) = match silence.cause {
            _ if !rights.replication && !rights.superuser => (
                "the probing role lacks REPLICATION, so its timeline is not known".to_owned(),
                format!("ALTER ROLE {user} REPLICATION; on the primary"),
            ),
            Cause::Full => (reason, "raise max_wal_senders or max_connections, and restart".to_owned()),
            _ => (reason, format!("a line `host replication {user} ...` in pg_hba.conf there")),
        };
        report.warning(
            "no-history",
            format!("{reason}; after a failover all that sessions saw before it counts as lost"),
            fix,
        );
    }
    if !rights.monitor && !rights.superuser {
        report.warning(
            "no-monitor",
            match facts.role {
                Role::Primary => "the probing role may not see who streams: whom commits wait for is not known",
                Role::Standby => {
                    "the probing role may not see what it receives: whence, and whether anything, is not known"
                }
            },
            format!("GRANT pg_monitor TO {user}; on the primary"),
        );
    }
    if terms.looks_up && !rights.lookup {
        report.warning(
            "no-lookup",
            "no password is configured, and the probing role may not look any up: nobody can log in",
            format!(
                "run what `highwater auth-sql --role {}` prints as a superuser, or configure password_file or [[user]]",
                server.user
            ),
        );
    }
}

/// Defaults that change what clients' statements may do.
fn sessions(report: &mut Report, facts: &Facts) {
    let own = |name: &str| (String::from("the server"), format!("{name}={}", facts.setting(name)));
    let general = [own("default_transaction_isolation"), own("default_transaction_read_only")];
    for (whose, one) in general.iter().chain(&facts.overrides) {
        let (name, value) = one.split_once('=').unwrap_or((one, ""));
        if name == "default_transaction_isolation" && value.eq_ignore_ascii_case("serializable") {
            report.warning(
                "serializable",
                format!("transactions of {whose} are serializable by default, which no standby can do: no reads there"),
                "set it in the transactions that need it",
            );
        }
        if name == "default_transaction_read_only"
            && ["on", "true", "yes", "1"].contains(&&*value.to_ascii_lowercase())
            && facts.role == Role::Primary
        {
            report.warning(
                "read-only",
                format!("transactions of {whose} are read-only by default: their writes fail with 25006"),
                "RESET default_transaction_read_only",
            );
        }
    }
}
