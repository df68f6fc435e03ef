//! Looks at what a start would restrict, without a start: for `doctor`.

use crate::pg::bootstrap::revoke::{OTHER_ROLES, restrictions, which_are_open};
use crate::pg::error::Failure;
use crate::pg::rules::RUNTIME_LOGIN;
use crate::pg::scope::PublicTx;

/// Something that stays open and should not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Breach {
    /// What could be done, for people.
    pub open: String,
    /// The statement that closes it.
    pub statement: String,
    /// Whether this login may run it. An owner who is no superuser cannot take from everybody what the
    /// server gives; a start only warns then.
    pub may_close: bool,
}

/// Everything that a start would restrict and that stands open now: what everybody may do, what the runtime
/// login is, what it can become.
///
/// # Errors
/// [`Failure`].
pub async fn breaches(tx: &PublicTx) -> Result<Vec<Breach>, Failure> {
    let facts = tx
        .query_one(
            "SELECT quote_ident(current_user) AS owner, quote_ident(current_database()) AS database,
                    (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user) AS is_superuser,
                    (SELECT pg_has_role(datdba, 'USAGE') FROM pg_catalog.pg_database
                      WHERE datname = current_database()) AS owns_database,
                    (SELECT pg_has_role(nspowner, 'USAGE') FROM pg_catalog.pg_namespace WHERE nspname = 'public')
                        AS owns_public,
                    (SELECT pg_has_role(nspowner, 'USAGE') FROM pg_catalog.pg_namespace
                      WHERE nspname = 'extensions') AS owns_extensions",
            &[],
        )
        .await?;
    let may_close = |statement: &str| {
        facts.get(match statement {
            s if s.contains(" ON DATABASE ") => "owns_database",
            s if s.contains(" ON SCHEMA public ") => "owns_public",
            s if s.contains(" ON SCHEMA extensions ") => "owns_extensions",
            // Functions and languages are the server's own.
            _ => "is_superuser",
        })
    };
    let restrictions = restrictions(facts.get("owner"), facts.get("database"));
    let open = tx.query_one(&which_are_open(&restrictions), &[]).await?;
    let open: Vec<bool> = open.get("are_open");
    let mut breaches: Vec<Breach> = restrictions
        .into_iter()
        .zip(open)
        .filter(|(_, is_open)| *is_open)
        .map(|(restriction, _)| Breach {
            may_close: may_close(&restriction.statement),
            open: restriction.open,
            statement: restriction.statement,
        })
        .collect();
    breaches.extend(too_strong(tx).await?);
    breaches.extend(rights_on_the_control_plane(tx).await?);
    for row in tx.query(OTHER_ROLES, &[&RUNTIME_LOGIN]).await? {
        let role: &str = row.get("role");
        breaches.push(Breach {
            open: format!("the login {RUNTIME_LOGIN} can become {role}, which is no tenant"),
            statement: format!("REVOKE {role} FROM {RUNTIME_LOGIN}"),
            may_close: true,
        });
    }
    Ok(breaches)
}

/// Closes one, in a transaction of the caller's.
///
/// # Errors
/// [`Failure`]. Where the owner may not, the server may only warn: look again.
pub async fn close(tx: &PublicTx, breach: &Breach) -> Result<(), Failure> {
    tx.batch(&breach.statement).await
}

/// What the runtime login, a tenant's role or everybody was given in the control plane by name.
async fn rights_on_the_control_plane(tx: &PublicTx) -> Result<Vec<Breach>, Failure> {
    let rows = tx
        .query(
            "WITH granted AS (
                 SELECT format('%I.%I', 'public', c.relname) AS place, a.grantee
                   FROM pg_catalog.pg_class c, aclexplode(c.relacl) a
                  WHERE c.relnamespace = 'public'::regnamespace
                 UNION
                 SELECT format('%I.%I', 'public', c.relname), a.grantee
                   FROM pg_catalog.pg_class c
                   JOIN pg_catalog.pg_attribute t ON t.attrelid = c.oid AND t.attacl IS NOT NULL
                  CROSS JOIN aclexplode(t.attacl) a
                  WHERE c.relnamespace = 'public'::regnamespace
                 UNION
                 SELECT 'SCHEMA ' || quote_ident(n.nspname), a.grantee
                   FROM pg_catalog.pg_namespace n, aclexplode(n.nspacl) a
                  WHERE a.grantee <> 0
                    AND (n.nspname = 'public' OR (n.nspname = 'extensions' AND a.privilege_type = 'CREATE'))
             )
             SELECT g.place, coalesce(quote_ident(r.rolname), 'PUBLIC') AS grantee
               FROM granted g
               LEFT JOIN pg_catalog.pg_roles r ON r.oid = g.grantee
              WHERE g.grantee = 0 OR r.rolname = $1 OR r.rolname ~ '^tenant_[0-9a-f]{32}$'
              ORDER BY 1, 2",
            &[&RUNTIME_LOGIN],
        )
        .await?;
    let breach = |place: &str, who: &str| Breach {
        open: format!(
            "{who} has rights on {}, which is the control plane's",
            place.replace("SCHEMA", "the schema")
        ),
        statement: format!("REVOKE ALL ON {place} FROM {who} CASCADE"),
        may_close: true,
    };
    Ok(rows.iter().map(|row| breach(row.get("place"), row.get("grantee"))).collect())
}

/// What the runtime login is that would make the walls worthless.
async fn too_strong(tx: &PublicTx) -> Result<Option<Breach>, Failure> {
    // From PostgreSQL 16 on it is each grant that says whether it is inherited.
    let row = tx
        .query_opt(
            "SELECT concat_ws(' ', CASE WHEN rolsuper THEN 'NOSUPERUSER' END,
                              CASE WHEN rolinherit AND current_setting('server_version_num')::int < 160000
                                   THEN 'NOINHERIT' END,
                              CASE WHEN rolcreaterole THEN 'NOCREATEROLE' END,
                              CASE WHEN rolcreatedb THEN 'NOCREATEDB' END,
                              CASE WHEN rolreplication THEN 'NOREPLICATION' END,
                              CASE WHEN rolbypassrls THEN 'NOBYPASSRLS' END) AS words
               FROM pg_catalog.pg_roles
              WHERE rolname = $1",
            &[&RUNTIME_LOGIN],
        )
        .await?;
    let Some(row) = row else { return Ok(None) };
    let words: &str = row.get("words");
    Ok((!words.is_empty()).then(|| Breach {
        open: format!(
            "the login {RUNTIME_LOGIN} is {}",
            words.replace("NO", "").replace(' ', ", ")
        ),
        statement: format!("ALTER ROLE {RUNTIME_LOGIN} {words}"),
        may_close: true,
    }))
}
