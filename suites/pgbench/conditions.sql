-- Variables, conditions and rows taken into variables.
\set n random(1, 1000)
\set m (:n * 3 + 7) % 10
SELECT :n * 3 + 7 AS sum, 'text with ''quotes''' AS word, NULL AS nothing \gset told_
\if :told_sum % 10 != :m
SELECT 1 / 0 AS "a row was not taken into variables";
\elif :n > 500
SELECT count(*) AS counted FROM pgbench_branches WHERE bid <= :n \gset
\if :counted = 0
SELECT 1 / 0 AS "no branch was counted";
\endif
\else
\sleep 100 us
\endif
