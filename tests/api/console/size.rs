//! Sizes: of the files, of a first load, of lists, and the number of statements behind a page.

use reqwest::Method;

use super::browser::Browser;
use crate::support::recording::{Recording, Rules};
use crate::support::{TestApp, TestDatabase};

/// The templates and the script, by their names.
fn sources() -> Vec<(String, String)> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/http/console");
    let files = std::fs::read_dir(folder).expect("the folder can be listed");
    let html = files.map(|entry| entry.expect("the folder can be listed").path()).filter(|path| {
        path.extension().is_some_and(|extension| extension == "html" || extension == "svg")
    });
    html.map(|path| {
        let text = std::fs::read_to_string(&path).expect("a template can be read");
        (path.display().to_string(), text)
    })
    .collect()
}

#[test]
fn no_template_holds_a_style_a_handler_or_a_script_with_text() {
    let sources = sources();
    assert!(sources.len() > 15, "found too few templates");
    for (name, text) in sources {
        let tags = text.split('<').skip(1).filter_map(|rest| rest.split('>').next());
        for tag in tags {
            let attributes = tag.split_whitespace().skip(1);
            for attribute in attributes {
                let Some((key, _)) = attribute.split_once('=') else { continue };
                assert!(key != "style" && !key.starts_with("on"), "{name}: {attribute}");
            }
        }
        for script in text.split("<script").skip(1) {
            let content = script.split_once('>').map_or("", |(_, rest)| rest);
            assert!(content.starts_with("</script>"), "{name}: a script with text");
        }
        assert!(!text.contains("<style"), "{name}: a style sheet");
        assert!(!text.contains("javascript:"), "{name}");
    }
}

#[tokio::test]
async fn a_first_load_is_small_and_its_files_are_kept_for_good() {
    let app = TestApp::spawn().await;
    let browser = Browser::new(&app);
    let page = browser.get("/console/login").await.page();
    let paths: Vec<&str> =
        page.text.split(['"']).filter(|part| part.starts_with("/console/assets/")).collect();
    assert_eq!(paths.len(), 3, "{paths:?}");
    let mut total = 0;
    for path in paths.into_iter().chain(["/console/login"]) {
        let request = browser.request(Method::GET, path).header("accept-encoding", "gzip");
        let answer = request.send().await.expect("the server answers");
        let cached = answer.headers().get("cache-control").unwrap().to_str().unwrap().to_owned();
        let expected = if path.contains("assets") { "immutable" } else { "no-store" };
        assert!(cached.contains(expected), "{path}: {cached}");
        let size = answer.bytes().await.expect("the answer has a body").len();
        let most = if path.contains("console.js") { 20_000 } else { 40_000 };
        assert!(size <= most, "{path} has {size} bytes");
        total += size;
    }
    assert!(total <= 60_000, "a first load has {total} bytes");
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/http/console/assets");
    for entry in std::fs::read_dir(folder).expect("the folder can be listed") {
        let entry = entry.expect("the folder can be listed");
        let size = entry.metadata().expect("a file has a size").len();
        assert!(size <= 40_960, "{} has {size} bytes", entry.path().display());
    }
    // A page of another version names another digest.
    let other = browser.get("/console/assets/0123456789abcdef/console.css").await;
    assert_eq!((other.status, other.header("cache-control")), (200, Some("no-store")));
    assert_eq!(browser.get("/console/assets/0/other.css").await.status, 404);
}

/// Whether a message is more than the border of a transaction.
fn is_statement(message: &str) -> bool {
    !["BEGIN", "COMMIT", "ROLLBACK"].iter().any(|word| message.starts_with(word))
}

#[tokio::test]
async fn ten_thousand_tenants_make_no_page_longer_and_cost_no_more_statements() {
    let database = TestDatabase::create().await;
    let recording = Recording::start(&database.url(), Rules::WithoutSessionState);
    let app = TestApp::builder()
        .with("database.url", recording.url.clone())
        // A cached statement is sent once a connection.
        .with("database.statements", "unnamed")
        .on(database)
        .spawn()
        .await;
    app.set_up("acme").await;
    let migration = super::fleet::ended(&app.root(), "migrations").await;
    let check = super::fleet::ended(&app.root(), "examinations").await;
    let pages = [
        "/console",
        "/console/tenants",
        "/console/tenants/acme",
        "/console/tenants/acme/delete",
        "/console/tenants/acme/members",
        "/console/tenants/acme/schema",
        "/console/tenants/new",
        "/console/tokens",
        "/console/tokens/new",
        "/console/audit",
        "/console/migrations",
        &format!("/console/migrations/{migration}"),
        "/console/vacancies",
        "/console/health",
        &format!("/console/health/{check}"),
        "/console/server",
        "/console/account",
    ];
    let sql = app.sql().await;
    // The tenants of the migration and the findings of the check: of the first tenant, or of all others.
    let fleet = async |others: bool| {
        let work = "INSERT INTO operation_tenants (operation_id, tenant_id, slug, position, is_canary, state, attempts,
                                                   started_at, ended_at)
             SELECT $1::text::uuid, id, slug, row_number() OVER (), false, 'failed', 1, now() - interval '1 second', now()
               FROM tenants WHERE (slug <> 'acme') = $2";
        sql.execute(work, &[&migration, &others]).await.expect("its tenants can be written");
        let findings = "INSERT INTO examination_findings (examination_id, number, area, gravity, tenant_id, slug, what, next,
                                                          repairable, outcome)
             SELECT $1::text::uuid, 1000 + row_number() OVER (ORDER BY slug), 'rights', 'wrong', id, slug,
                    'a right is missing', 'repair it', true, 'open'
               FROM tenants WHERE (slug <> 'acme') = $2";
        let findings = if others { findings.replace("1000", "2000") } else { findings.to_owned() };
        sql.execute(&findings, &[&check, &others]).await.expect("findings can be written");
    };
    fleet(false).await;
    let browser = Browser::with_token(&app, &app.root_token).await;
    let count = async |path: &str| {
        browser.get(path).await.page();
        // Background work of the server may add some, so that the smallest of several counts is the page's own.
        let mut least: Option<Vec<String>> = None;
        for _ in 0..3 {
            let before = recording.messages().len();
            let page = browser.get(path).await.page();
            let mut sent = recording.messages().split_off(before);
            sent.retain(|message| is_statement(message));
            if least.as_ref().is_none_or(|least| sent.len() < least.len()) {
                least = Some(sent);
            }
            let rows = page.text.matches(" data-id=").count();
            assert!(rows <= 100, "{path} has {rows} rows");
            let options = page.text.matches("<option").count();
            assert!(options <= 200, "{path} has {options} options");
            assert!(page.text.len() < 200_000, "{path} has {} bytes", page.text.len());
        }
        least.expect("it was counted")
    };
    let mut few = Vec::new();
    for path in pages {
        few.push(count(path).await);
    }
    let insert = "INSERT INTO tenants (id, slug, name, status, cluster, migrations_version, migrations_fingerprint,
                                       created_at, updated_at)
                  SELECT gen_random_uuid(), 'tenant-' || n, 'Tenant ' || n, 'active', t.cluster, t.migrations_version,
                         t.migrations_fingerprint, now() - n * interval '1 second', now()
                    FROM generate_series(1, 10000) n, (SELECT * FROM tenants WHERE slug = 'acme') t";
    sql.execute(insert, &[]).await.expect("tenants can be written");
    let members = "WITH people AS (
             INSERT INTO users (id, email, first_name, last_name, created_at, updated_at)
             SELECT gen_random_uuid(), 'u' || n || '@example.com', 'U', 'N', now(), now() FROM generate_series(1, 10000) n
             RETURNING id)
         INSERT INTO memberships (tenant_id, user_id, role, created_at, accepted_at)
         SELECT t.id, p.id, 'ADMIN', now(), now() FROM people p, (SELECT id FROM tenants WHERE slug = 'acme') t";
    sql.execute(members, &[]).await.expect("members can be written");
    let tokens = "INSERT INTO tokens (id, digest, hint, name, permissions, created_by, created_at)
         SELECT gen_random_uuid(), sha256(n::text::bytea), 'rh_…', 'token ' || n, '{VIEW_TENANTS}', 'root', now()
           FROM generate_series(1, 10000) n";
    sql.execute(tokens, &[]).await.expect("tokens can be written");
    fleet(true).await;
    for (path, few) in pages.into_iter().zip(few) {
        let many = count(path).await;
        assert!(!few.is_empty() && many.len() <= few.len(), "{path}: {few:#?} and then {many:#?}");
    }
    let page = browser.get("/console/tenants").await.page();
    let next = page.between("rel=\"next\" href=\"", "\"").to_owned();
    let second = browser.get(&super::browser::unescaped(&next)).await.page();
    assert_eq!(second.text.matches("<tr data-id=").count(), 50);
    assert_ne!(page.between("<tr data-id=\"", "\""), second.between("<tr data-id=\"", "\""));
}
