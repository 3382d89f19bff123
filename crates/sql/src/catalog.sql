WITH RECURSIVE heir AS (
    SELECT inhparent AS top, inhrelid AS oid FROM pg_catalog.pg_inherits
    UNION
    SELECT heir.top, i.inhrelid FROM heir JOIN pg_catalog.pg_inherits i ON i.inhparent = heir.oid
),
heirs AS (
    SELECT heir.top, bool_or(c.relpersistence = 'u') AS unlogged, bool_or(c.relkind = 'f') AS are_foreign
    FROM heir JOIN pg_catalog.pg_class c ON c.oid = heir.oid GROUP BY heir.top
),
relation AS (
    SELECT c.oid, n.nspname, c.relname, c.relkind, c.relrowsecurity,
           c.relpersistence = 'u' OR COALESCE(h.unlogged, false) AS is_unlogged,
           c.relkind = 'f' OR COALESCE(h.are_foreign, false) AS is_foreign
    FROM pg_catalog.pg_class c
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    LEFT JOIN heirs h ON h.top = c.oid
    WHERE c.relkind IN ('r', 'p', 'm', 'v', 'f', 'S', 't') AND c.relpersistence <> 't'
),
aggregate AS (
    SELECT a.aggfnoid::oid AS oid, max(s.provolatile::text) AS volatility
    FROM pg_catalog.pg_aggregate a
    CROSS JOIN unnest(ARRAY[a.aggtransfn, a.aggfinalfn, a.aggcombinefn, a.aggserialfn, a.aggdeserialfn,
                            a.aggmtransfn, a.aggminvtransfn, a.aggmfinalfn]::oid[]) AS part(oid)
    JOIN pg_catalog.pg_proc s ON s.oid = part.oid
    GROUP BY a.aggfnoid
),
routine AS (
    SELECT n.nspname, p.proname, GREATEST(p.provolatile::text, a.volatility) AS volatility,
           p.pronargs > 0 AND p.pronargs - p.pronargdefaults <= 1
               AND (t.typtype = 'c' OR t.typname IN ('record', 'anyelement', 'any')) AS of_row
    FROM pg_catalog.pg_proc p
    JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
    LEFT JOIN pg_catalog.pg_type t ON t.oid = p.proargtypes[0]
    LEFT JOIN aggregate a ON a.oid = p.oid
),
volatile_type AS (
    -- Objects of users begin at 16384 (access/transam.h, FirstNormalObjectId).
    SELECT t.oid FROM pg_catalog.pg_type t
    JOIN pg_catalog.pg_proc p ON p.oid IN (t.typinput, t.typoutput, t.typreceive, t.typsend)
    WHERE t.oid >= 16384 AND p.provolatile = 'v'
    UNION
    SELECT unnest(ARRAY[c.castsource, c.casttarget]) FROM pg_catalog.pg_cast c
    JOIN pg_catalog.pg_proc p ON p.oid = c.castfunc WHERE p.provolatile = 'v'
    UNION
    SELECT k.contypid FROM pg_catalog.pg_constraint k
    JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_constraint'::regclass AND d.objid = k.oid
    JOIN pg_catalog.pg_proc p ON d.refclassid = 'pg_catalog.pg_proc'::regclass AND p.oid = d.refobjid
    WHERE k.contypid <> 0 AND p.provolatile = 'v'
),
-- A statement begins at the start, behind a semicolon, a quote or a word that opens a block; SET LOCAL ends by itself.
own AS (
    SELECT p.oid, p.proname,
           pg_catalog.regexp_replace(
               pg_catalog.lower(CASE p.prosrc WHEN '' THEN pg_catalog.pg_get_functiondef(p.oid) ELSE p.prosrc END),
               'set_config\s*\((?:[^()]|\([^()]*\))*,\s*true\s*\)', '', 'g') AS source
    FROM pg_catalog.pg_proc p
    JOIN pg_catalog.pg_language l ON l.oid = p.prolang
    WHERE p.oid >= 16384 AND p.prokind <> 'a' AND l.lanname NOT IN ('c', 'internal')
),
state (oid, proname, what, name) AS (
    SELECT oid, proname, 'touches', m[1]
    FROM own, pg_catalog.regexp_matches(source, 'set_config\s*\(\s*''([a-z0-9_.]+)''', 'g') m
    UNION ALL
    SELECT oid, proname, 'touches', COALESCE(m[1], '*')
    FROM own, pg_catalog.regexp_matches(source,
        '(?:^|[;''$]|\m(?:begin|then|else|loop))\s*(?:re)?set\s+(?!local\M|constraints\M|transaction\M)'
        '(?:session\s+(?!authorization\M|characteristics\M))?([a-z_][a-z0-9_.]*)?', 'g') m
    UNION ALL
    SELECT oid, proname, 'touches', '*' FROM own WHERE source ~ 'set_config\s*\((?!\s*''[a-z0-9_.]+'')'
    UNION ALL
    SELECT oid, proname, 'leaves', '' FROM own
    WHERE source ~ '\mtemp(orary)?\M|pg_temp|pg_(try_)?advisory_lock|\mlisten\M|\mprepare\M|with\s+hold'
),
-- Who calls it does it too.
stateful AS (
    SELECT oid, proname, what, name FROM state
    UNION
    SELECT own.oid, own.proname, stateful.what, stateful.name FROM stateful JOIN own
    ON own.source ~ ('\m' || pg_catalog.regexp_replace(pg_catalog.lower(stateful.proname), '(\W)', '\\\1', 'g') || '\M')
)
SELECT 'function', nspname, proname, max(volatility) || CASE WHEN bool_or(of_row) THEN 'r' ELSE '' END
FROM routine GROUP BY nspname, proname
UNION ALL
SELECT 'operator', '', o.oprname, max(p.provolatile::text)
FROM pg_catalog.pg_operator o JOIN pg_catalog.pg_proc p ON p.oid = o.oprcode GROUP BY o.oprname
UNION ALL
SELECT 'type', '', t.typname, '' FROM volatile_type v JOIN pg_catalog.pg_type t ON t.oid = v.oid
UNION ALL
SELECT CASE WHEN relkind = 'S' THEN 'sequence'
            WHEN is_foreign THEN 'foreign'
            WHEN is_unlogged THEN 'unlogged'
            WHEN relkind = 'v' AND nspname = 'pg_catalog' THEN 'system_view'
            WHEN relkind = 'v' AND nspname <> 'information_schema' THEN 'view'
            ELSE 'table' END,
       nspname, relname,
       CASE WHEN relkind = 'v' AND nspname NOT IN ('pg_catalog', 'information_schema')
            THEN pg_catalog.pg_get_viewdef(oid) ELSE '' END
FROM relation
UNION ALL
SELECT what, 'function', proname, name FROM stateful
UNION ALL
SELECT s.what, 'table', c.relname, s.name
FROM stateful s
JOIN pg_catalog.pg_trigger t ON t.tgfoid = s.oid
JOIN pg_catalog.pg_class c ON c.oid = t.tgrelid
UNION ALL
SELECT 'policy', r.nspname, r.relname, pg_catalog.pg_get_expr(p.polqual, p.polrelid)
FROM pg_catalog.pg_policy p JOIN relation r ON r.oid = p.polrelid
WHERE r.relrowsecurity AND p.polcmd IN ('r', '*') AND p.polqual IS NOT NULL
ORDER BY 1, 2, 3, 4
