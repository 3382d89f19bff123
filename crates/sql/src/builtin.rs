//! Functions and views of `pg_catalog` whose volatility does not tell what a proxy must know.
//!
//! The rule for all others: volatile is a write, stable and immutable are harmless. So a function of a later
//! PostgreSQL is safe unless it is stable and speaks of the server; those are what the lists below are for.

use crate::catalog::Volatility;

/// What calling a built-in function does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// The same on a standby.
    Harmless,
    /// Speaks of the server or the connection, or acts on that server.
    Local,
    /// Advances or sets a sequence.
    MovesSequence,
    /// Takes an advisory lock for the session.
    SessionLock,
    /// Any other function of advisory locks.
    AdvisoryLock,
    /// Reads large objects; handles live in the transaction.
    ReadsLargeObject,
    /// Writes large objects.
    WritesLargeObject,
    /// Sets a setting of the connection: which one, the arguments tell.
    Setting,
    /// Seeds the connection's random numbers.
    RandomSeed,
    /// Notifies.
    Notifies,
    /// Volatile, and not known to be harmless.
    Writes,
}

/// What the function `name` of `pg_catalog` does.
pub(crate) fn effect(name: &str, volatility: Volatility) -> Effect {
    match name {
        "nextval" | "setval" => Effect::MovesSequence,
        "set_config" => Effect::Setting,
        "setseed" => Effect::RandomSeed,
        "pg_notify" => Effect::Notifies,
        "pg_advisory_lock" | "pg_advisory_lock_shared" | "pg_try_advisory_lock" | "pg_try_advisory_lock_shared" => {
            Effect::SessionLock
        }
        _ if name.starts_with("pg_advisory_") || name.starts_with("pg_try_advisory_") => Effect::AdvisoryLock,
        "lo_get" | "lo_open" | "lo_close" | "loread" | "lo_lseek" | "lo_lseek64" | "lo_tell" | "lo_tell64" => {
            Effect::ReadsLargeObject
        }
        _ if name.starts_with("lo_") || name == "lowrite" => Effect::WritesLargeObject,
        _ if is_local(name) => Effect::Local,
        _ if volatility == Volatility::Volatile && HARMLESS.binary_search(&name).is_err() => Effect::Writes,
        _ => Effect::Harmless,
    }
}

/// Functions that tell when the transaction began; `age` of one argument counts from its date.
pub(crate) const OF_TRANSACTION: [&str; 3] = ["age", "now", "transaction_timestamp"];

/// Whether a view of `pg_catalog` shows replicated catalogues only. The others show the server's own state.
pub(crate) fn is_replicated_view(name: &str) -> bool {
    REPLICATED_VIEWS.binary_search(&name).is_ok()
}

fn is_local(name: &str) -> bool {
    LOCAL.binary_search(&name).is_ok() || LOCAL_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// Volatile, but with no effect, and with the same meaning on a standby. In order.
const HARMLESS: [&str; 18] = [
    "clock_timestamp",
    "gen_random_uuid",
    "pg_database_size",
    "pg_indexes_size",
    "pg_partition_ancestors",
    "pg_partition_tree",
    "pg_relation_size",
    "pg_sleep",
    "pg_sleep_for",
    "pg_sleep_until",
    "pg_table_size",
    "pg_tablespace_size",
    "pg_total_relation_size",
    "random",
    "random_normal",
    "timeofday",
    "uuidv4",
    "uuidv7",
];

/// Functions about one server or one connection, whatever their volatility; some act on that server. In order.
const LOCAL: [&str; 41] = [
    "current_query",
    "current_setting",
    "currval",
    "lastval",
    "pg_backend_pid",
    "pg_blocking_pids",
    "pg_cancel_backend",
    "pg_collation_actual_version",
    "pg_conf_load_time",
    "pg_config",
    "pg_cursor",
    "pg_database_collation_actual_version",
    "pg_export_snapshot",
    "pg_extension_update_paths",
    "pg_get_aios",
    "pg_get_backend_memory_contexts",
    "pg_get_loaded_modules",
    "pg_get_multixact_members",
    "pg_get_replication_slots",
    "pg_get_sequence_data",
    "pg_get_shmem_allocations",
    "pg_is_in_recovery",
    "pg_is_other_temp_schema",
    "pg_is_wal_replay_paused",
    "pg_jit_available",
    "pg_listening_channels",
    "pg_lock_status",
    "pg_log_backend_memory_contexts",
    "pg_my_temp_schema",
    "pg_notification_queue_usage",
    "pg_postmaster_start_time",
    "pg_promote",
    "pg_reload_conf",
    "pg_rotate_logfile",
    "pg_safe_snapshot_blocking_pids",
    "pg_sequence_last_value",
    "pg_tablespace_location",
    "pg_terminate_backend",
    "pg_xact_status",
    "txid_status",
    "version",
];

/// Families of such functions, and those that run queries over whatever they are told although they are stable.
const LOCAL_PREFIXES: [&str; 24] = [
    "database_to_xml",
    "inet_client_",
    "inet_server_",
    "pg_available_",
    "pg_control_",
    // Positions, snapshots, and transaction ids, which these stable functions assign.
    "pg_current_",
    "pg_get_wal_",
    "pg_hba_",
    "pg_ident_",
    "pg_last_",
    "pg_ls_",
    "pg_prepared_",
    "pg_read_",
    "pg_replication_",
    "pg_show_",
    "pg_stat_",
    "pg_timezone_",
    "pg_wal_replay_",
    "pg_wal_summar",
    "pg_walfile_",
    "pg_xact_commit_",
    "schema_to_xml",
    "table_to_xml",
    "txid_current",
];

/// Views over replicated catalogues. In order.
const REPLICATED_VIEWS: [&str; 16] = [
    "pg_group",
    "pg_indexes",
    "pg_matviews",
    "pg_policies",
    "pg_publication_tables",
    "pg_roles",
    "pg_rules",
    "pg_seclabels",
    "pg_shadow",
    "pg_stats",
    "pg_stats_ext",
    "pg_stats_ext_exprs",
    "pg_tables",
    "pg_user",
    "pg_user_mappings",
    "pg_views",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_in_order() {
        assert!(HARMLESS.is_sorted() && LOCAL.is_sorted() && REPLICATED_VIEWS.is_sorted());
    }

    #[test]
    fn volatility_decides_where_no_list_does() {
        assert_eq!(effect("lower", Volatility::Steady), Effect::Harmless);
        assert_eq!(effect("some_later_function", Volatility::Volatile), Effect::Writes);
        assert_eq!(effect("random", Volatility::Volatile), Effect::Harmless);
        assert_eq!(effect("txid_current", Volatility::Steady), Effect::Local);
        assert_eq!(effect("pg_wal_lsn_diff", Volatility::Steady), Effect::Harmless);
    }
}
