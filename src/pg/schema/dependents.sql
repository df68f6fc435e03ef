-- What a drop of a schema and of a role would take along outside of the schema.
--   $1  name of the schema
--   $2  name of the role, or NULL
-- `gone` is what DROP SCHEMA .. CASCADE and DROP OWNED .. CASCADE reach: whatever depends on something that goes, and the
-- whole of which something that goes is an internal part (a view, of its rule; an extension, of its member).
-- An object is reported unless it lives in the schema or is only a part of another object that goes: a rule of a view,
-- a trigger of a foreign key, an index of a partition.
WITH RECURSIVE target AS MATERIALIZED (
    SELECT (SELECT oid FROM pg_catalog.pg_namespace WHERE nspname = $1) AS schema,
           (SELECT oid FROM pg_catalog.pg_roles WHERE rolname = $2) AS role
), gone (classid, objid, objsubid) AS (
    (SELECT 'pg_catalog.pg_namespace'::regclass::oid, t.schema, 0 FROM target t WHERE t.schema IS NOT NULL
      UNION ALL
     SELECT s.classid, s.objid, s.objsubid
       FROM target t
       JOIN pg_catalog.pg_shdepend s
         ON s.refclassid = 'pg_catalog.pg_authid'::regclass AND s.refobjid = t.role AND s.deptype = 'o'
        AND s.dbid = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database()))
    UNION
    SELECT n.classid, n.objid, n.objsubid
      FROM gone g
     CROSS JOIN LATERAL (
         SELECT d.classid, d.objid, d.objsubid
           FROM pg_catalog.pg_depend d
          WHERE d.refclassid = g.classid AND d.refobjid = g.objid
            AND (g.objsubid = 0 OR d.refobjsubid = g.objsubid)
         UNION ALL
         SELECT d.refclassid, d.refobjid, d.refobjsubid
           FROM pg_catalog.pg_depend d
          WHERE d.classid = g.classid AND d.objid = g.objid AND d.objsubid = g.objsubid
            AND d.deptype IN ('i', 'e')
     ) n
), placed AS MATERIALIZED (
    SELECT g.*,
           CASE g.classid
           WHEN 'pg_catalog.pg_namespace'::regclass THEN g.objid
           WHEN 'pg_catalog.pg_class'::regclass
               THEN (SELECT relnamespace FROM pg_catalog.pg_class WHERE oid = g.objid)
           WHEN 'pg_catalog.pg_type'::regclass
               THEN (SELECT typnamespace FROM pg_catalog.pg_type WHERE oid = g.objid)
           WHEN 'pg_catalog.pg_proc'::regclass
               THEN (SELECT pronamespace FROM pg_catalog.pg_proc WHERE oid = g.objid)
           WHEN 'pg_catalog.pg_constraint'::regclass
               THEN (SELECT connamespace FROM pg_catalog.pg_constraint WHERE oid = g.objid)
           WHEN 'pg_catalog.pg_attrdef'::regclass
               THEN (SELECT c.relnamespace FROM pg_catalog.pg_attrdef a
                       JOIN pg_catalog.pg_class c ON c.oid = a.adrelid WHERE a.oid = g.objid)
           WHEN 'pg_catalog.pg_trigger'::regclass
               THEN (SELECT c.relnamespace FROM pg_catalog.pg_trigger a
                       JOIN pg_catalog.pg_class c ON c.oid = a.tgrelid WHERE a.oid = g.objid)
           WHEN 'pg_catalog.pg_rewrite'::regclass
               THEN (SELECT c.relnamespace FROM pg_catalog.pg_rewrite a
                       JOIN pg_catalog.pg_class c ON c.oid = a.ev_class WHERE a.oid = g.objid)
           WHEN 'pg_catalog.pg_policy'::regclass
               THEN (SELECT c.relnamespace FROM pg_catalog.pg_policy a
                       JOIN pg_catalog.pg_class c ON c.oid = a.polrelid WHERE a.oid = g.objid)
           WHEN 'pg_catalog.pg_default_acl'::regclass
               THEN (SELECT defaclnamespace FROM pg_catalog.pg_default_acl WHERE oid = g.objid)
           ELSE (SELECT n.oid FROM pg_catalog.pg_identify_object(g.classid, g.objid, g.objsubid) o
                   JOIN pg_catalog.pg_namespace n ON quote_ident(n.nspname) = o.schema)
           END AS schema
      FROM gone g
), outside AS MATERIALIZED (
    SELECT p.classid, p.objid, p.objsubid
      FROM placed p, target t
     WHERE p.schema IS DISTINCT FROM t.schema
       -- Large objects have no schema: they belong to the role.
       AND p.classid <> 'pg_catalog.pg_largeobject'::regclass
), part AS MATERIALIZED (
    SELECT p.classid, p.objid, p.objsubid
      FROM outside p
     -- OFFSET: looked up by each object. Joined otherwise, the dependencies of all tenants would be read.
     CROSS JOIN LATERAL (
         SELECT d.refclassid, d.refobjid, d.refobjsubid, d.deptype
           FROM pg_catalog.pg_depend d
          WHERE d.classid = p.classid AND d.objid = p.objid AND d.objsubid = p.objsubid
         OFFSET 0
     ) d
      JOIN placed q ON q.classid = d.refclassid AND q.objid = d.refobjid AND q.objsubid IN (0, d.refobjsubid)
     WHERE d.deptype IN ('i', 'e')
        OR (d.deptype IN ('a', 'P', 'S')
            AND ((q.classid, q.objid, q.objsubid) IN (SELECT classid, objid, objsubid FROM outside)
                 OR p.classid IN ('pg_catalog.pg_amop'::regclass, 'pg_catalog.pg_amproc'::regclass)))
)
SELECT o.type || ' ' || o.identity AS object
  FROM outside p
 CROSS JOIN LATERAL pg_catalog.pg_identify_object(p.classid, p.objid, p.objsubid) o
 WHERE o.identity IS NOT NULL
   -- No object of another owner is lost with these: a table leaves its publications when it is dropped; settings and
   -- user mappings of a role end with it.
   AND p.classid::regclass::text NOT IN ('pg_publication_rel', 'pg_publication_namespace', 'pg_default_acl',
                                         'pg_user_mapping')
   -- Not NOT EXISTS, which the planner makes a nested loop of.
   AND (p.classid, p.objid, p.objsubid) NOT IN (SELECT classid, objid, objsubid FROM part)
   -- The whole table, where it goes, stands for its columns.
   AND NOT (p.objsubid <> 0 AND EXISTS (SELECT FROM gone w
                                         WHERE w.classid = p.classid AND w.objid = p.objid AND w.objsubid = 0))
 ORDER BY 1
