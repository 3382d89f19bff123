-- Every transaction but the client's fifth is a good one; the client that fails ends.
\set n :n + 1
SELECT 10 / (5 - :n) AS quotient;
