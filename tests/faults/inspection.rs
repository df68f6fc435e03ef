//! Searches the database for anything that is not a complete tenant or vacancy.

use rowhouse::migrations::MigrationSet;
use tokio_postgres::Client;

/// Each query lists the defects of one kind, one text a row. A `ready` vacancy is as complete as a tenant; a
/// `building` vacancy has a role and no schema.
const DEFECTS: [(&str, &str); 8] = [
    (
        "a tenant or vacancy without its schema, or a schema without either",
        "SELECT coalesce(t.slug, n.nspname)
           FROM (SELECT slug, 'tenant_' || replace(id::text, '-', '') AS schema FROM tenants
                  UNION ALL
                 SELECT 'vacancy', 'tenant_' || replace(id::text, '-', '') FROM vacancies
                  WHERE state = 'ready') t
           FULL JOIN (SELECT nspname FROM pg_namespace WHERE nspname ~ '^tenant_[0-9a-f]{32}$') n
             ON n.nspname = t.schema
          WHERE t.slug IS NULL OR n.nspname IS NULL",
    ),
    (
        "a tenant that is also a vacancy, or a vacancy without a role",
        "SELECT v.id::text
           FROM vacancies v
          WHERE EXISTS (SELECT FROM tenants t WHERE t.id = v.id)
             OR NOT EXISTS (SELECT FROM pg_roles
                             WHERE rolname = 'tenant_' || replace(v.id::text, '-', ''))",
    ),
    (
        "a tenant without its role, whose role the runtime login cannot become, or whose role cannot read",
        "SELECT slug
           FROM (SELECT slug, 'tenant_' || replace(id::text, '-', '') AS name FROM tenants
                  UNION ALL
                 SELECT 'vacancy', 'tenant_' || replace(id::text, '-', '') FROM vacancies
                  WHERE state = 'ready') t
           LEFT JOIN pg_roles r ON r.rolname = t.name
          WHERE r.oid IS NULL
             OR NOT pg_has_role('rowhouse_runtime', r.oid, 'MEMBER')
             OR NOT has_schema_privilege(r.oid, t.name, 'USAGE')
             OR NOT has_table_privilege(r.oid, t.name || '.profiles', 'SELECT, INSERT')",
    ),
    (
        "a role without a tenant or vacancy",
        "SELECT rolname::text FROM pg_roles
          WHERE rolname ~ '^tenant_[0-9a-f]{32}$'
            AND NOT EXISTS (SELECT FROM tenants WHERE rolname = 'tenant_' || replace(id::text, '-', ''))
            AND NOT EXISTS (SELECT FROM vacancies WHERE rolname = 'tenant_' || replace(id::text, '-', ''))",
    ),
    (
        "a member of a tenant without its user, or a token without its tenant",
        "SELECT m.tenant_id::text FROM memberships m
          WHERE NOT EXISTS (SELECT FROM users u WHERE u.id = m.user_id)
             OR NOT EXISTS (SELECT FROM tenants t WHERE t.id = m.tenant_id)
          UNION ALL
         SELECT t.tenant_id::text FROM tokens t
          WHERE t.tenant_id IS NOT NULL AND NOT EXISTS (SELECT FROM tenants WHERE id = t.tenant_id)",
    ),
    (
        "a tenant without exactly one audit event, or an event without its tenant",
        "SELECT coalesce(t.slug, e.tenant_id::text)
           FROM tenants t
           FULL JOIN (SELECT tenant_id, count(*) FROM audit_events WHERE action = 'tenant.create'
                       GROUP BY tenant_id) e ON e.tenant_id = t.id
          WHERE e.count IS DISTINCT FROM 1
             OR (t.id IS NULL AND NOT EXISTS (SELECT FROM audit_events p
                                               WHERE p.tenant_id = e.tenant_id AND p.action = 'tenant.purge'))",
    ),
    (
        "a stored answer without its tenant",
        "SELECT key FROM idempotency_keys
          WHERE NOT EXISTS (SELECT FROM tenants t WHERE t.id::text = outcome ->> 'id')
            AND NOT EXISTS (SELECT FROM audit_events p
                             WHERE p.tenant_id::text = outcome ->> 'id' AND p.action = 'tenant.purge')",
    ),
    (
        "a schema whose tables differ from those of the others",
        "SELECT min(nspname)
           FROM (SELECT n.nspname, array_agg(c.relname ORDER BY c.relname) AS tables
                   FROM pg_namespace n LEFT JOIN pg_class c ON c.relnamespace = n.oid
                  WHERE n.nspname ~ '^tenant_[0-9a-f]{32}$'
                  GROUP BY n.nspname) s
         HAVING count(DISTINCT tables) > 1",
    ),
];

/// Lists everything that is not a complete tenant or vacancy of this version of the tenant migrations.
pub(crate) async fn defects(sql: &Client, version: i32) -> Vec<String> {
    let mut defects = Vec::new();
    for (kind, query) in DEFECTS {
        for row in sql.query(query, &[]).await.unwrap_or_else(|e| panic!("{kind}: {e:?}")) {
            defects.push(format!("{kind}: {}", row.get::<_, String>(0)));
        }
    }
    defects.extend(unmigrated(sql, version).await);
    defects
}

/// Lists the schemas whose migration history is incomplete.
async fn unmigrated(sql: &Client, version: i32) -> Vec<String> {
    let expected: Vec<i32> = (1..=version).collect();
    let rows = sql
        .query(r"SELECT nspname FROM pg_namespace WHERE nspname ~ '^tenant_[0-9a-f]{32}$'", &[])
        .await
        .expect("schemas can be listed");
    let mut found = Vec::new();
    for row in rows {
        let schema: String = row.get(0);
        let query = format!(
            "SELECT coalesce(array_agg(version ORDER BY version), '{{}}') FROM {schema}.refinery_schema_history"
        );
        let applied = sql.query_one(&query, &[]).await.map(|row| row.get::<_, Vec<i32>>(0));
        if !applied.as_ref().is_ok_and(|versions| *versions == expected) {
            found.push(format!("a schema with an incomplete history: {schema} {applied:?}"));
        }
    }
    found
}

/// Returns the version of the built-in tenant migrations, which are numbered without a gap.
pub(crate) fn built_in_version() -> i32 {
    MigrationSet::tenant().expect("the built-in set is valid").version()
}

/// Returns the last statement of each open transaction that has written something.
pub(crate) async fn open_transactions(sql: &Client) -> Vec<String> {
    let rows = sql
        .query(
            r"SELECT left(regexp_replace(query, '\s+|tenant_[0-9a-f]{32}', ' ', 'g'), 60)
                FROM pg_stat_activity
               WHERE datname = current_database() AND pid <> pg_backend_pid()
                 AND backend_xid IS NOT NULL",
            &[],
        )
        .await
        .expect("activity can be read");
    rows.iter().map(|row| row.get::<_, String>(0).trim().to_owned()).collect()
}
