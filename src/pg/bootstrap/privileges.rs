//! Finds the privileges that defeat the isolation of tenants, without a start, for `doctor`.

use crate::pg::bootstrap::citus::{MAY_CREATE, NodeAnswer, ON_NODES, without_right};
use crate::pg::bootstrap::exposure::Exposure;
use crate::pg::bootstrap::nodes::NodesWithoutRight;
use crate::pg::bootstrap::revoke::{
    NON_TENANT_ROLES, Object, add_nodes, check_query, node_check_query, non_tenant_role,
    restrictions,
};
use crate::pg::error::Failure;
use crate::pg::rules::RUNTIME_LOGIN;
use crate::pg::rules::engine::Engine;
use crate::pg::scope::PublicTx;

/// Returns everything that a start would restrict and that is not restricted now, here or on a node of the cluster:
/// privileges of PUBLIC, attributes of the runtime login, and roles that it can become; and a sentence for each node that
/// could not be asked.
///
/// # Errors
/// [`Failure`].
pub async fn exposures(
    tx: &PublicTx,
    engine: Engine,
) -> Result<(Vec<Exposure>, Vec<String>), Failure> {
    let facts = tx
        .query_one(
            "SELECT quote_ident(current_user) AS owner, quote_ident(current_database()) AS database,
                    (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user) AS is_superuser,
                    (SELECT pg_has_role(datdba, 'USAGE') FROM pg_catalog.pg_database
                      WHERE datname = current_database()) AS owns_database,
                    (SELECT pg_has_role(nspowner, 'USAGE') FROM pg_catalog.pg_namespace
                      WHERE nspname = 'public') AS owns_public,
                    (SELECT pg_has_role(nspowner, 'USAGE') FROM pg_catalog.pg_namespace
                      WHERE nspname = 'extensions') AS owns_extensions",
            &[],
        )
        .await?;
    let may_revoke = |object: Object| -> bool {
        facts.get(match object {
            Object::Database => "owns_database",
            Object::Public => "owns_public",
            Object::Extensions => "owns_extensions",
            Object::BuiltIn => "is_superuser",
        })
    };
    let restrictions = restrictions(facts.get("owner"), facts.get("database"), engine);
    let mut are_open: Vec<bool> =
        tx.query_one(&check_query(&restrictions), &[]).await?.get("are_open");
    let mut unread = Vec::new();
    if engine.has_nodes() {
        let answers = tx.query(ON_NODES, &[&node_check_query(&restrictions)]).await?;
        unread = add_nodes(&mut are_open, answers.iter().map(NodeAnswer::of).collect());
    }
    let mut exposures: Vec<Exposure> = restrictions
        .into_iter()
        .zip(are_open)
        .filter(|(_, is_open)| *is_open)
        .map(|(restriction, _)| {
            let may_revoke = may_revoke(restriction.object);
            restriction.exposure(may_revoke)
        })
        .collect();
    exposures.extend(excess_attributes(tx).await?);
    exposures.extend(control_plane_grants(tx).await?);
    for row in tx.query(NON_TENANT_ROLES, &[&RUNTIME_LOGIN]).await? {
        exposures.push(non_tenant_role(row.get("role"), true));
    }
    Ok((exposures, unread))
}

/// Returns the nodes of the cluster on which this login may not create schemas.
///
/// # Errors
/// [`Failure`].
pub async fn nodes_without_right(tx: &PublicTx) -> Result<Option<NodesWithoutRight>, Failure> {
    let names =
        "SELECT quote_ident(current_user) AS owner, quote_ident(current_database()) AS database";
    let names = tx.query_one(names, &[]).await?;
    let answers = tx.query(ON_NODES, &[&MAY_CREATE]).await?.iter().map(NodeAnswer::of).collect();
    Ok(without_right(answers, names.get("owner"), names.get("database")))
}

/// Removes an exposure in the caller's transaction.
///
/// # Errors
/// [`Failure`]. If the owner may not revoke the privilege, the server may only warn: call [`exposures`] again to be
/// sure.
pub async fn revoke(tx: &PublicTx, exposure: &Exposure) -> Result<(), Failure> {
    tx.batch(&exposure.statement).await
}

/// Returns the privileges in the control plane that were granted to the runtime login, a tenant's role or PUBLIC.
async fn control_plane_grants(tx: &PublicTx) -> Result<Vec<Exposure>, Failure> {
    let rows = tx
        .query(
            "WITH granted AS (
                 SELECT format('%I.%I', 'public', c.relname) AS object, a.grantee
                   FROM pg_catalog.pg_class c, aclexplode(c.relacl) a
                  WHERE c.relnamespace = 'public'::regnamespace
                    -- What an extension has created there is no part of the control plane.
                    AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d
                                     WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.objid = c.oid
                                       AND d.deptype = 'e')
                 UNION
                 SELECT format('%I.%I', 'public', c.relname), a.grantee
                   FROM pg_catalog.pg_class c
                   JOIN pg_catalog.pg_attribute t ON t.attrelid = c.oid AND t.attacl IS NOT NULL
                  CROSS JOIN aclexplode(t.attacl) a
                  WHERE c.relnamespace = 'public'::regnamespace
                    AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d
                                     WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.objid = c.oid
                                       AND d.deptype = 'e')
                 UNION
                 SELECT 'SCHEMA ' || quote_ident(n.nspname), a.grantee
                   FROM pg_catalog.pg_namespace n, aclexplode(n.nspacl) a
                  WHERE a.grantee <> 0
                    AND (n.nspname = 'public' OR (n.nspname = 'extensions' AND a.privilege_type = 'CREATE'))
             )
             SELECT g.object, coalesce(quote_ident(r.rolname), 'PUBLIC') AS grantee
               FROM granted g
               LEFT JOIN pg_catalog.pg_roles r ON r.oid = g.grantee
              WHERE g.grantee = 0 OR r.rolname = $1 OR r.rolname ~ '^tenant_[0-9a-f]{32}$'
              ORDER BY 1, 2",
            &[&RUNTIME_LOGIN],
        )
        .await?;
    let exposure = |object: &str, grantee: &str| Exposure {
        name: None,
        risk: format!(
            "{grantee} has privileges on {}, which belongs to the control plane",
            object.replace("SCHEMA", "the schema")
        ),
        statement: format!("REVOKE ALL ON {object} FROM {grantee} CASCADE"),
        may_revoke: true,
    };
    Ok(rows.iter().map(|row| exposure(row.get("object"), row.get("grantee"))).collect())
}

/// Returns the attributes of the runtime login that it must not have.
async fn excess_attributes(tx: &PublicTx) -> Result<Option<Exposure>, Failure> {
    // From PostgreSQL 16 on each grant says whether it is inherited.
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
    Ok((!words.is_empty()).then(|| Exposure {
        name: None,
        risk: format!(
            "the login {RUNTIME_LOGIN} is {}",
            words.replace("NO", "").replace(' ', ", ")
        ),
        statement: format!("ALTER ROLE {RUNTIME_LOGIN} {words}"),
        may_revoke: true,
    }))
}
