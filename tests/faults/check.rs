//! Compares what the clients remember with what is in the database, and looks for anything half made.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::{Value, json};
use tokio_postgres::Client;
use uuid::Uuid;

use crate::client::{self, PASSWORD};
use crate::inspection;
use crate::ledger::{Ledger, Life, Tenant};
use crate::server::ROOT_TOKEN;

/// How many tenants are logged in to, and set up again with the same key.
const SAMPLE: usize = 20;

/// How long what runs in the database may take to end after the last request.
const LONGEST_WAIT: Duration = Duration::from_mins(1);

/// What was found after a scenario.
#[derive(Default)]
pub(crate) struct Findings {
    /// Acknowledged writes that are not there, or not as they were acknowledged.
    pub(crate) lost: Vec<String>,
    /// What is there in part, or was never asked for.
    pub(crate) half_made: Vec<String>,
    /// How many writes are there that were not answered.
    pub(crate) unanswered: usize,
}

/// Waits until no transaction that has written something is open.
pub(crate) async fn wait_until_idle(sql: &Client) {
    let began = std::time::Instant::now();
    let mut open = inspection::open_transactions(sql).await;
    while !open.is_empty() {
        assert!(began.elapsed() < LONGEST_WAIT, "these transactions do not end: {open:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
        open = inspection::open_transactions(sql).await;
    }
}

/// What is to be in the database after a scenario.
#[derive(Clone, Copy)]
pub(crate) struct Expected {
    /// The version of the tenant migrations.
    pub(crate) version: i32,
    /// Whether the servers purge what is deleted, which is waited for.
    pub(crate) are_purged: bool,
}

/// Compares the database with the ledger, when no purge is under way.
pub(crate) async fn compare(sql: &Client, ledger: &Ledger, expected: Expected) -> Findings {
    let are_purged = expected.are_purged;
    wait_until_purged(sql, are_purged).await;
    let mut findings = Findings::default();
    findings.half_made.extend(inspection::defects(sql, expected.version).await);
    findings.half_made.extend(wrong_admins(sql, ledger).await);
    let rows = sql.query("SELECT slug, id, status FROM tenants WHERE slug <> 'main'", &[]).await;
    let rows = rows.expect("tenants can be listed");
    let mut found: BTreeMap<String, (Uuid, String)> =
        rows.iter().map(|row| (row.get(0), (row.get(1), row.get(2)))).collect();
    for (slug, tenant) in ledger.tenants() {
        let row = found.remove(&slug);
        let life = match row.as_ref().map(|(_, status)| status.as_str()) {
            None if tenant.life.certain == Life::Absent => Life::Absent,
            None => Life::Purged,
            Some("active") => Life::Active,
            Some(_) => Life::Deleting,
        };
        let is_allowed = tenant.life.allows(&life)
            || (are_purged && life == Life::Purged && tenant.life.allows(&Life::Deleting));
        if !is_allowed {
            let what = format!("tenant {slug} is {life:?}, and was {:?}", tenant.life);
            match tenant.life.certain {
                Life::Absent => findings.half_made.push(what),
                _ => findings.lost.push(what),
            }
            continue;
        }
        findings.unanswered += usize::from(life != tenant.life.certain && !are_purged);
        if let Some((id, _)) = row {
            if tenant.id.is_some_and(|told| told != id) {
                findings.lost.push(format!("tenant {slug} has the id {id}, not {:?}", tenant.id));
            }
            compare_profiles(sql, &slug, id, &tenant, &mut findings).await;
        }
    }
    findings.half_made.extend(found.keys().map(|slug| format!("{slug} was never asked for")));
    findings
}

/// Waits until the purges that have begun have ended, or those of all deleted tenants.
async fn wait_until_purged(sql: &Client, all: bool) {
    let began = std::time::Instant::now();
    let left = "SELECT count(*) FROM tenants
                 WHERE status = 'deleting' AND ($1 OR purge_started_at IS NOT NULL)";
    while sql.query_one(left, &[&all]).await.expect("tenants can be counted").get::<_, i64>(0) > 0 {
        assert!(began.elapsed() < LONGEST_WAIT, "deleted tenants are not purged");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Lists tenants without the admin that was asked for, and admins whose tenant was never made.
async fn wrong_admins(sql: &Client, ledger: &Ledger) -> Vec<String> {
    let query =
        "SELECT u.email, EXISTS (SELECT FROM memberships m JOIN tenants t ON t.id = m.tenant_id
                                          WHERE m.user_id = u.id AND m.role = 'ADMIN'
                                            AND u.email = 'admin@' || t.slug || '.example.com')
                   FROM users u WHERE u.platform_role IS NULL";
    let rows = sql.query(query, &[]).await.expect("users can be listed");
    let mut admins: BTreeMap<String, bool> =
        rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    let slugs = sql.query("SELECT slug FROM tenants", &[]).await.expect("tenants can be listed");
    let slugs: BTreeSet<String> = slugs.iter().map(|row| row.get(0)).collect();
    let mut wrong = Vec::new();
    for (slug, tenant) in ledger.tenants() {
        let admin = admins.remove(&client::admin_email(&slug));
        let was_purged = [Life::Deleting, Life::Purged].iter().any(|life| tenant.life.allows(life));
        let expected = match (tenant.dialect.has_admin(), slugs.contains(&slug)) {
            (true, true) => Some(true),
            // The user stays after a purge.
            (true, false) if was_purged => Some(false),
            _ => None,
        };
        if admin != expected {
            wrong.push(format!("the admin of {slug} is {admin:?}, not {expected:?}"));
        }
    }
    wrong.extend(admins.keys().map(|email| format!("the user {email} was never asked for")));
    wrong
}

async fn compare_profiles(
    sql: &Client,
    slug: &str,
    id: Uuid,
    tenant: &Tenant,
    findings: &mut Findings,
) {
    let query = format!(
        "SELECT email, (profile ->> 'number')::bigint FROM tenant_{}.profiles",
        id.simple()
    );
    let rows = match sql.query(&query, &[]).await {
        Ok(rows) => rows,
        Err(error) => return findings.half_made.push(format!("{slug}: {error:?}")),
    };
    let number = |row: &tokio_postgres::Row| u64::try_from(row.get::<_, i64>(1)).ok();
    let mut found: BTreeMap<String, Option<u64>> =
        rows.iter().map(|row| (row.get(0), number(row))).collect();
    for (email, entry) in &tenant.profiles {
        let value = found.remove(email).flatten();
        if !entry.allows(&value) {
            findings
                .lost
                .push(format!("profile {email} of {slug} is {value:?}, and was {entry:?}"));
        }
        findings.unanswered += usize::from(value != entry.certain);
    }
    findings.half_made.extend(found.keys().map(|email| format!("{email} was never written")));
}

/// Checks by the server's own means: log-ins, repeated set-ups, the chain of audit events. Returns what is wrong.
pub(crate) async fn ask_the_server(address: &str, ledger: &Ledger) -> Vec<String> {
    let http = reqwest::Client::new();
    let mut wrong = Vec::new();
    let all = ledger.tenants();
    let alive = all.iter().filter(|(_, tenant)| {
        tenant.dialect.has_admin()
            && tenant.life.certain == Life::Active
            && tenant.life.possible.is_none()
    });
    for (slug, tenant) in alive.take(SAMPLE) {
        let login = json!({ "identifier": client::admin_email(slug), "password": PASSWORD });
        let login = http.post(format!("{address}/api/auth/login")).json(&login);
        let (status, body) = answer(login).await;
        if status != 200 {
            wrong.push(format!("the admin of {slug} cannot log in: {status} {body}"));
        }
        let again = client::set_up(&http, address, tenant.dialect, slug);
        let (status, body) = answer(again).await;
        if client::id_in(&body) != tenant.id {
            wrong.push(format!("{slug} set up again with its key: {status} {body}"));
        }
    }
    let verify = http.post(format!("{address}/control/v1/audit-events/verify"));
    let (status, body) = answer(verify.bearer_auth(ROOT_TOKEN)).await;
    if body["intact"] != true {
        wrong.push(format!("the chain of audit events: {status} {body}"));
    }
    wrong
}

async fn answer(request: reqwest::RequestBuilder) -> (u16, Value) {
    let response = request.send().await.expect("a healed server answers");
    let status = response.status().as_u16();
    (status, response.json().await.unwrap_or(Value::Null))
}
