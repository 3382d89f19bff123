//! The table of statements and what must be said of them, and the objects that they name.
//!
//! `table.rs` checks it against a catalogue written out here; `live.rs` against real servers.

#![allow(dead_code, reason = "each test takes what it needs")]

use highwater_sql::{Catalog, Class, Pin};

pub(crate) mod rows;

/// One line of the table.
pub(crate) struct Row {
    pub(crate) class: Class,
    /// The label of the reason.
    pub(crate) why: &'static str,
    pub(crate) pin: Option<Pin>,
    pub(crate) sql: &'static str,
}

/// All objects of the table, for a real primary; run in a database of their own.
pub(crate) const SETUP: &str = r#"
CREATE TABLE t2 (id int PRIMARY KEY, v text);
INSERT INTO t2 VALUES (1, 'a'), (2, 'b');
CREATE UNLOGGED TABLE u2 (i int);
CREATE MATERIALIZED VIEW mv AS SELECT 1 AS i;
CREATE SEQUENCE sq;
CREATE UNLOGGED TABLE parted_cold (i int, j int);
CREATE TABLE parted (i int, j int) PARTITION BY LIST (i);
ALTER TABLE parted ATTACH PARTITION parted_cold FOR VALUES IN (1);
CREATE FOREIGN DATA WRAPPER elsewhere;
CREATE SERVER far FOREIGN DATA WRAPPER elsewhere;
CREATE FOREIGN TABLE ft (i int) SERVER far;
CREATE FUNCTION wr() RETURNS int LANGUAGE sql AS $$ INSERT INTO t2 VALUES (70, 'w') ON CONFLICT DO NOTHING; SELECT 1 $$;
CREATE FUNCTION wrc() RETURNS int LANGUAGE plpgsql AS
  $$ BEGIN INSERT INTO t2 VALUES (71, 'w') ON CONFLICT DO NOTHING; RETURN 1; EXCEPTION WHEN OTHERS THEN RETURN -1; END $$;
CREATE FUNCTION rdf() RETURNS bigint LANGUAGE sql AS $$ SELECT count(*) FROM t2 $$;
CREATE FUNCTION steady() RETURNS bigint LANGUAGE sql STABLE AS $$ SELECT count(*) FROM t2 $$;
CREATE FUNCTION twice(int) RETURNS int LANGUAGE sql IMMUTABLE AS $$ SELECT $1 * 2 $$;
CREATE FUNCTION ntf() RETURNS int LANGUAGE sql AS $$ SELECT pg_notify('c', 'x'); SELECT 1 $$;
CREATE FUNCTION shout(t2) RETURNS int LANGUAGE sql AS $$ SELECT wr() $$;
CREATE PROCEDURE prc() LANGUAGE sql AS $$ SELECT 1 $$;
CREATE PROCEDURE prw() LANGUAGE sql AS $$ INSERT INTO t2 VALUES (72, 'p') ON CONFLICT DO NOTHING $$;
CREATE FUNCTION writes_both(int, int) RETURNS boolean LANGUAGE sql AS $$ SELECT wr() = $1 + $2 $$;
CREATE OPERATOR @#@ (LEFTARG = int, RIGHTARG = int, FUNCTION = writes_both);
CREATE FUNCTION adds(int, int) RETURNS int LANGUAGE sql AS $$ SELECT $1 + $2 + 0 * wr() $$;
CREATE AGGREGATE summed (int) (SFUNC = adds, STYPE = int, INITCOND = '0');
CREATE FUNCTION accepts(int) RETURNS boolean LANGUAGE sql AS $$ SELECT wr() IS NOT NULL $$;
CREATE DOMAIN checked AS int CHECK (accepts(VALUE));
CREATE VIEW calm AS SELECT id, v FROM t2 WHERE id > 0;
CREATE VIEW calmer AS SELECT * FROM calm UNION ALL SELECT i, NULL FROM mv;
CREATE VIEW aged AS SELECT id FROM t2 WHERE now() > '2020-01-01'::date;
CREATE VIEW writing AS SELECT id, wr() AS w FROM t2;
CREATE VIEW behind AS SELECT * FROM writing;
CREATE VIEW over_sequence AS SELECT last_value FROM sq;
CREATE VIEW watching AS SELECT count(*) FROM pg_stat_activity;
CREATE TABLE guarded (id int);
ALTER TABLE guarded ENABLE ROW LEVEL SECURITY;
CREATE POLICY only_mine ON guarded USING (wr() = id);
CREATE TABLE fenced (id int, owner text);
ALTER TABLE fenced ENABLE ROW LEVEL SECURITY;
CREATE POLICY only_mine ON fenced USING (owner = current_user);
CREATE TABLE "Odd ""Name" (i int);
CREATE FUNCTION set_tenant(id int) RETURNS void LANGUAGE plpgsql AS $$ BEGIN
  PERFORM set_config('app.tenant', id::text, false), set_config('app.other', 'x', true);
  EXECUTE 'SET search_path TO public'; SET LOCAL work_mem = '1MB'; UPDATE t2 SET v = v WHERE false; END $$;
CREATE FUNCTION calls_set_tenant() RETURNS void LANGUAGE sql AS $$ SELECT Set_Tenant(2) $$;
CREATE FUNCTION locking() RETURNS void LANGUAGE sql AS $$ SELECT pg_advisory_lock(1) $$;
CREATE FUNCTION dark() RETURNS void LANGUAGE plpgsql AS $$ BEGIN EXECUTE format('SET %I = 1', 'app.z'); END $$;
CREATE TABLE audited (id int);
CREATE FUNCTION note_actor() RETURNS trigger LANGUAGE plpgsql AS
  $$ BEGIN PERFORM set_config('app.actor', 'x', false); RETURN NEW; END $$;
CREATE TRIGGER noting BEFORE INSERT ON audited FOR EACH ROW EXECUTE FUNCTION note_actor();
CREATE SCHEMA other;
CREATE TABLE other.t3 (i int);
CREATE UNLOGGED TABLE other.twin (i int);
CREATE TABLE public.twin (i int);
"#;

/// What the catalogue says of the objects of [`SETUP`], and of the built-in functions that the table calls.
pub(crate) fn catalog() -> Catalog {
    let mut rows: Vec<[Option<String>; 4]> = Vec::new();
    let mut add = |kind: &str, schema: &str, names: &str, detail: &str| {
        let row = |name: &str| [kind, schema, name, detail].map(|cell| Some(cell.to_owned()));
        rows.extend(names.split_whitespace().map(row));
    };
    add("function", "pg_catalog", STEADY, "s");
    add("function", "pg_catalog", VOLATILE, "v");
    add("function", "public", "wr wrc rdf ntf prc prw writes_both adds summed accepts", "v");
    add("function", "public", "shout", "vr");
    add("function", "public", "set_tenant locking dark", "v");
    add("table", "public", "audited", "");
    add("touches", "function", "set_tenant", "app.tenant");
    add("touches", "function", "set_tenant", "search_path");
    add("touches", "table", "audited", "app.actor");
    add("touches", "function", "dark", "*");
    add("leaves", "function", "locking", "");
    add("function", "public", "steady twice", "s");
    add("operator", "", "= <> < > <= >= + - * / % || ~~ ~ -> ->> @> && !~~", "i");
    add("operator", "", "@#@", "v");
    add("type", "", "checked", "");
    add("table", "public", "t2 mv fenced guarded twin", "");
    add("table", "other", "t3", "");
    add("table", "pg_catalog", "pg_class pg_namespace pg_attribute pg_database", "");
    add("table", "information_schema", "tables columns", "");
    add("unlogged", "public", "u2 parted parted_cold", "");
    add("unlogged", "other", "twin", "");
    add("foreign", "public", "ft", "");
    add("sequence", "public", "sq", "");
    add("system_view", "pg_catalog", SYSTEM_VIEWS, "");
    add("view", "public", "calm", " SELECT t2.id, t2.v FROM t2 WHERE t2.id > 0;");
    add("view", "public", "calmer", " SELECT calm.id, calm.v FROM calm UNION ALL SELECT mv.i, NULL::text FROM mv;");
    add("view", "public", "aged", " SELECT t2.id FROM t2 WHERE now() > '2020-01-01'::date;");
    add("view", "public", "writing", " SELECT t2.id, wr() AS w FROM t2;");
    add("view", "public", "behind", " SELECT writing.id, writing.w FROM writing;");
    add("view", "public", "over_sequence", " SELECT sq.last_value FROM sq;");
    add("view", "public", "watching", " SELECT count(*) AS count FROM pg_stat_activity;");
    add("policy", "public", "guarded", "(wr() = id)");
    add("policy", "public", "fenced", "(owner = CURRENT_USER)");
    rows.push(["table", "public", "Odd \"Name", ""].map(|cell| Some(cell.to_owned())));
    Catalog::from_rows(rows).expect("rows of the right shape")
}

const STEADY: &str = "abs array_agg array_length avg concat count current_database current_schema current_setting
    date_trunc extract format generate_series generate_subscripts has_table_privilege inet_server_port json_agg
    json_build_object length lower max min now obj_description pg_backend_pid pg_current_snapshot pg_current_xact_id
    pg_current_xact_id_if_assigned pg_get_viewdef pg_listening_channels pg_table_is_visible pg_wal_lsn_diff
    pg_walfile_name position rank round row_number row_to_json string_agg substring sum timezone to_char to_regclass
    txid_current txid_current_if_assigned txid_current_snapshot unnest upper version similar_to_escape overlay btrim
    percentile_cont jsonb_path_query table_to_xml";

const VOLATILE: &str = "clock_timestamp currval gen_random_uuid lastval lo_create lo_from_bytea lo_get lo_open lo_put
    lo_unlink nextval pg_advisory_lock pg_advisory_lock_shared pg_advisory_unlock pg_advisory_unlock_all
    pg_advisory_xact_lock pg_backup_start pg_cancel_backend pg_control_checkpoint pg_control_recovery pg_control_system
    pg_create_physical_replication_slot pg_create_restore_point pg_current_wal_flush_lsn pg_current_wal_insert_lsn
    pg_current_wal_lsn pg_drop_replication_slot pg_export_snapshot pg_get_wal_replay_pause_state
    pg_import_system_collations pg_is_in_recovery pg_is_wal_replay_paused pg_last_committed_xact
    pg_last_wal_receive_lsn pg_last_wal_replay_lsn pg_last_xact_replay_timestamp pg_logical_emit_message
    pg_notification_queue_usage pg_notify pg_reload_conf pg_replication_origin_create pg_sequence_last_value pg_sleep
    pg_stat_reset pg_stat_reset_shared pg_switch_wal pg_table_size pg_try_advisory_lock pg_try_advisory_xact_lock
    pg_wal_replay_resume pg_xact_status query_to_xml random set_config setseed setval txid_status";

const SYSTEM_VIEWS: &str = "pg_indexes pg_locks pg_prepared_xacts pg_replication_slots pg_sequences pg_settings
    pg_stat_activity pg_stat_database pg_stat_replication pg_stat_user_tables pg_stat_wal_receiver pg_stats pg_tables
    pg_views";
