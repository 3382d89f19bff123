-- Several statements in one simple Query, the last rows of all of them into variables.
\set aid random(1, 1000)
SELECT 1 AS one \; SELECT abalance AS two FROM pgbench_accounts WHERE aid = :aid \; SELECT 3 AS three \aset
\if :one + :three != 4
SELECT 1 / 0 AS "a statement of several was lost";
\endif
