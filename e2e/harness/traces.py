"""What a client may leave behind in a server connection."""

# What a stranger asks: everything that somebody may have left.
LEFT = """SELECT current_setting('work_mem'), current_setting('search_path'), current_setting('TimeZone'),
    current_setting('DateStyle'), current_setting('statement_timeout'), current_setting('client_encoding'),
    current_setting('application_name'), current_setting('default_transaction_read_only'),
    current_setting('default_transaction_isolation'), current_setting('synchronous_commit'),
    coalesce(current_setting('app.tenant', true), ''), coalesce(current_setting('app.actor', true), ''),
    current_user, session_user, current_schema(),
    (SELECT count(*) FROM pg_prepared_statements WHERE from_sql), (SELECT count(*) FROM pg_cursors WHERE is_holdable),
    (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()),
    (SELECT count(*) FROM pg_listening_channels()), to_regclass('pg_temp.mine')::text"""
