-- All objects of some tenants' schemas, one row an object, comparable between any two schemas: the name of
-- the schema (and of the role, which is the same) is replaced, and nothing depends on an oid.
--   $1  names of schemas
--   $2  whether each has its own role
-- Definitions come from the server's own functions. They qualify names that are not in the search path, and this
-- query runs without a tenant's schema in the search path. An absent property is an empty text; properties are
-- separated by the unit separator, chr(31), in the order of `Kind::properties`.
-- Relations, routines and types are found through `pg_depend`, which has an index by what is depended on: their own
-- catalogs have none by schema, and a pass over them grows with the number of other schemas. An index depends on its table,
-- and the relation of a composite type on the type, and not on the schema.
-- Omitted on purpose: tuning (storage parameters of tables, tablespaces, statistics targets), comments, and the
-- privileges of an object's owner, which each major version writes differently.
WITH me AS MATERIALIZED (
    SELECT oid FROM pg_catalog.pg_roles WHERE rolname = current_user
), schema AS MATERIALIZED (
    SELECT oid, nspname::text AS name, nspowner AS owner, nspacl AS acl
      FROM pg_catalog.pg_namespace
     WHERE nspname = ANY ($1)
), relation AS MATERIALIZED (
    SELECT n.oid AS schema, c.oid, c.relkind, c.relowner AS owner, c.relacl AS acl, c.relpersistence,
           c.relrowsecurity, c.relforcerowsecurity, c.relispartition, c.relpartbound, c.reloptions,
           c.relname, quote_ident(c.relname) AS name,
           CASE c.relkind WHEN 'v' THEN 'view' WHEN 'm' THEN 'materialized view' WHEN 'S' THEN 'sequence'
                          WHEN 'i' THEN 'index' WHEN 'I' THEN 'index' WHEN 'c' THEN 'type'
                          ELSE 'table' END AS kind
      FROM schema n
     CROSS JOIN LATERAL (
           SELECT d.objid AS oid
             FROM pg_catalog.pg_depend d
            WHERE d.refclassid = 'pg_catalog.pg_namespace'::regclass AND d.refobjid = n.oid
              AND d.classid = 'pg_catalog.pg_class'::regclass
            UNION ALL
           SELECT i.indexrelid
             FROM pg_catalog.pg_depend d
             JOIN pg_catalog.pg_index i ON i.indrelid = d.objid
            WHERE d.refclassid = 'pg_catalog.pg_namespace'::regclass AND d.refobjid = n.oid
              AND d.classid = 'pg_catalog.pg_class'::regclass
            UNION ALL
           SELECT t.typrelid
             FROM pg_catalog.pg_depend d
             JOIN pg_catalog.pg_type t ON t.oid = d.objid
            WHERE d.refclassid = 'pg_catalog.pg_namespace'::regclass AND d.refobjid = n.oid
              AND d.classid = 'pg_catalog.pg_type'::regclass) found
      JOIN pg_catalog.pg_class c ON c.oid = found.oid
), routine AS MATERIALIZED (
    SELECT n.oid AS schema, p.oid, p.proowner AS owner, p.proacl AS acl, p.prokind,
           quote_ident(p.proname) || '(' || pg_get_function_identity_arguments(p.oid) || ')' AS name
      FROM schema n
      JOIN pg_catalog.pg_depend d
        ON d.refclassid = 'pg_catalog.pg_namespace'::regclass AND d.refobjid = n.oid
       AND d.classid = 'pg_catalog.pg_proc'::regclass
      JOIN pg_catalog.pg_proc p ON p.oid = d.objid
), type AS MATERIALIZED (
    SELECT n.oid AS schema, t.oid, t.typowner AS owner, t.typacl AS acl, t.typtype, t.typrelid, t.typbasetype,
           t.typtypmod, t.typnotnull, t.typdefault, quote_ident(t.typname) AS name
      FROM schema n
      JOIN pg_catalog.pg_depend d
        ON d.refclassid = 'pg_catalog.pg_namespace'::regclass AND d.refobjid = n.oid
       AND d.classid = 'pg_catalog.pg_type'::regclass
      JOIN pg_catalog.pg_type t ON t.oid = d.objid
     WHERE t.typtype IN ('d', 'e', 'r')
        OR (t.typtype = 'c' AND EXISTS (SELECT FROM relation r WHERE r.oid = t.typrelid AND r.relkind = 'c'))
), granted AS (
    SELECT oid AS schema, 'grant' AS kind, 'schema' AS parent, owner, a.grantee, a.privilege_type AS privilege,
           a.is_grantable
      FROM schema, aclexplode(acl) a
    UNION ALL
    SELECT schema, 'grant', kind || ' ' || name, owner, a.grantee, a.privilege_type, a.is_grantable
      FROM relation, aclexplode(acl) a
    UNION ALL
    SELECT r.schema, 'grant', r.kind || ' ' || r.name, r.owner, a.grantee,
           a.privilege_type || ' (' || quote_ident(c.attname) || ')', a.is_grantable
      FROM relation r
      JOIN pg_catalog.pg_attribute c ON c.attrelid = r.oid AND c.attacl IS NOT NULL AND NOT c.attisdropped
     CROSS JOIN aclexplode(c.attacl) a
    UNION ALL
    SELECT schema, 'grant', 'routine ' || name, owner, a.grantee, a.privilege_type, a.is_grantable
      FROM routine, aclexplode(coalesce(acl, acldefault('f', owner))) a
    UNION ALL
    SELECT schema, 'grant', 'type ' || name, owner, a.grantee, a.privilege_type, a.is_grantable
      FROM type, aclexplode(coalesce(acl, acldefault('T', owner))) a
    UNION ALL
    SELECT n.oid, 'default grant',
           CASE d.defaclobjtype WHEN 'r' THEN 'tables' WHEN 'S' THEN 'sequences' WHEN 'f' THEN 'routines'
                                WHEN 'T' THEN 'types' ELSE d.defaclobjtype::text END
           || CASE WHEN d.defaclrole = (SELECT oid FROM me) THEN ''
                   ELSE ' of ' || quote_ident(pg_get_userbyid(d.defaclrole)) END,
           NULL::oid, a.grantee, a.privilege_type, a.is_grantable
      FROM schema n
      JOIN pg_catalog.pg_default_acl d ON d.defaclnamespace = n.oid
     CROSS JOIN aclexplode(d.defaclacl) a
), object AS (
    SELECT oid AS schema, 'schema' AS kind, '' AS parent, '' AS name, owner, ARRAY[]::text[] AS properties
      FROM schema
    UNION ALL
    SELECT r.schema, r.kind, '', r.name, r.owner,
           ARRAY[CASE r.relkind WHEN 'p' THEN 'partitioned by ' || pg_get_partkeydef(r.oid)
                                WHEN 'f' THEN 'foreign' ELSE 'plain' END
                 || CASE r.relpersistence WHEN 'u' THEN ', unlogged' ELSE '' END,
                 (SELECT string_agg(i.inhparent::regclass::text, ', ' ORDER BY i.inhseqno)
                    FROM pg_catalog.pg_inherits i
                   WHERE i.inhrelid = r.oid) || coalesce(' ' || pg_get_expr(r.relpartbound, r.oid), ''),
                 CASE WHEN r.relforcerowsecurity THEN 'forced' WHEN r.relrowsecurity THEN 'on' ELSE 'off' END,
                 (SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY a.attnum)
                    FROM pg_catalog.pg_attribute a
                   WHERE a.attrelid = r.oid AND a.attnum > 0 AND NOT a.attisdropped)]
      FROM relation r
     WHERE r.kind = 'table'
    UNION ALL
    SELECT r.schema, 'column', r.kind || ' ' || r.name, quote_ident(a.attname), NULL,
           ARRAY[format_type(a.atttypid, a.atttypmod),
                 CASE WHEN a.attnotnull THEN 'NOT NULL' ELSE 'NULL' END,
                 CASE a.attgenerated WHEN '' THEN '' ELSE 'generated ' END || pg_get_expr(d.adbin, d.adrelid),
                 CASE a.attidentity WHEN 'a' THEN 'always' WHEN 'd' THEN 'by default' ELSE '' END,
                 CASE WHEN a.attcollation <> t.typcollation THEN a.attcollation::regcollation::text END]
      FROM relation r
      JOIN pg_catalog.pg_attribute a ON a.attrelid = r.oid AND a.attnum > 0 AND NOT a.attisdropped
      JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
      LEFT JOIN pg_catalog.pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
     WHERE r.kind = 'table'
    UNION ALL
    SELECT r.schema, r.kind, '', r.name, r.owner,
           ARRAY[pg_get_viewdef(r.oid), array_to_string(r.reloptions, ', ')]
      FROM relation r
     WHERE r.kind IN ('view', 'materialized view')
    UNION ALL
    -- A sequence that belongs to a column has the owner of its table, which is reported with the table.
    SELECT r.schema, r.kind, '', r.name,
           CASE WHEN EXISTS (SELECT FROM pg_catalog.pg_depend d
                              WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.objid = r.oid
                                AND d.refclassid = 'pg_catalog.pg_class'::regclass AND d.deptype IN ('a', 'i'))
                THEN (SELECT oid FROM me) ELSE r.owner END,
           ARRAY[format('%s start %s increment %s minimum %s maximum %s cache %s%s', format_type(s.seqtypid, NULL),
                        s.seqstart, s.seqincrement, s.seqmin, s.seqmax, s.seqcache,
                        CASE WHEN s.seqcycle THEN ' cycle' ELSE '' END)]
      FROM relation r
      JOIN pg_catalog.pg_sequence s ON s.seqrelid = r.oid
    UNION ALL
    -- PostgreSQL 18 stores NOT NULL here too (n); the columns report it for every version.
    SELECT r.schema, 'constraint', r.kind || ' ' || r.name, quote_ident(k.conname), NULL,
           ARRAY[pg_get_constraintdef(k.oid)]
      FROM relation r
      JOIN pg_catalog.pg_constraint k ON k.conrelid = r.oid AND k.contype IN ('c', 'f', 'p', 'u', 'x')
     -- A foreign key to a partitioned table has a further row for each partition.
     WHERE NOT (k.contype = 'f' AND k.conparentid <> 0
                AND EXISTS (SELECT FROM pg_catalog.pg_constraint p
                             WHERE p.oid = k.conparentid AND p.conrelid = k.conrelid))
    UNION ALL
    -- An index of a constraint has the constraint's name and is dropped with it.
    SELECT i.schema, 'index', r.kind || ' ' || r.name, i.name, NULL,
           ARRAY[pg_get_indexdef(i.oid), CASE WHEN x.indisvalid THEN 'valid' ELSE 'not valid' END]
      FROM relation i
      JOIN pg_catalog.pg_index x ON x.indexrelid = i.oid
      JOIN relation r ON r.oid = x.indrelid
     WHERE i.kind = 'index'
       AND NOT EXISTS (SELECT FROM pg_catalog.pg_constraint k
                        WHERE k.conrelid = x.indrelid AND k.conname = i.relname
                          AND k.contype IN ('p', 'u', 'x'))
    UNION ALL
    SELECT r.schema, 'trigger', r.kind || ' ' || r.name, quote_ident(t.tgname), NULL,
           ARRAY[pg_get_triggerdef(t.oid),
                 CASE t.tgenabled WHEN 'O' THEN 'on' WHEN 'D' THEN 'off' ELSE t.tgenabled::text END]
      FROM relation r
      JOIN pg_catalog.pg_trigger t ON t.tgrelid = r.oid AND NOT t.tgisinternal
    UNION ALL
    SELECT r.schema, 'rule', r.kind || ' ' || r.name, quote_ident(w.rulename), NULL, ARRAY[pg_get_ruledef(w.oid)]
      FROM relation r
      JOIN pg_catalog.pg_rewrite w ON w.ev_class = r.oid AND w.rulename <> '_RETURN'
    UNION ALL
    SELECT r.schema, 'policy', r.kind || ' ' || r.name, quote_ident(p.polname), NULL,
           ARRAY[format('%s for %s to %s using (%s) with check (%s)',
                        CASE WHEN p.polpermissive THEN 'permissive' ELSE 'restrictive' END, p.polcmd,
                        (SELECT string_agg(CASE o WHEN 0 THEN 'public' ELSE pg_get_userbyid(o)::text END, ', ')
                           FROM unnest(p.polroles) o),
                        pg_get_expr(p.polqual, p.polrelid), pg_get_expr(p.polwithcheck, p.polrelid))]
      FROM relation r
      JOIN pg_catalog.pg_policy p ON p.polrelid = r.oid
    UNION ALL
    SELECT r.schema, 'statistics', r.kind || ' ' || r.name, quote_ident(s.stxname), NULL,
           ARRAY[pg_get_statisticsobjdef(s.oid)]
      FROM relation r
      JOIN pg_catalog.pg_statistic_ext s ON s.stxrelid = r.oid
    UNION ALL
    SELECT schema, 'routine', '', name, owner,
           ARRAY[CASE prokind
                 WHEN 'a' THEN (SELECT format('aggregate %s returns %s by %s', pg_get_function_arguments(routine.oid),
                                              pg_get_function_result(routine.oid), a.aggtransfn::regprocedure)
                                  FROM pg_catalog.pg_aggregate a
                                 WHERE a.aggfnoid = routine.oid)
                 ELSE pg_get_functiondef(oid) END]
      FROM routine
    UNION ALL
    SELECT t.schema, 'type', '', t.name, t.owner,
           ARRAY[CASE t.typtype
                 WHEN 'e' THEN (SELECT 'enum ' || string_agg(quote_literal(e.enumlabel), ', ' ORDER BY e.enumsortorder)
                                  FROM pg_catalog.pg_enum e
                                 WHERE e.enumtypid = t.oid)
                 WHEN 'c' THEN (SELECT 'composite ' || string_agg(
                                           quote_ident(a.attname) || ' ' || format_type(a.atttypid, a.atttypmod),
                                           ', ' ORDER BY a.attnum)
                                  FROM pg_catalog.pg_attribute a
                                 WHERE a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped)
                 WHEN 'r' THEN (SELECT 'range of ' || format_type(g.rngsubtype, NULL)
                                  FROM pg_catalog.pg_range g
                                 WHERE g.rngtypid = t.oid)
                 ELSE 'domain over ' || format_type(t.typbasetype, t.typtypmod)
                      || CASE WHEN t.typnotnull THEN ' NOT NULL' ELSE '' END
                      || coalesce(' DEFAULT ' || t.typdefault, '')
                      || coalesce((SELECT string_agg(' CONSTRAINT ' || quote_ident(k.conname) || ' '
                                                         || pg_get_constraintdef(k.oid), '' ORDER BY k.conname)
                                     FROM pg_catalog.pg_constraint k
                                    WHERE k.contypid = t.oid AND k.contype = 'c'), '')
                 END]
      FROM type t
    UNION ALL
    SELECT n.oid, 'other object', '', o.name, NULL, ARRAY[]::text[]
      FROM schema n
      JOIN (SELECT collnamespace AS ns, 'collation ' || quote_ident(collname) AS name FROM pg_catalog.pg_collation
            UNION ALL SELECT connamespace, 'conversion ' || quote_ident(conname) FROM pg_catalog.pg_conversion
            UNION ALL SELECT oprnamespace, 'operator ' || oprname || ' (' || format_type(oprleft, NULL) || ', '
                             || format_type(oprright, NULL) || ')' FROM pg_catalog.pg_operator
            UNION ALL SELECT opcnamespace, 'operator class ' || quote_ident(opcname) FROM pg_catalog.pg_opclass
            UNION ALL SELECT cfgnamespace, 'text search configuration ' || quote_ident(cfgname)
                        FROM pg_catalog.pg_ts_config
            UNION ALL SELECT dictnamespace, 'text search dictionary ' || quote_ident(dictname)
                        FROM pg_catalog.pg_ts_dict) o
        ON o.ns = n.oid
    UNION ALL
    SELECT schema, kind, parent,
           CASE grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(grantee)) END, NULL,
           ARRAY[string_agg(privilege || CASE WHEN is_grantable THEN '*' ELSE '' END, chr(30)
                            ORDER BY privilege COLLATE "C")]
      FROM granted
     WHERE grantee IS DISTINCT FROM owner
     GROUP BY schema, kind, parent, grantee
    UNION ALL
    SELECT n.oid, 'role', '', '', NULL,
           ARRAY[concat_ws(', ', CASE WHEN r.rolsuper THEN 'SUPERUSER' END, CASE WHEN r.rolinherit THEN 'INHERIT' END,
                           CASE WHEN r.rolcreaterole THEN 'CREATEROLE' END, CASE WHEN r.rolcreatedb THEN 'CREATEDB' END,
                           CASE WHEN r.rolcanlogin THEN 'LOGIN' END,
                           CASE WHEN r.rolreplication THEN 'REPLICATION' END,
                           CASE WHEN r.rolbypassrls THEN 'BYPASSRLS' END)]
      FROM schema n
      JOIN pg_catalog.pg_roles r ON r.rolname = n.name
     WHERE $2
    UNION ALL
    -- From PostgreSQL 16 on a grant has its own options, and the creator of a role is a member of it.
    SELECT n.oid, 'member', 'role', quote_ident(pg_get_userbyid(m.member)), NULL,
           ARRAY[concat_ws(', ', CASE WHEN bool_or(m.admin_option) THEN 'ADMIN' END,
                           CASE WHEN bool_or((to_jsonb(m) ->> 'inherit_option')::boolean) THEN 'INHERIT' END,
                           CASE WHEN bool_or(coalesce((to_jsonb(m) ->> 'set_option')::boolean, true)) THEN 'SET' END)]
      FROM schema n
      JOIN pg_catalog.pg_roles r ON r.rolname = n.name
      JOIN pg_catalog.pg_auth_members m ON m.roleid = r.oid AND m.member <> (SELECT oid FROM me)
     WHERE $2
     GROUP BY n.oid, m.member
    UNION ALL
    SELECT n.oid, 'membership', 'role', quote_ident(pg_get_userbyid(m.roleid)), NULL, ARRAY[]::text[]
      FROM schema n
      JOIN pg_catalog.pg_roles r ON r.rolname = n.name
      JOIN pg_catalog.pg_auth_members m ON m.member = r.oid
     WHERE $2
     GROUP BY n.oid, m.roleid
)
SELECT n.name AS schema, o.kind, replace(o.parent, n.name, '{tenant}') AS parent,
       replace(o.name, n.name, '{tenant}') AS name,
       replace(array_to_string(
                   CASE WHEN o.owner IS NULL THEN o.properties
                        ELSE array_prepend(CASE WHEN o.owner = (SELECT oid FROM me) THEN ''
                                                ELSE quote_ident(pg_get_userbyid(o.owner)) END, o.properties)
                   END, chr(31), ''), n.name, '{tenant}') AS properties
  FROM object o
  JOIN schema n ON n.oid = o.schema
