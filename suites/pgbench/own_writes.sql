-- Every client reads back what it has just written, as it was acknowledged.
\set aid :client_id + 1
\set delta random(-5000, 5000)
UPDATE pgbench_accounts SET abalance = abalance + :delta WHERE aid = :aid RETURNING abalance AS written \gset
SELECT abalance AS seen FROM pgbench_accounts WHERE aid = :aid \gset
\if :written != :seen
SELECT 1 / 0 AS "a write that was acknowledged is not seen";
\endif
INSERT INTO pgbench_history (tid, bid, aid, delta, mtime) VALUES (1, 1, :aid, :delta, CURRENT_TIMESTAMP);
UPDATE pgbench_tellers SET tbalance = tbalance + :delta WHERE tid = 1;
UPDATE pgbench_branches SET bbalance = bbalance + :delta WHERE bid = 1;
