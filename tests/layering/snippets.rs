//! Snippets that the checker must catch, and snippets that it must pass. A way around it is added here first.

use super::checker::{below, check, layer};
use super::{GUARD_FILES, LAYERS, PG};

/// The violations in a snippet, without file and line.
fn verdicts(file: &str, source: &str) -> Vec<String> {
    check(file, source).into_iter().map(|violation| violation.what).collect()
}

#[test]
fn no_layer_imports_itself() {
    for layers in [LAYERS, PG] {
        for layer in layers {
            for name in layer.may_import {
                let is_known = layers.iter().any(|layer| layer.name == *name);
                assert!(is_known, "{} imports {name}, which is not a layer", layer.name);
            }
            assert!(!below(layers, layer).contains(layer.name), "{} imports itself", layer.name);
        }
    }
    assert!(!below(LAYERS, layer("auth").expect("auth is a layer")).contains("pg"));
    assert!(!below(LAYERS, layer("pg").expect("pg is a layer")).contains("auth"));
}

#[test]
fn an_upward_import_is_caught_however_it_is_written() {
    let cases = [
        ("domain/names.rs", "use crate::pg::scope::TenantTx;"),
        ("domain/mod.rs", "pub use crate::http;"),
        ("domain/names.rs", "use crate::{domain::Slug, telemetry};"),
        ("auth/token.rs", "use crate::pg::control::tokens;"),
        ("pg/control/users.rs", "use crate::auth::Principal;"),
        ("pg/mod.rs", "use crate::{domain::{Slug, names::{self, Email}}, service::{tenants}};"),
        ("pg/control/er.rs", "use super::super::super::service::Tenants;"),
        ("pg/control/users.rs", "use super::super::super::{domain::Email, http::extract};"),
        ("service/users.rs", "use super::super::http::*;"),
        ("service/users.rs", "mod inner { mod more { use super::super::super::super::app; } }"),
        ("service/users.rs", "use self::super::super::app::App;"),
        ("service/users.rs", "fn f() -> crate::http::Reply { todo() }"),
        ("service/users.rs", "fn f() { let _ = <crate::cli::Grammar as Parse>::parse(); }"),
        ("service/users.rs", "fn f() { log!(\"{}\", deep[crate::app::NAME]); }"),
        ("service/users.rs", "macro_rules! m { () => { $crate::http::ok() } }"),
        ("service/users.rs", "#[serde(with = \"crate::http::time\")] struct A;"),
        ("service/users.rs", "#[path(body = crate::http::Body)] fn a() {}"),
        ("service/users.rs", "use rowhouse::http::Reply;"),
        ("service/users.rs", "pub(in crate::http) fn f() {}"),
        ("service/users.rs", "#[cfg(test)] mod tests { use crate::http::Reply; }"),
        ("http/mod.rs", "use crate::app::App;"),
        ("http/mod.rs", "use crate::config::Config;"),
        ("http/reten/users.rs", "use crate::pg::control::users;"),
        ("cli/tenant.rs", "use crate::pg::control::tenants;"),
        ("app.rs", "use super::cli;"),
        ("main.rs", "fn main() { rowhouse::pg::open(); }"),
    ];
    for (file, source) in cases {
        let found = verdicts(file, source);
        assert_eq!(found.len(), 1, "{file}: {source}: {found:?}");
        let caught = found.iter().all(|what| what.contains(" import"));
        assert!(caught, "{file}: {source}: {found:?}");
    }
}

#[test]
fn each_branch_of_a_group_is_checked_separately() {
    let source = "use crate::{domain::Slug, http::{self, reten::{Body, Reply}}, app::App, pg};";
    let found = verdicts("service/users.rs", source);
    assert_eq!(found.len(), 4, "{found:?}");
    assert!(found.iter().any(|what| what.contains("crate::http::reten::Reply")), "{found:?}");
}

#[test]
fn a_path_through_the_crate_root_is_caught() {
    for source in ["use crate::App;", "use crate::*;", "use crate as root;", "crate::stop!();"] {
        let found = verdicts("service/users.rs", source);
        assert!(found.iter().any(|what| what.contains("hides its layer")), "{source}: {found:?}");
    }
}

#[test]
fn a_folder_without_a_layer_is_caught() {
    let found = verdicts("util/strings.rs", "fn f() {}");
    assert!(found.iter().any(|what| what.contains("`util` is not a layer")), "{found:?}");
}

#[test]
fn dialects_do_not_import_each_other() {
    let cases = [
        ("http/reten/users.rs", "use crate::http::databunker::Reply;", 1),
        ("http/reten/users.rs", "use super::super::{extract, webfluss};", 1),
        ("http/control/mod.rs", "use super::console::page;", 1),
        ("http/console/mod.rs", "use crate::http;", 1),
        ("http/webfluss/mod.rs", "use super::*;", 1),
        ("http/reten/users.rs", "use crate::http::{extract::Caller, reten::error};", 0),
        ("http/reten/users.rs", "#[cfg(test)] mod tests { use super::*; }", 0),
        ("http/mod.rs", "use self::{reten, databunker};", 0),
    ];
    for (file, source, violations) in cases {
        let found = verdicts(file, source);
        assert_eq!(found.len(), violations, "{file}: {source}: {found:?}");
    }
}

#[test]
fn an_upward_import_inside_pg_is_caught() {
    let cases = [
        ("pg/scope/tx.rs", "use crate::pg::control::tenants;", 1),
        ("pg/pool/affinity.rs", "use crate::pg::Db;", 1),
        ("pg/pool/affinity.rs", "use super::super::TenantTx;", 1),
        ("pg/control/tenants.rs", "use crate::pg::{Db, During};", 1),
        ("pg/control/tenants.rs", "use crate::pg::*;", 1),
        ("pg/odds/ends.rs", "fn f() {}", 1),
        ("pg/db.rs", "#[cfg(test)] mod tests { use crate::pg::schema; }", 1),
        (
            "pg/control/tenants.rs",
            "use crate::pg::{During, Param, PublicTx, Row}; use super::users;",
            0,
        ),
        ("pg/schema/drop.rs", "use crate::pg::{locks, rules::Rules, scope::PublicTx};", 0),
        ("pg/control/tenants.rs", "#[cfg(test)] mod tests { use crate::pg::pool; }", 0),
        ("pg/mod.rs", "pub use db::Db; use crate::pg::bootstrap;", 0),
    ];
    for (file, source, violations) in cases {
        let found = verdicts(file, source);
        assert_eq!(found.len(), violations, "{file}: {source}: {found:?}");
    }
}

#[test]
fn a_downward_import_passes() {
    let cases = [
        ("domain/tenant.rs", "use super::names::Slug; use crate::domain::{Error, names::*};"),
        ("auth/mod.rs", "use crate::{domain::Error, telemetry::Metrics};"),
        (
            "service/tenants.rs",
            "use crate::{auth::CallContext, pg::{scope::PublicTx, control::tenants}};",
        ),
        (
            "http/mod.rs",
            "pub(crate) mod reten; pub(super) fn f(self) { self.x; crate::auth::ok() }",
        ),
        ("app.rs", "use crate::{config::Config, http, pg};"),
        ("cli/serve.rs", "use crate::app::App; // use crate::pg;"),
        ("service/users.rs", "//! [`crate::http`] calls this.\n/// See `crate::app`.\nfn f() {}"),
        ("service/users.rs", "fn f() { say(\"crate::http is above\") }"),
        ("lib.rs", "pub mod app; pub use app::App; pub use crate::pg::scope;"),
        ("main.rs", "use rowhouse::cli; fn main() { crate::inner() } mod t { use super::*; }"),
        ("service/users.rs", "#[cfg(test)] mod tests { use super::super::super::domain; }"),
    ];
    for (file, source) in cases {
        assert_eq!(verdicts(file, source), Vec::<String>::new(), "{file}: {source}");
    }
}

#[test]
fn a_test_may_skip_a_layer_and_other_code_may_not() {
    let reach = "use crate::pg::control::users; use tokio_postgres::Row;";
    let tests = format!("#[cfg(test)]\nmod tests {{ {reach} }}");
    assert_eq!(verdicts("http/extract.rs", &tests), Vec::<String>::new());
    assert_eq!(verdicts("http/extract.rs", &format!("{tests} {reach}")).len(), 2);
    assert_eq!(verdicts("http/extract/tests.rs", reach), Vec::<String>::new());
    assert_eq!(verdicts("http/extract/tests.rs", "use crate::app::App;").len(), 1);
    let function = format!("#[tokio::test] async fn works() {{ {reach} }} fn f() {{ {reach} }}");
    assert_eq!(verdicts("http/extract.rs", &function).len(), 2);
    assert_eq!(
        verdicts("http/extract.rs", &format!("#[cfg(not(test))] mod a {{ {reach} }}")).len(),
        2
    );
    assert_eq!(verdicts("http/extract.rs", &format!("#[cfg(test)] mod a; {reach}")).len(), 2);
}

#[test]
fn sql_that_changes_the_schema_or_the_role_is_caught_outside_the_guard() {
    let caught = [
        "fn f() { run(\"SET LOCAL search_path = tenant_x\") }",
        "fn f() { run(\"set   Local\\n ROLE x\") }",
        "fn f() { run(r#\"SELECT 1;\n  RESET\n  ROLE\"#) }",
        "fn f() { run(format!(\"SET ROLE {role}\")) }",
        "fn f() { run(\"SET ROLE = x\") }",
        "fn f() { run([\"SET ROLE \", role].concat()) }",
        "fn f() { run(\"SET \\\n   SESSION AUTHORIZATION x\") }",
        "fn f() { run(b\"SELECT set_config($1, $2, true)\") }",
        "fn f() { run(\"SET SCHEMA 'tenant_x'\") }",
        "const A: &str = \"options=-csearch_path=x\";",
        "fn f() { run(\"SELECT current_setting('search_path')\") }",
    ];
    for source in caught {
        assert_eq!(verdicts("pg/control/tenants.rs", source).len(), 1, "{source}");
        for (file, _) in GUARD_FILES {
            assert_eq!(verdicts(file, source), Vec::<String>::new(), "{file}: {source}");
        }
    }
    let passes = [
        "/// Sets `search_path`.\nfn f() {} // SET LOCAL ROLE",
        "fn f() { parse(\"search_path\") }",
        "fn f() { run(\"UPDATE tenants SET role_name = $1\") }",
        "fn f() { run(\"UPDATE memberships\n SET role = $1\") }",
        "#[arg(help = \"role or search_path\")] struct A;",
        "#[cfg(test)] mod tests { fn f() { run(\"SHOW search_path\") } }",
    ];
    for source in passes {
        assert_eq!(verdicts("pg/control/tenants.rs", source), Vec::<String>::new(), "{source}");
    }
}

#[test]
fn an_allowed_lint_is_caught() {
    let caught = [
        "#![allow(dead_code)]",
        "#[allow(clippy::unwrap_used)] fn f() {}",
        "#[cfg_attr(test, allow(dead_code))] fn f() {}",
        "fn f() { #[allow(unused)] let x = 1; }",
    ];
    for source in caught {
        assert_eq!(verdicts("pg/control/tenants.rs", source).len(), 1, "{source}");
    }
    let passes = "#[expect(dead_code, reason = \"allow(nothing)\")] fn allow() { allow(1) }";
    assert_eq!(verdicts("pg/control/tenants.rs", passes), Vec::<String>::new());
}

#[test]
fn a_foreign_crate_outside_its_layer_is_caught() {
    let cases = [
        ("service/users.rs", "use tokio_postgres::Row;", 1),
        ("app.rs", "fn f(pool: deadpool_postgres::Pool) {}", 1),
        ("service/users.rs", "use {std::fmt, actix_web as web};", 1),
        ("domain/names.rs", "async fn f() { tokio::fs::read(\"x\").await }", 1),
        ("pg/db.rs", "use {deadpool_postgres::Pool, tokio_postgres::Row};", 0),
        ("http/mod.rs", "use actix_web::web;", 0),
        ("telemetry.rs", "const QUIET: &str = \"tokio_postgres=warn\";", 0),
    ];
    for (file, source, violations) in cases {
        let found = verdicts(file, source);
        assert_eq!(found.len(), violations, "{file}: {source}: {found:?}");
    }
}

#[test]
fn a_violation_names_its_file_and_line() {
    let found = check("pg/control/users.rs", "\nuse crate::domain;\n\nuse crate::http;\n");
    let places: Vec<_> =
        found.iter().map(|violation| (violation.file.as_str(), violation.line)).collect();
    assert_eq!(places, [("pg/control/users.rs", 4)]);
}
