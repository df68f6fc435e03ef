//! The README and the book under `docs/` are true: every example in them runs, word for word, and their tables
//! are those of the code.
//!
//! A block is one of these, and anything else fails:
//!
//! - `sh`: runs in a shell, in the order of the page, in a folder where `rowhouse serve` runs; exits with 0.
//! - `json`, `text`: what the block before it printed. Ids, times and tokens may differ; a string that ends
//!   with `…` is the beginning of one.
//! - `sql`, `toml` under `<!-- file: path -->`: is written to that file, for the blocks that follow.
//! - `rust`, `sql` under `<!-- from: path -->`: a part of that file, which the tests of its own crate run.
//! - `rust`: compiled as a documentation test of the crate (`src/lib.rs`).
//! - any of them under `<!-- not run: reason -->`.
//!
//! Each page has a server of its own, so that it can be read, and changed, without the others. The server's
//! address is the one thing that is replaced, since the port may be taken. The pages for operators run beside a server on a
//! database that `DATABASE_URL` names; `NEW_DATABASE_URL` is an empty one on another PostgreSQL server.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

use clap::CommandFactory;
use rowhouse::cli::Cli;
use rowhouse::config::{KEYS, Overrides, Settings};
use rowhouse::domain::{Permission, Role};
use rowhouse::telemetry::Metrics;
use serde_json::Value;

use crate::support::dedicated::DedicatedServer;
use crate::support::markdown::{Block, Page, book, root};
use crate::support::{Program, TestDatabase};

const ADDRESS: &str = "127.0.0.1:8080";

/// What there is to do with a block.
enum Example<'a> {
    /// Runs in a shell.
    Shell,
    /// What was printed, as JSON.
    Json,
    /// What was printed, as text.
    Text,
    /// Is written to this file.
    File(&'a str),
    /// Nothing here: it is compiled, or says why it is not run.
    Elsewhere,
}

fn example<'a>(page: &Page, block: &'a Block) -> Example<'a> {
    let at = format!("{}:{}", page.path, block.line);
    let mark = block.mark.as_ref().map(|(word, rest)| (word.as_str(), rest.as_str()));
    match (block.language.as_str(), mark) {
        (_, Some(("not run", reason))) => {
            assert!(reason.len() > 10, "{at}: say why");
            Example::Elsewhere
        }
        ("sh", None) => Example::Shell,
        ("json", None) => Example::Json,
        ("text", None) => Example::Text,
        ("sql" | "toml", Some(("file", path))) => Example::File(path),
        ("rust,no_run" | "rust,test_harness", None) => Example::Elsewhere,
        ("rust,ignore" | "sql", Some(("from", path))) => {
            let source = std::fs::read_to_string(root().join(path));
            let source = source.unwrap_or_else(|error| panic!("{at}: {path}: {error}"));
            assert!(source.contains(&block.text), "{at}: {path} holds no such text");
            Example::Elsewhere
        }
        other => panic!("{at}: {other:?} is an example that no test runs"),
    }
}

/// Runs the examples of a page beside a server with an embedded PostgreSQL.
fn run(page: &Page) {
    let program =
        Program::embedded().with_traversable_folder().with("ROWHOUSE_DATA_DIR", ".rowhouse");
    run_in(page, program);
}

/// Runs the examples of a page for operators.
async fn run_on_database(page: Page) {
    let database = TestDatabase::create().await;
    let other = DedicatedServer::acquire().await;
    let program = Program::on(&database)
        .with_postgres_programs()
        .with("NEW_DATABASE_URL", &other.database("restored").await);
    tokio::task::spawn_blocking(move || run_in(&page, program)).await.expect("the page is true");
}

/// Runs the examples of a page, and holds what they print against what the page says.
fn run_in(page: &Page, program: Program) {
    let server = program.serve(&[]);
    let program = program.with("ROWHOUSE_LISTEN", server.authority());
    copy_tenant_migrations(program.folder());
    let mut printed = String::new();
    for block in page.blocks() {
        let (at, text) = (format!("{}:{}", page.path, block.line), &block.text);
        match example(page, &block) {
            Example::Shell => {
                let script = format!("set -e\n{}", text.replace(ADDRESS, server.authority()));
                let outcome = program.shell(&script);
                assert_eq!(outcome.code, Some(0), "{at}: {script}\n{outcome:?}");
                printed = outcome.stdout;
            }
            Example::Json => {
                let [expected, found] = [text, &printed].map(|text| {
                    serde_json::from_str::<Value>(text)
                        .unwrap_or_else(|error| panic!("{at}: {error}: {text}"))
                });
                assert!(agree(&expected, &found), "{at}: {expected:#}\nis really {found:#}");
            }
            Example::Text => {
                let [expected, found] = [text, &printed].map(|text| without_ids(text));
                assert_eq!(expected, found, "{at}");
            }
            Example::File(path) => {
                std::fs::write(program.folder().join(path), text).expect("a file can be written");
            }
            Example::Elsewhere => {}
        }
    }
    server.stop("TERM").expect(0);
}

/// A test for each page with examples that run, by its path.
macro_rules! pages {
    ($($name:ident = $path:literal,)+) => {
        const PAGES: &[&str] = &[$($path,)+];

        mod every_example_does_what_it_says {
            use crate::support::markdown::Page;

            $(#[test] fn $name() { super::run(&Page::read($path)); })+
        }
    };
}

pages! {
    readme = "README.md",
    command_line = "docs/command-line.md",
    events = "docs/events.md",
    portability = "docs/portability.md",
    http_control = "docs/http/control.md",
    http_databunker = "docs/http/databunker.md",
    http_native = "docs/http/native.md",
    http_reten = "docs/http/reten.md",
    http_webfluss = "docs/http/webfluss.md",
    managed_postgresql = "docs/managed-postgresql.md",
    migrations = "docs/migrations.md",
    operations = "docs/operations.md",
    testing = "docs/testing.md",
    tutorial = "docs/tutorial.md",
}

/// The same for the pages that run on a database.
macro_rules! pages_on_a_database {
    ($($name:ident = $path:literal,)+) => {
        const PAGES_ON_A_DATABASE: &[&str] = &[$($path,)+];

        mod every_step_of_an_operator_does_what_it_says {
            use crate::support::markdown::Page;

            $(#[tokio::test] async fn $name() { super::run_on_database(Page::read($path)).await; })+
        }
    };
}

pages_on_a_database! {
    backup = "docs/backup.md",
    rotate = "docs/rotate.md",
    runbook = "docs/runbook.md",
    upgrade = "docs/upgrade.md",
}

#[test]
fn no_page_has_an_example_that_no_test_runs() {
    let mut run = 0;
    let mut pages = BTreeSet::new();
    for page in book() {
        for block in page.blocks() {
            if matches!(example(&page, &block), Example::Shell) {
                run += 1;
                pages.insert(page.path.clone());
            }
        }
    }
    let listed = [PAGES, PAGES_ON_A_DATABASE].concat();
    assert_eq!(pages, listed.iter().map(|path| (*path).to_owned()).collect(), "see `pages!`");
    assert!(run >= 30, "only {run} examples were found");
}

#[test]
fn the_rust_in_it_is_a_documentation_test() {
    let lib = include_str!("../../src/lib.rs");
    let is_rust = |block: &Block| block.language.starts_with("rust");
    let pages = book().into_iter().filter(|page| page.blocks().iter().any(is_rust));
    let pages: Vec<String> = pages.map(|page| page.path).collect();
    assert!(pages.iter().any(|path| path == "README.md"), "{pages:?}");
    for path in pages {
        let line = format!(r#"#[doc = include_str!("../{path}")]"#);
        assert!(lib.contains(&line), "src/lib.rs should hold {line}");
    }
}

#[test]
fn its_settings_file_is_taken() {
    let blocks = Page::read(SETTINGS).blocks();
    let toml = blocks.into_iter().find(|block| block.language == "toml").expect("there is one");
    let folder = tempfile::tempdir().expect("a folder can be made");
    let file = folder.path().join("rowhouse.toml");
    std::fs::write(&file, toml.text).expect("a file can be written");
    let settings = Settings::load_with(
        &Overrides { file: Some(file), ..Overrides::default() },
        std::collections::HashMap::new(),
    );
    let settings = settings.expect("the settings are good");
    assert_eq!(settings.base_domain.as_deref(), Some("example.com"));
}

/// The page with the table of settings, and the lines around the table.
const SETTINGS: &str = "docs/settings.md";
const TABLE_BEGINS: &str = "<!-- generated from config::KEYS by `make bless` -->\n\n";
const TABLE_ENDS: &str = "\n<!-- end of the generated table -->\n";

#[test]
#[expect(clippy::disallowed_methods, reason = "BLESS is a switch of this test and not a setting")]
fn its_table_of_settings_is_that_of_the_code() {
    let mut table =
        String::from("| Setting | Environment | Default | Means |\n| --- | --- | --- | --- |\n");
    for (key, default, meaning) in KEYS {
        let variable = format!("ROWHOUSE_{}", key.replace('.', "__").to_uppercase());
        let default = if default.is_empty() { String::new() } else { format!("`{default}`") };
        let meaning = meaning.replace('<', r"\<");
        writeln!(table, "| `{key}` | `{variable}` | {default} | {meaning} |")
            .expect("a string takes everything");
    }
    let page = Page::read(SETTINGS).text;
    let (before, rest) = page.split_once(TABLE_BEGINS).expect("the page says where it begins");
    let (found, after) = rest.split_once(TABLE_ENDS).expect("the page says where it ends");
    if std::env::var("BLESS").is_ok() {
        let page = [before, TABLE_BEGINS, &table, TABLE_ENDS, after].concat();
        std::fs::write(root().join(SETTINGS), page).expect("the page can be written");
        return;
    }
    assert!(
        found == table,
        "{SETTINGS} is stale; `make bless` rewrites its table:\n{}",
        difference(found, &table)
    );
}

/// The lines that only one of the texts has: `-` those of the first, `+` those of the second.
fn difference(found: &str, expected: &str) -> String {
    let [old, new] = [found, expected].map(|text| text.lines().collect::<BTreeSet<_>>());
    let gone = found.lines().filter(|line| !new.contains(line)).map(|line| format!("- {line}"));
    let come = expected.lines().filter(|line| !old.contains(line)).map(|line| format!("+ {line}"));
    gone.chain(come).collect::<Vec<_>>().join("\n")
}

#[test]
fn its_table_of_routes_is_that_of_the_server() {
    let program = Program::embedded();
    let document = program.run(&["openapi"]).expect(0).json();
    let paths = document["paths"].as_object().expect("there are paths");
    let mut served: Vec<String> = Vec::new();
    for (path, methods) in paths {
        for method in methods.as_object().expect("a path has methods").keys() {
            served.push(format!("| {} | `{path}` |", method.to_uppercase()));
        }
    }
    let pages: String = book().into_iter().map(|page| page.text).collect();
    let starts = ["| GET |", "| POST |", "| PUT |", "| PATCH |", "| DELETE |"];
    for row in pages.lines().filter(|line| starts.iter().any(|start| line.starts_with(start))) {
        let row: String = row.split_inclusive('|').take(3).collect();
        assert!(served.contains(&row), "the server has no {row}");
    }
    // Databunker's calls are many and are listed by their names alone.
    for row in &served {
        let path = row.split('`').nth(1).expect("a row has a path");
        let name = path.strip_prefix("/v2/").unwrap_or(path);
        assert!(pages.contains(&format!("`{name}`")), "{row} is on no page");
    }
}

#[test]
fn its_table_of_commands_is_that_of_the_command_line() {
    let page = Page::read("docs/command-line.md").text;
    let mut open = vec![("rowhouse".to_owned(), Cli::command())];
    while let Some((name, command)) = open.pop() {
        for verb in command.get_subcommands() {
            let name = format!("{name} {}", verb.get_name());
            // `tenant` alone is a group and no command.
            let is_command = !verb.has_subcommands() || !verb.is_subcommand_required_set();
            assert!(!is_command || page.contains(&format!("`{name}`")), "`{name}` is not listed");
            open.push((name, verb.clone()));
        }
    }
}

#[test]
fn its_table_of_metrics_is_that_of_the_server() {
    let page = Page::read("docs/operations.md").text;
    let (_, table) = page.split_once("| Metric | Tells |").expect("the page has the table");
    let rows = table.lines().skip(2).take_while(|line| line.starts_with("| `"));
    let listed: BTreeSet<&str> = rows.filter_map(|row| row.split('`').nth(1)).collect();
    let metrics = Metrics::default();
    // Those of the process are there on Linux alone.
    let is_everywhere =
        |name: &&str| !name.starts_with("process_") || *name == "process_start_time_seconds";
    let mut expected: BTreeSet<&str> = metrics.names().iter().map(String::as_str).collect();
    let mut found = listed.clone();
    if cfg!(not(target_os = "linux")) {
        expected.retain(is_everywhere);
        found.retain(is_everywhere);
    }
    assert_eq!(found, expected, "left: the page; right: the server");
}

#[test]
fn its_table_of_permissions_is_that_of_the_code() {
    let page = Page::read("docs/http/native.md").text;
    for permission in Permission::ALL {
        let holds = |role: &&Role| role.grants(*permission);
        let lowest = Role::ALL.iter().find(holds).expect("a role has it");
        let row = format!("| `{permission}` | `{}` |", lowest.as_str());
        assert!(page.contains(&row), "docs/http/native.md should hold {row}");
    }
}

fn copy_tenant_migrations(folder: &Path) {
    let copy = folder.join("tenant_migrations");
    std::fs::create_dir_all(&copy).expect("a folder can be made");
    let built_in = Path::new(env!("CARGO_MANIFEST_DIR")).join("tenant_migrations");
    for entry in std::fs::read_dir(built_in).expect("the built-in set can be listed").flatten() {
        std::fs::copy(entry.path(), copy.join(entry.file_name())).expect("a file can be copied");
    }
}

/// Whether what was printed is what the page says, but for what no two runs have in common.
fn agree(expected: &Value, found: &Value) -> bool {
    match (expected, found) {
        (Value::Object(expected), Value::Object(found)) => {
            expected.len() == found.len()
                && expected
                    .iter()
                    .all(|(key, value)| found.get(key).is_some_and(|found| agree(value, found)))
        }
        (Value::Array(expected), Value::Array(found)) => {
            expected.len() == found.len()
                && expected.iter().zip(found).all(|(expected, found)| agree(expected, found))
        }
        (Value::String(expected), Value::String(found)) => match expected.strip_suffix('…') {
            Some(beginning) => found.starts_with(beginning),
            None => without_ids(expected) == without_ids(found),
        },
        (expected, found) => expected == found,
    }
}

/// The text with a word in the place of each id and each time.
fn without_ids(text: &str) -> String {
    let in_word = |c: char| c.is_ascii_alphanumeric() || "-_:.".contains(c);
    let mut out = String::new();
    let mut rest = text;
    while let Some(start) = rest.find(in_word) {
        let (before, from) = rest.split_at(start);
        let (word, after) = from.split_at(from.find(|c| !in_word(c)).unwrap_or(from.len()));
        out += before;
        out += kind(word).unwrap_or(word);
        rest = after;
    }
    out + rest
}

fn kind(word: &str) -> Option<&'static str> {
    let schema = word.strip_prefix("tenant_").unwrap_or(word);
    if uuid::Uuid::try_parse(schema).is_ok() {
        return Some(if schema == word { "(id)" } else { "(schema)" });
    }
    let is_time = word.len() >= "2026-01-01T00:00:00Z".len()
        && word.ends_with('Z')
        && word.as_bytes().get(10) == Some(&b'T');
    is_time.then_some("(time)")
}

#[test]
fn the_address_of_the_examples_is_the_default_one() {
    let default = Settings::from_values(&[]).expect("the defaults are good").listen;
    assert_eq!(default.to_string(), ADDRESS);
}
