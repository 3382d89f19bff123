-- Two reads of one transaction see one state.
\set aid random(1, 1000)
BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;
SELECT sum(abalance) AS accounts FROM pgbench_accounts WHERE aid <= 1000 \gset
SELECT pg_sleep(0.001);
SELECT sum(abalance) AS again FROM pgbench_accounts WHERE aid <= 1000 \gset
COMMIT;
\if :accounts != :again
SELECT 1 / 0 AS "one transaction saw two states";
\endif
