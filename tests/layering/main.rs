//! Checks the layers: reads `src/` and fails on code that a layer may not contain.
//!
//! - **Imports go downward.** [`LAYERS`] lists for each layer the layers that it may name. A path
//!   counts anywhere: in a `use` with nested groups, in an expression, in a type, inside a macro
//!   call or in the text of an attribute (`with = "crate::.."`); `crate::`, `super::`, `self::` and
//!   the crate's own name are all followed. Dialects do not import each other.
//! - **One guard.** [`GUARD_FILES`] lists the files whose SQL may name the search path or change the
//!   role.
//! - **No `#[allow]`**; an exception is an `#[expect]` with a reason.
//! - **No circles of files** ([`ALLOWED_CIRCLES`]), and **the rights check comes first** in a service method.
//! - **Foreign crates stay in their layer** ([`FOREIGN`]): no layer above `pg` holds a connection.
//!
//! Tests inside `src/` may skip a layer, but never import upward. Comments do not count.
//!
//! The checker works on tokens rather than on a syntax tree, because a syntax tree does not contain
//! the code inside macro calls. A new layer or a new exception is one line in a table here, with its
//! reason. The tables and the rules on the real tree are here, [`checker`] reads a file, [`circles`] compares all of
//! them, [`rights`] reads the methods of services, and [`snippets`] has what the checker must catch.

mod api;
mod checker;
mod circles;
mod rights;
mod snippets;
mod tokens;

use std::fs;
use std::path::Path;

use checker::{Rule, check};
use circles::circles;

/// A top-level module of the crate, or one of its two roots.
struct Layer {
    name: &'static str,
    /// What its code may import besides itself. Its tests may also import what those layers may.
    may_import: &'static [&'static str],
}

/// The layers, lowest first. Only `service` and `app` know `pg`: a handler or a command that calls it
/// directly bypasses the rights check, which is the first line of a service method.
const LAYERS: &[Layer] = &[
    Layer { name: "domain", may_import: &[] },
    // Beside the domain, not above: pools, services and handlers all count and trace.
    Layer { name: "telemetry", may_import: &["domain"] },
    // Starts a PostgreSQL server; knows nothing of what is in it.
    Layer { name: "embedded", may_import: &[] },
    // Migration files as text.
    Layer { name: "migrations", may_import: &["domain"] },
    // Files under keys; knows nothing of what is in them.
    Layer { name: "store", may_import: &[] },
    Layer { name: "auth", may_import: &["domain", "telemetry"] },
    Layer { name: "pg", may_import: &["migrations", "domain", "telemetry"] },
    Layer {
        name: "service",
        may_import: &["auth", "pg", "store", "migrations", "domain", "telemetry"],
    },
    Layer { name: "http", may_import: &["service", "auth", "domain", "telemetry"] },
    // Fills the small settings structs that each layer owns, so no layer below `app` reads it.
    Layer { name: "config", may_import: &["http", "service", "auth", "pg", "domain", "telemetry"] },
    Layer {
        name: "app",
        may_import: &[
            "config",
            "http",
            "service",
            "auth",
            "pg",
            "store",
            "migrations",
            "embedded",
            "domain",
            "telemetry",
        ],
    },
    // PostgreSQL servers and databases that exist for a test.
    Layer {
        name: "disposable",
        may_import: &["app", "config", "pg", "migrations", "embedded", "domain"],
    },
    Layer {
        name: "cli",
        may_import: &["disposable", "app", "config", "service", "auth", "domain", "telemetry"],
    },
    // What an application adds, and its `main`.
    Layer {
        name: "application",
        may_import: &[
            "cli",
            "app",
            "config",
            "http",
            "service",
            "migrations",
            "domain",
            "telemetry",
        ],
    },
    // What the tests of an application use.
    Layer {
        name: "testing",
        may_import: &[
            "application",
            "disposable",
            "app",
            "http",
            "service",
            "auth",
            "pg",
            "domain",
            "telemetry",
        ],
    },
    Layer {
        name: "main",
        may_import: &["application", "cli", "app", "config", "domain", "telemetry"],
    },
    // The crate root declares the modules and may re-export from them.
    Layer {
        name: "lib",
        may_import: &[
            "application",
            "cli",
            "testing",
            "disposable",
            "app",
            "config",
            "http",
            "service",
            "auth",
            "pg",
            "store",
            "migrations",
            "embedded",
            "domain",
            "telemetry",
        ],
    },
];

/// The folders and files of `pg`, lowest first; checked by the same code as [`LAYERS`]. `pg/mod.rs` may name
/// all of them.
const PG: &[Layer] = &[
    Layer { name: "error", may_import: &[] },
    Layer { name: "rules", may_import: &[] },
    Layer { name: "connect", may_import: &["error", "rules"] },
    Layer { name: "pool", may_import: &["connect", "error", "rules"] },
    Layer { name: "scope", may_import: &["pool", "connect", "error", "rules"] },
    // The only part that knows pools and scopes.
    Layer { name: "db", may_import: &["scope", "pool", "error", "rules"] },
    Layer { name: "clock", may_import: &["db", "scope", "error"] },
    Layer { name: "locks", may_import: &["scope", "error"] },
    Layer { name: "catalog", may_import: &["db", "scope", "error", "rules"] },
    Layer { name: "control", may_import: &["locks", "scope", "error", "rules"] },
    Layer { name: "tenant", may_import: &["scope", "error"] },
    Layer {
        name: "schema",
        may_import: &["catalog", "locks", "db", "scope", "connect", "error", "rules"],
    },
    Layer {
        name: "portability",
        may_import: &["schema", "catalog", "db", "scope", "error", "rules"],
    },
    Layer {
        name: "bootstrap",
        may_import: &[
            "schema", "catalog", "locks", "db", "scope", "pool", "connect", "error", "rules",
        ],
    },
];

/// Files that may import each other, and no others: the pool that gives out connections and the task that replaces
/// them share one state under one lock.
const ALLOWED_CIRCLES: &[&[&str]] = &[&["pg/pool/affinity.rs", "pg/pool/retirement.rs"]];

/// Names that `pg/mod.rs` re-exports, and the parts of [`PG`] that they come from.
const PG_NAMES: &[(&str, &str)] = &[
    ("Db", "db"),
    ("During", "error"),
    ("Failure", "error"),
    ("OnViolation", "error"),
    ("Param", "scope"),
    ("Portal", "scope"),
    ("PublicTx", "scope"),
    ("Rows", "scope"),
    ("SharedTx", "scope"),
    ("Row", "error"),
    ("TenantTx", "scope"),
];

/// Folders of `http` that do not import each other.
const DIALECTS: &[&str] = &["reten", "databunker", "webfluss", "control", "console"];

/// The crate's name, under which `main.rs` sees the library.
const CRATE: &str = "rowhouse";

/// A foreign crate and the only layers that may name it.
struct Foreign {
    name: &'static str,
    layers: &'static [&'static str],
}

const FOREIGN: &[Foreign] = &[
    // Code that holds a raw connection can leave the tenant. `embedded` only waits until its server answers, and
    // `disposable` creates and drops databases.
    Foreign { name: "tokio_postgres", layers: &["pg", "embedded", "disposable"] },
    Foreign { name: "deadpool_postgres", layers: &["pg"] },
    Foreign { name: "tokio_postgres_rustls", layers: &["pg"] },
    // The text of SQL is read in two places: files, and the statements of tenants while an exposure is open.
    Foreign { name: "sqlparser", layers: &["migrations", "pg"] },
    Foreign { name: "refinery", layers: &["migrations", "pg"] },
    // Headers of an archive alone: nothing is unpacked to a file system.
    Foreign { name: "tar", layers: &["domain"] },
    Foreign { name: "zstd", layers: &["service"] },
    Foreign { name: "rustix", layers: &["store"] },
    Foreign { name: "refinery_core", layers: &["migrations", "pg"] },
    // Wire forms end at `http`; `app` binds the listener, `telemetry` traces requests.
    Foreign { name: "actix_web", layers: &["http", "app", "application", "telemetry"] },
    Foreign { name: "tracing_actix_web", layers: &["http", "app", "telemetry"] },
    Foreign { name: "actix_cors", layers: &["http"] },
    Foreign { name: "askama", layers: &["http"] },
    // Limits depend on the caller's address, which no layer below knows.
    Foreign { name: "governor", layers: &["http"] },
    Foreign { name: "ipnet", layers: &["http"] },
    // The domain does no I/O.
    Foreign {
        name: "tokio",
        layers: &[
            "telemetry",
            "auth",
            "embedded",
            "pg",
            "store",
            "service",
            "http",
            "app",
            "disposable",
            "testing",
            "cli",
            "main",
        ],
    },
];

/// Files whose SQL may name `search_path` or change the role, each with the reason.
const GUARD_FILES: &[(&str, &str)] = &[
    ("pg/scope/mod.rs", "the guard: enters a tenant for the length of one transaction"),
    (
        "pg/scope/shared.rs",
        "enters the shared schema of an application, and a new tenant within its set-up",
    ),
    (
        "pg/connect/dedicated.rs",
        "dedicated connections: each sees one schema from its start to its end",
    ),
    (
        "pg/scope/in_schema.rs",
        "begins the owner's transaction inside one schema, for its migrations",
    ),
    ("pg/schema/mod.rs", "runs a tenant's migrations inside its schema"),
    (
        "pg/schema/frame.rs",
        "sets role and path for each migration file, and resets the session behind it",
    ),
    ("migrations/check/dump.rs", "recognizes the settings of a dump"),
    ("migrations/check/names.rs", "its tests have the names that it refuses"),
    ("migrations/check/statement.rs", "refuses statements that change the path or the role"),
    ("pg/bootstrap/mod.rs", "reports what isolation by search path alone leaves open"),
    ("pg/bootstrap/self_test.rs", "reports tenants of another kind of isolation"),
    ("pg/bootstrap/error.rs", "names the settings that would make a start succeed"),
    ("pg/bootstrap/revoke.rs", "revokes set_config from PUBLIC"),
    ("pg/bootstrap/migrator.rs", "grants set_config to the role that migrations run as"),
    ("service/provisioning/adopt.rs", "advises an operator to move an extension out of a schema"),
    ("pg/scope/reset.rs", "resets the session at the beginning of a tenant's transaction"),
    ("pg/scope/guard/mod.rs", "its tests have the statements that it refuses"),
    ("pg/scope/guard/lexer.rs", "its tests have the statements that it splits"),
    ("migrations/check.rs", "refuses files that would change their schema or role"),
];

/// SQL that moves a session into another schema or role, in lower case with single spaces.
const GUARDED_SQL: &[&str] = &[
    "search_path",
    "set_config(",
    // Another name for the search path.
    "set schema",
    "set local schema",
    "set role",
    "set local role",
    "set session role",
    "reset role",
    "set session authorization",
    "set local session authorization",
];

#[test]
fn every_import_goes_downward() {
    assert_eq!(violations_in_src(Rule::Imports), Vec::<String>::new());
}

#[test]
fn only_the_guard_names_the_search_path_or_a_role() {
    assert_eq!(violations_in_src(Rule::Guard), Vec::<String>::new());
}

#[test]
fn no_lint_is_switched_off_by_allow() {
    assert_eq!(violations_in_src(Rule::Lints), Vec::<String>::new());
}

#[test]
fn every_foreign_crate_stays_in_its_layer() {
    assert_eq!(violations_in_src(Rule::Foreign), Vec::<String>::new());
}

#[test]
fn files_do_not_import_each_other_in_circles() {
    let sources = sources();
    let circles = circles(sources.iter().map(|(file, text)| (file.as_str(), text.as_str())));
    assert_eq!(circles, ALLOWED_CIRCLES);
}

/// Any role can take any advisory lock: a lock of ours is a row of `public.locks`.
#[test]
fn no_lock_of_ours_is_an_advisory_lock() {
    let mut texts = sources();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for folder in ["public_migrations", "tenant_migrations"] {
        for entry in fs::read_dir(root.join(folder)).expect("the folder can be listed") {
            let path = entry.expect("the folder can be listed").path();
            let text = fs::read_to_string(&path).expect("a migration can be read");
            texts.push((path.display().to_string(), text));
        }
    }
    let taking: Vec<&str> = texts
        .iter()
        .filter(|(_, text)| text.contains("advisory_lock(") || text.contains("advisory_xact_lock"))
        .map(|(file, _)| file.as_str())
        .filter(|file| !file.starts_with("migrations/lint/"))
        .collect();
    // Two let one process of a test run at a time build a template or take a database, on a server of tests; the third
    // revokes the functions from PUBLIC.
    assert_eq!(taking, ["disposable/lent.rs", "disposable/template.rs", "pg/bootstrap/revoke.rs"]);
}

/// What is stored with an end must end by the clock of the database, whatever the machine of a server shows. (Clippy forbids
/// the functions of the standard library and of `time` that read the machine's.)
#[test]
fn no_service_takes_the_time_from_the_clock_of_the_machine() {
    let taking: Vec<String> = sources()
        .into_iter()
        .filter(|(file, text)| text.contains("Clock::system") && !file.ends_with("tests.rs"))
        .map(|(file, _)| file)
        .collect();
    assert_eq!(taking, [""; 0]);
    let reading: Vec<String> = sources()
        .into_iter()
        .filter(|(_, text)| text.contains("clippy::disallowed_methods") && text.contains("now_utc"))
        .map(|(file, _)| file)
        .collect();
    assert_eq!(reading, ["domain/clock.rs"]);
}

/// Every violation of one rule in `src/`, one line each.
fn violations_in_src(rule: Rule) -> Vec<String> {
    sources()
        .iter()
        .flat_map(|(file, source)| check(file, source))
        .filter(|violation| violation.rule == rule)
        .map(|violation| format!("src/{}:{}: {}", violation.file, violation.line, violation.what))
        .collect()
}

/// Every file of `src/`, named relative to it, with its text.
fn sources() -> Vec<(String, String)> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    collect_rust_files(&src, "", &mut files);
    assert!(files.iter().any(|file| file == "lib.rs"), "lib.rs was not found");
    let read = |file: String| {
        let source = fs::read_to_string(src.join(&file)).expect("a listed file can be read");
        (file, source)
    };
    files.into_iter().map(read).collect()
}

/// Adds every `.rs` file below `folder`, named relative to `src/` with forward slashes.
fn collect_rust_files(folder: &Path, prefix: &str, files: &mut Vec<String>) {
    for entry in fs::read_dir(folder).expect("src can be listed") {
        let entry = entry.expect("src can be listed");
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        if entry.path().is_dir() {
            collect_rust_files(&entry.path(), &format!("{name}/"), files);
        } else if entry.path().extension().is_some_and(|extension| extension == "rs") {
            files.push(name);
        }
    }
    files.sort();
}
