-- Places that keep the name of a schema as text, which a rename does not change: bodies and settings of functions,
-- defaults, settings of roles.
--   $1  name of the schema
--   $2  the name that is looked for, as a regular expression
WITH schema AS (SELECT oid FROM pg_catalog.pg_namespace WHERE nspname = $1)
SELECT p.prokind::text AS kind, p.oid::regprocedure::text AS object,
       CASE WHEN p.prosrc ~ $2 THEN 'its body' ELSE 'its settings' END AS place
  FROM pg_catalog.pg_proc p
 WHERE p.pronamespace = (SELECT oid FROM schema)
   AND (p.prosrc ~ $2 OR array_to_string(p.proconfig, ' ') ~ $2)
UNION ALL
SELECT 'd', format('%s.%I', d.adrelid::regclass, a.attname), 'its text'
  FROM pg_catalog.pg_attrdef d
  JOIN pg_catalog.pg_class c ON c.oid = d.adrelid AND c.relnamespace = (SELECT oid FROM schema)
  JOIN pg_catalog.pg_attribute a ON a.attrelid = d.adrelid AND a.attnum = d.adnum
 WHERE EXISTS (SELECT FROM regexp_matches(pg_get_expr(d.adbin, d.adrelid), '''([^'']*)''::text', 'g') AS m (part)
                WHERE m.part[1] ~ $2)
UNION ALL
SELECT 'r', coalesce(quote_ident(pg_get_userbyid(nullif(s.setrole, 0))), 'all roles'), setting
  FROM pg_catalog.pg_db_role_setting s, unnest(s.setconfig) AS setting
 WHERE s.setdatabase IN (0, (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database()))
   AND setting ~ '^search_path=' AND setting ~ $2
 ORDER BY 1, 2
