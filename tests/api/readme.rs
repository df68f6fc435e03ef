//! The README is true: every example in it runs, word for word, and its tables are those of the code.
//!
//! A block is one of these, and anything else fails:
//!
//! - `sh`: runs in a shell, in order, in a folder where `rowhouse serve` runs; exits with 0.
//! - `json`, `text`: what the block before it printed. Ids, times and tokens may differ; a string that ends
//!   with `…` is the beginning of one.
//! - `sql`, `toml` under `<!-- file: path -->`: is written to that file, for the blocks that follow.
//! - `rust`: compiled as a documentation test of the crate (`src/lib.rs`).
//! - any of them under `<!-- not run: reason -->`.
//!
//! The server's address is the one thing that is replaced, since the port may be taken.

use std::fmt::Write as _;
use std::path::Path;

use rowhouse::config::{KEYS, Overrides, Settings};
use serde_json::Value;

use crate::support::Program;

const README: &str = include_str!("../../README.md");
const ADDRESS: &str = "127.0.0.1:8080";

/// A fenced block.
#[derive(Debug)]
struct Block<'a> {
    line: usize,
    language: &'a str,
    /// The comment above it: a word, and what stands after the colon.
    mark: Option<(&'a str, &'a str)>,
    text: String,
}

fn blocks() -> Vec<Block<'static>> {
    let mut blocks = Vec::new();
    let mut mark = None;
    let mut lines = README.lines().enumerate();
    while let Some((at, line)) = lines.next() {
        if let Some(language) = line.trim_start().strip_prefix("```") {
            let inside = lines.by_ref().map(|(_, line)| line);
            let text: Vec<&str> = inside.take_while(|line| !line.starts_with("```")).collect();
            let (line, text) = (at + 1, text.join("\n") + "\n");
            blocks.push(Block { line, language, mark: mark.take(), text });
        } else if let Some(comment) = line.strip_prefix("<!-- ") {
            mark = comment.strip_suffix(" -->").and_then(|comment| comment.split_once(": "));
        } else if !line.is_empty() {
            mark = None;
        }
    }
    blocks
}

#[tokio::test]
async fn every_example_does_what_it_says() {
    let program =
        Program::embedded().with_traversable_folder().with("ROWHOUSE_DATA_DIR", ".rowhouse");
    let server = program.serve(&[]);
    let program = program.with("ROWHOUSE_LISTEN", server.authority());
    copy_tenant_migrations(program.folder());
    let mut printed = String::new();
    let mut ran = 0;
    for block in blocks() {
        let Block { line, language, mark, text } = &block;
        match (*language, *mark) {
            (_, Some(("not run", reason))) => assert!(reason.len() > 10, "line {line}: say why"),
            ("sh", None) => {
                let script = format!("set -e\n{}", text.replace(ADDRESS, server.authority()));
                let outcome = program.shell(&script);
                assert_eq!(outcome.code, Some(0), "line {line}: {script}\n{outcome:?}");
                printed = outcome.stdout;
                ran += 1;
            }
            ("json", None) => {
                let [expected, found] = [text, &printed].map(|text| {
                    serde_json::from_str::<Value>(text)
                        .unwrap_or_else(|error| panic!("line {line}: {error}: {text}"))
                });
                assert!(agree(&expected, &found), "line {line}: {expected:#}\nis really {found:#}");
            }
            ("text", None) => {
                let [expected, found] = [text, &printed].map(|text| without_ids(text));
                assert_eq!(expected, found, "line {line}");
            }
            ("sql" | "toml", Some(("file", path))) => {
                std::fs::write(program.folder().join(path), text).expect("a file can be written");
            }
            ("rust,no_run", None) => {}
            other => panic!("line {line}: {other:?} is an example that nobody runs"),
        }
    }
    assert!(ran >= 10, "only {ran} examples were found");
    server.stop("TERM").expect(0);
}

#[test]
fn the_rust_in_it_is_a_documentation_test() {
    let lib = include_str!("../../src/lib.rs");
    assert!(lib.contains(r#"#[doc = include_str!("../README.md")]"#));
}

#[test]
fn its_settings_file_is_taken() {
    let toml = blocks().into_iter().find(|block| block.language == "toml").expect("there is one");
    let folder = tempfile::tempdir().expect("a folder can be made");
    let file = folder.path().join("rowhouse.toml");
    std::fs::write(&file, toml.text).expect("a file can be written");
    let settings = Settings::load(&Overrides { file: Some(file), ..Overrides::default() });
    let settings = settings.expect("the settings are good");
    assert_eq!(settings.base_domain.as_deref(), Some("example.com"));
}

#[test]
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
    assert!(README.contains(&table), "the README should hold this table:\n\n{table}");
}

#[tokio::test]
async fn its_table_of_routes_is_that_of_the_server() {
    let program = Program::embedded();
    let document = program.run(&["openapi"]).expect(0).json();
    let paths = document["paths"].as_object().expect("there are paths");
    let mut served: Vec<String> = Vec::new();
    for (path, methods) in paths {
        for method in methods.as_object().expect("a path has methods").keys() {
            served.push(format!("| {} | `{path}` |", method.to_uppercase()));
        }
    }
    let starts = ["| GET |", "| POST |", "| PUT |", "| PATCH |", "| DELETE |"];
    for row in README.lines().filter(|line| starts.iter().any(|start| line.starts_with(start))) {
        let row: String = row.split_inclusive('|').take(3).collect();
        assert!(served.contains(&row), "the server has no {row}");
    }
    // Databunker's calls are many and are listed by their names alone.
    for row in &served {
        let path = row.split('`').nth(1).expect("a row has a path");
        let name = path.strip_prefix("/v2/").unwrap_or(path);
        assert!(README.contains(&format!("`{name}`")), "{row} is not in the README");
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

/// Whether what was printed is what the README says, but for what no two runs have in common.
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
