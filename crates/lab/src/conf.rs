//! What PostgreSQL's configuration files say, as text.
//!
//! Each server reads a file of its own that lies beside its data folder, so that neither a base backup nor a rewind
//! carries another server's port into it. It must not know processes.

use std::path::Path;
use std::time::Duration;

use crate::cluster::ClusterOptions;

/// Who may log in, for all servers (PostgreSQL manual, "The pg_hba.conf File").
///
/// SCRAM for the two roles that have a password: a proxy that can only pass trusted users proves nothing.
pub(crate) const HBA: &str = "\
local all,replication all trust
host all,replication app,highwater 127.0.0.1/32 scram-sha-256
host all,replication all 127.0.0.1/32 trust
";

/// The roles and the database, for a new primary. `trusted` may do what `app` may.
pub(crate) const ROLES: &str = "\
SET password_encryption = 'scram-sha-256';
CREATE ROLE app LOGIN PASSWORD 'app';
CREATE ROLE highwater LOGIN REPLICATION PASSWORD 'highwater';
GRANT pg_monitor TO highwater;
CREATE ROLE trusted LOGIN IN ROLE app;
CREATE DATABASE shop OWNER app;
";

/// The settings of every server, before those that the caller brings.
///
/// Small, because several clusters run beside each other. Some WAL stays for standbys that change their primary. Shared
/// memory in files of the data folder disappears with the folder even after `kill -9`. Quick replies and retries of the
/// WAL receiver keep tests short.
const SETTINGS: [(&str, &str); 13] = [
    ("listen_addresses", "127.0.0.1"),
    ("max_connections", "200"),
    ("shared_buffers", "16MB"),
    ("max_wal_size", "256MB"),
    ("wal_keep_size", "64MB"),
    ("max_wal_senders", "20"),
    ("max_replication_slots", "20"),
    ("wal_receiver_status_interval", "1s"),
    ("wal_retrieve_retry_interval", "100ms"),
    ("dynamic_shared_memory_type", "mmap"),
    ("jit", "off"),
    ("log_line_prefix", "%m [%p] %q%u@%d "),
    ("lc_messages", "C"),
];

/// The configuration file of the server `name`. `delay` is its `recovery_min_apply_delay` to begin with.
pub(crate) fn server(options: &ClusterOptions, folder: &Path, name: &str, port: u16, delay: Duration) -> String {
    let on_off = |value: bool| if value { "on" } else { "off" }.to_owned();
    let folder = folder.display();
    let own = [
        ("cluster_name", name.to_owned()),
        ("port", port.to_string()),
        ("unix_socket_directories", format!("\"{folder}\"")),
        ("hba_file", format!("{folder}/pg_hba.conf")),
        ("fsync", on_off(options.durable)),
        ("hot_standby_feedback", on_off(options.hot_standby_feedback)),
        ("recovery_min_apply_delay", format!("{}ms", delay.as_millis())),
    ];
    let common = SETTINGS.into_iter().map(|(key, value)| (key, value.to_owned()));
    let brought = options.settings.iter().map(|(key, value)| (key.as_str(), value.clone()));
    common.chain(own).chain(brought).map(|(key, value)| format!("{key} = {}\n", quoted(&value))).collect()
}

/// A value between quotes, as configuration files and SQL with standard strings want it.
pub(crate) fn quoted(value: &str) -> String {
    format!("'{}'", value.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_of_the_caller_comes_last_and_so_wins() {
        let settings = vec![("shared_buffers".to_owned(), "1MB".to_owned())];
        let options = ClusterOptions { settings, ..ClusterOptions::default() };
        let text = server(&options, Path::new("/lab"), "primary", 5432, Duration::ZERO);
        assert!(text.ends_with("shared_buffers = '1MB'\n"), "{text}");
        assert!(text.contains("unix_socket_directories = '\"/lab\"'\n"), "{text}");
    }

    #[test]
    fn a_quote_in_a_value_is_doubled() {
        assert_eq!(quoted("it's"), "'it''s'");
    }
}
