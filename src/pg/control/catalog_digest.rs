//! The SQL expression that digests what the catalogs say of a vacancy's schema and role, so that a set-up can tell by a few
//! index look-ups whether they were changed since they were made.
//!
//! It covers which tables, views and sequences there are, how many columns, constraints and indexes each has, and owners
//! and privileges. `doctor` compares the rest.

/// Builds the expression for the vacancy whose id the SQL expression `$id` is; NULL without a schema.
macro_rules! catalog_digest {
    ($id:literal) => {
        concat!(
            "(SELECT md5(concat_ws('|', pg_get_userbyid(n.nspowner), n.nspacl,
                         (SELECT concat_ws(',', r.rolsuper, r.rolbypassrls, EXISTS (
                                     SELECT FROM pg_catalog.pg_auth_members m
                                      WHERE m.roleid = r.oid AND m.member = (
                                            SELECT oid FROM pg_catalog.pg_roles WHERE rolname = 'rowhouse_runtime')))
                            FROM pg_catalog.pg_roles r WHERE r.rolname = n.nspname),
                         (SELECT concat_ws(',', count(*), sum(hashtextextended(
                                     concat_ws('|', c.relname, c.relkind, pg_get_userbyid(c.relowner), c.relacl,
                                               (SELECT count(*) FROM pg_catalog.pg_attribute a
                                                 WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped),
                                               (SELECT count(*) FROM pg_catalog.pg_constraint k
                                                 WHERE k.conrelid = c.oid AND k.contype <> 'n'),
                                               (SELECT count(*) FROM pg_catalog.pg_index i
                                                 WHERE i.indrelid = c.oid)), 0)))
                            FROM pg_catalog.pg_depend d
                            JOIN pg_catalog.pg_class c ON c.oid = d.objid
                           WHERE d.refclassid = 'pg_catalog.pg_namespace'::regclass AND d.refobjid = n.oid
                             AND d.classid = 'pg_catalog.pg_class'::regclass)))
                FROM pg_catalog.pg_namespace n
               WHERE n.nspname = 'tenant_' || replace(",
            $id,
            "::text, '-', ''))"
        )
    };
}

pub(super) use catalog_digest;
