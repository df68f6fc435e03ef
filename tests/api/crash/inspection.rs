//! Searches the database for anything that is not a complete tenant or vacancy.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rowhouse::migrations::MigrationSet;
use tokio_postgres::Client;
use uuid::Uuid;

/// How often to poll: a backend needs time to notice that its client is gone, and another test to drop its
/// roles.
const MAX_POLLS: u32 = 1000;
const POLL: Duration = Duration::from_millis(10);

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
        "a tenant without an admin",
        "SELECT slug FROM tenants t
          WHERE NOT EXISTS (SELECT FROM memberships m JOIN users u ON u.id = m.user_id
                             WHERE m.tenant_id = t.id AND m.role = 'ADMIN' AND u.password_hash <> '')",
    ),
    (
        "a user without a tenant",
        "SELECT email FROM users u
          WHERE u.platform_role IS NULL
            AND NOT EXISTS (SELECT FROM memberships m WHERE m.user_id = u.id)",
    ),
    (
        "a tenant without exactly one audit event, or an event without its tenant",
        "SELECT coalesce(t.slug, e.tenant_id::text)
           FROM tenants t
           FULL JOIN (SELECT tenant_id, count(*) FROM audit_events WHERE action = 'tenant.create'
                       GROUP BY tenant_id) e ON e.tenant_id = t.id
          WHERE t.id IS NULL OR e.count IS DISTINCT FROM 1",
    ),
    (
        "a stored answer without its tenant",
        "SELECT key FROM idempotency_keys
          WHERE NOT EXISTS (SELECT FROM tenants t WHERE t.id::text = outcome ->> 'id')",
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

/// The tenants and defects that were found.
pub struct Inspection {
    /// All tenants by slug, complete or not.
    pub tenants: BTreeMap<String, Uuid>,
    /// A description of everything that is not a complete tenant or vacancy.
    pub defects: Vec<String>,
    pub orphaned_before: BTreeSet<String>,
}

impl Inspection {
    /// Inspects everything. Roles that were orphaned before belong to other tests.
    pub async fn of(sql: &Client, orphaned_before: &BTreeSet<String>) -> Self {
        let mut defects = Self::of_structure(sql).await;
        defects.extend(new_orphaned_roles(sql, orphaned_before).await);
        let rows =
            sql.query("SELECT slug, id FROM tenants", &[]).await.expect("tenants are listed");
        let tenants = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
        Self { tenants, defects, orphaned_before: orphaned_before.clone() }
    }

    /// Inspects the objects inside the database.
    pub async fn of_structure(sql: &Client) -> Vec<String> {
        let mut defects = Vec::new();
        for (kind, query) in DEFECTS {
            for row in sql.query(query, &[]).await.unwrap_or_else(|e| panic!("{kind}: {e:?}")) {
                defects.push(format!("{kind}: {}", row.get::<_, String>(0)));
            }
        }
        defects.extend(unmigrated(sql).await);
        defects
    }
}

/// Lists the schemas whose migration history is incomplete.
async fn unmigrated(sql: &Client) -> Vec<String> {
    let set = MigrationSet::tenant().expect("the built-in set is valid");
    let expected: Vec<i32> = (1..=set.version()).collect();
    assert_eq!(expected.len(), set.files().len(), "the built-in set is numbered without a gap");
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

/// Lists tenant roles without a right in any database. Roles belong to the server, on which other tests create
/// and drop roles meanwhile: a role that is being dropped is orphaned for a moment.
pub async fn orphaned_roles(sql: &Client) -> BTreeSet<String> {
    let query = r"SELECT rolname FROM pg_roles r
                   WHERE rolname ~ '^tenant_[0-9a-f]{32}$'
                     AND NOT EXISTS (SELECT FROM pg_shdepend
                                      WHERE refclassid = 'pg_authid'::regclass AND refobjid = r.oid
                                        AND dbid <> 0)
                     AND NOT EXISTS (SELECT FROM vacancies
                                      WHERE state = 'building'
                                        AND rolname = 'tenant_' || replace(id::text, '-', ''))";
    let rows = sql.query(query, &[]).await.expect("roles can be listed");
    rows.iter().map(|row| row.get(0)).collect()
}

async fn new_orphaned_roles(sql: &Client, before: &BTreeSet<String>) -> Vec<String> {
    let mut remaining: Option<BTreeSet<String>> = None;
    for _ in 0..MAX_POLLS {
        let now: BTreeSet<String> = orphaned_roles(sql).await.difference(before).cloned().collect();
        let still = remaining.map_or(now.clone(), |old| old.intersection(&now).cloned().collect());
        if still.is_empty() {
            return Vec::new();
        }
        remaining = Some(still);
        tokio::time::sleep(POLL).await;
    }
    let remaining = remaining.unwrap_or_default();
    remaining.into_iter().map(|role| format!("a role without a tenant: {role}")).collect()
}

/// Returns the last statement of each open transaction that has written something.
pub async fn open_transactions(sql: &Client) -> Vec<String> {
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

/// Waits until the backends of a dead server have ended.
pub async fn wait_until_alone(sql: &Client) {
    for _ in 0..MAX_POLLS {
        let others = sql
            .query_one(
                "SELECT count(*) FROM pg_stat_activity
                  WHERE datname = current_database() AND pid <> pg_backend_pid()
                    AND backend_type = 'client backend'",
                &[],
            )
            .await
            .expect("activity can be read");
        if others.get::<_, i64>(0) == 0 {
            return;
        }
        tokio::time::sleep(POLL).await;
    }
    panic!("the backends of a dead server do not end");
}
