//! Checks the layers: reads `src/` and fails on code that a layer may not contain.
//!
//! - **Imports go downward.** [`LAYERS`] lists for each layer the layers that it may name. A path
//!   counts anywhere: in a `use` with nested groups, in an expression, in a type, inside a macro
//!   call or in the text of an attribute (`with = "crate::.."`); `crate::`, `super::`, `self::` and
//!   the crate's own name are all followed. Dialects do not import each other.
//! - **One guard.** [`GUARD_FILES`] lists the files whose SQL may name the search path or change the
//!   role.
//! - **No `#[allow]`**; an exception is an `#[expect]` with a reason.
//! - **Foreign crates stay in their layer** ([`FOREIGN`]): no layer above `pg` holds a connection.
//!
//! Tests inside `src/` may skip a layer, but never import upward. Comments do not count.
//!
//! The checker works on tokens rather than on a syntax tree, because a syntax tree does not contain
//! the code inside macro calls. A new layer or a new exception is one line in a table here, with its
//! reason. The snippets that the checker must catch follow it: a way around it is added there first.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use proc_macro2::{Delimiter, TokenStream, TokenTree};

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
    Layer { name: "auth", may_import: &["domain", "telemetry"] },
    Layer { name: "pg", may_import: &["migrations", "domain", "telemetry"] },
    Layer { name: "service", may_import: &["auth", "pg", "migrations", "domain", "telemetry"] },
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
            "migrations",
            "embedded",
            "domain",
            "telemetry",
        ],
    },
    Layer { name: "cli", may_import: &["app", "config", "service", "auth", "domain", "telemetry"] },
    Layer { name: "main", may_import: &["cli", "app", "config", "domain", "telemetry"] },
    // The crate root declares the modules and may re-export from them.
    Layer {
        name: "lib",
        may_import: &[
            "cli",
            "app",
            "config",
            "http",
            "service",
            "auth",
            "pg",
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
    Layer { name: "pool", may_import: &["error", "rules"] },
    Layer { name: "scope", may_import: &["pool", "error", "rules"] },
    // The only part that knows pools and scopes.
    Layer { name: "db", may_import: &["scope", "pool", "error", "rules"] },
    Layer { name: "locks", may_import: &["scope", "error"] },
    Layer { name: "catalog", may_import: &["db", "scope", "error", "rules"] },
    Layer { name: "control", may_import: &["locks", "scope", "error", "rules"] },
    Layer { name: "tenant", may_import: &["scope", "error"] },
    Layer {
        name: "schema",
        may_import: &["catalog", "locks", "db", "scope", "connect", "error", "rules"],
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
    ("Param", "scope"),
    ("PublicTx", "scope"),
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
    // Code that holds a raw connection can leave the tenant. `embedded` only waits until its server answers.
    Foreign { name: "tokio_postgres", layers: &["pg", "embedded"] },
    Foreign { name: "deadpool_postgres", layers: &["pg"] },
    Foreign { name: "tokio_postgres_rustls", layers: &["pg"] },
    // The text of SQL is read in one place.
    Foreign { name: "sqlparser", layers: &["migrations"] },
    Foreign { name: "refinery", layers: &["migrations", "pg"] },
    Foreign { name: "refinery_core", layers: &["migrations", "pg"] },
    // Wire forms end at `http`; `app` binds the listener, `telemetry` traces requests.
    Foreign { name: "actix_web", layers: &["http", "app", "telemetry"] },
    Foreign { name: "tracing_actix_web", layers: &["http", "app", "telemetry"] },
    Foreign { name: "actix_cors", layers: &["http"] },
    // Limits depend on the caller's address, which no layer below knows.
    Foreign { name: "governor", layers: &["http"] },
    Foreign { name: "ipnet", layers: &["http"] },
    // The domain does no I/O.
    Foreign {
        name: "tokio",
        layers: &["telemetry", "auth", "embedded", "pg", "service", "http", "app", "cli", "main"],
    },
];

/// Files whose SQL may name `search_path` or change the role, each with the reason.
const GUARD_FILES: &[(&str, &str)] = &[
    ("pg/scope/mod.rs", "the guard: enters a tenant for the length of one transaction"),
    (
        "pg/connect/dedicated.rs",
        "dedicated connections: each sees one schema from its start to its end",
    ),
    ("pg/schema/mod.rs", "runs a tenant's migrations as the owner, inside its schema"),
    ("pg/bootstrap/mod.rs", "reports what isolation by search path alone leaves open"),
    ("pg/bootstrap/error.rs", "names the settings that would make a start succeed"),
    ("pg/bootstrap/revoke.rs", "revokes set_config from PUBLIC"),
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

// ---- the rules on the real tree ----------------------------------------------------------------

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

// ---- the checker -------------------------------------------------------------------------------

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rule {
    Imports,
    Guard,
    Lints,
    Foreign,
}

#[derive(Debug)]
struct Violation {
    rule: Rule,
    file: String,
    line: usize,
    what: String,
}

/// Checks one file; `file` is its path below `src/`.
fn check(file: &str, source: &str) -> Vec<Violation> {
    let module = module_of(file);
    let name = match file {
        "lib.rs" => "lib",
        "main.rs" => "main",
        _ => module.first().map_or("", String::as_str),
    };
    let Some(layer) = layer(name) else {
        let what = format!("`{name}` is not a layer: add it to LAYERS or move it into one");
        return vec![Violation { rule: Rule::Imports, file: file.to_owned(), line: 1, what }];
    };
    let tokens: TokenStream = source.parse().expect("code that compiles is valid tokens");
    let mut checker = Checker::new(file, layer, &module);
    if let [pg, part, ..] = module.as_slice()
        && pg == "pg"
        && checker.pg_part.is_none()
    {
        let what = format!("`pg/{part}` is not a part of pg: add it to PG or move it into one");
        checker.violation(Rule::Imports, 1, what);
    }
    // `#[cfg(test)] mod tests;` is declared in another file, so only the module's name shows it here.
    let in_tests = module.iter().any(|name| name == "tests");
    checker.scan(&tokens.into_iter().collect::<Vec<_>>(), &module, in_tests);
    checker.violations
}

/// Groups of files that import each other, directly or through others, without their tests. An import of a folder's
/// `mod.rs` from the files below it does not count: it re-exports them, and they may use what it declares. A
/// re-exported name counts as the file that declares it.
fn circles<'a>(sources: impl Iterator<Item = (&'a str, &'a str)>) -> Vec<Vec<String>> {
    let mut files = BTreeMap::new();
    let mut reexports = BTreeMap::new();
    for (file, source) in sources {
        let module = module_of(file);
        if module.is_empty() || module.iter().any(|name| name == "tests") {
            continue;
        }
        let tokens: TokenStream = source.parse().expect("what compiles is made of tokens");
        let tokens: Vec<_> = tokens.into_iter().collect();
        for target in reexported_by(&tokens, &module) {
            let Some(name) = target.last() else { continue };
            reexports.insert([module.as_slice(), std::slice::from_ref(name)].concat(), target);
        }
        let layer = layer(module.first().map_or("", String::as_str)).unwrap_or(&LAYERS[0]);
        let mut checker = Checker::new(file, layer, &module);
        checker.scan(&tokens, &module, false);
        files.insert(module, (file.to_owned(), checker.targets));
    }
    let edges = |module: &[String], targets: &[Vec<String>]| {
        let homes = targets.iter().filter_map(|target| home_of(target, &reexports, &files));
        homes.filter(|to| !to.starts_with(module)).collect()
    };
    let direct =
        files.iter().map(|(module, (_, targets))| (module.as_slice(), edges(module, targets)));
    let reach = closure(direct.collect());
    let reaches =
        |from: &[String], to: &[String]| reach.get(from).is_some_and(|all| all.contains(to));
    let circles: BTreeSet<Vec<String>> = reach
        .keys()
        .filter(|module| reaches(module, module))
        .map(|module| {
            let circle =
                reach.keys().filter(|other| reaches(module, other) && reaches(other, module));
            circle.map(|module| files[*module].0.clone()).collect()
        })
        .collect();
    circles.into_iter().collect()
}

/// A module's file and the paths that it names, by the module's own path.
type Files = BTreeMap<Vec<String>, (String, Vec<Vec<String>>)>;

/// The module whose file declares `target`, through any number of re-exports.
fn home_of<'a>(
    target: &[String],
    reexports: &BTreeMap<Vec<String>, Vec<String>>,
    files: &'a Files,
) -> Option<&'a [String]> {
    let mut target = target.to_vec();
    // As often as a name is re-exported, at the most.
    for _ in 0..8 {
        let next = (1..=target.len()).rev().find_map(|length| {
            let (name, rest) = target.split_at(length);
            reexports.get(name).map(|from| [from.as_slice(), rest].concat())
        });
        match next {
            Some(next) if next != target => target = next,
            _ => break,
        }
    }
    let prefixes = (1..=target.len()).rev().map(|length| &target[..length]);
    let known = prefixes.filter_map(|module| files.get_key_value(module));
    known.map(|(module, _)| module.as_slice()).next()
}

/// Everything that each module imports, directly or through others.
fn closure<'a>(
    mut reach: BTreeMap<&'a [String], BTreeSet<&'a [String]>>,
) -> BTreeMap<&'a [String], BTreeSet<&'a [String]>> {
    loop {
        let wider: BTreeMap<_, BTreeSet<_>> = reach
            .iter()
            .map(|(module, to)| {
                let further = to.iter().filter_map(|next| reach.get(next)).flatten();
                (*module, to.iter().chain(further).copied().collect())
            })
            .collect();
        if wider == reach {
            return reach;
        }
        reach = wider;
    }
}

/// The paths that a module re-exports: `pub use`, with any visibility.
fn reexported_by(tokens: &[TokenTree], module: &[String]) -> Vec<Vec<String>> {
    let mut paths = Vec::new();
    for at in 0..tokens.len() {
        if !matches!(&tokens[at], TokenTree::Ident(word) if word == "use") {
            continue;
        }
        let before = at.checked_sub(1).map(|before| &tokens[before]);
        let is_public = match before {
            Some(TokenTree::Ident(word)) => word == "pub",
            Some(TokenTree::Group(group)) => group.delimiter() == Delimiter::Parenthesis,
            _ => false,
        };
        if !is_public {
            continue;
        }
        match path_at(tokens, at + 1, module) {
            Some((found, _)) => paths.extend(found),
            // A path that begins with a module declared here.
            None => _ = follow(tokens, at + 1, module.to_vec(), &mut paths),
        }
    }
    paths
}

/// `pg/scope.rs` is `[pg, scope]`, `http/mod.rs` is `[http]`, the two roots are `[]`.
fn module_of(file: &str) -> Vec<String> {
    let stem = file.strip_suffix(".rs").unwrap_or(file);
    let mut module: Vec<String> = stem.split('/').map(str::to_owned).collect();
    let last = module.last().map_or("", String::as_str);
    if last == "mod" || module == ["lib"] || module == ["main"] {
        module.pop();
    }
    module
}

fn layer(name: &str) -> Option<&'static Layer> {
    LAYERS.iter().find(|layer| layer.name == name)
}

/// All layers below `layer`, direct and indirect.
fn below(layers: &'static [Layer], layer: &Layer) -> BTreeSet<&'static str> {
    let mut all = BTreeSet::new();
    let mut open: Vec<&'static str> = layer.may_import.to_vec();
    while let Some(name) = open.pop() {
        if all.insert(name) {
            let found = layers.iter().find(|layer| layer.name == name);
            open.extend(found.map_or(&[][..], |layer| layer.may_import));
        }
    }
    all
}

/// Whether `from` may name `to`. Tests may also name what `from` imports indirectly.
fn may_import(layers: &'static [Layer], from: &Layer, to: &Layer, in_tests: bool) -> bool {
    if in_tests {
        below(layers, from).contains(to.name)
    } else {
        from.may_import.contains(&to.name)
    }
}

/// The part of `pg` that a file belongs to; none for `pg/mod.rs` and outside of `pg`.
fn pg_part_of(module: &[String]) -> Option<&'static Layer> {
    match module {
        [pg, part, ..] if pg == "pg" => PG.iter().find(|known| known.name == part),
        _ => None,
    }
}

fn dialect_of(module: &[String]) -> Option<&'static str> {
    match module {
        [http, folder, ..] if http == "http" => {
            DIALECTS.iter().copied().find(|dialect| dialect == folder)
        }
        _ => None,
    }
}

struct Checker<'a> {
    file: &'a str,
    layer: &'static Layer,
    dialect: Option<&'static str>,
    pg_part: Option<&'static Layer>,
    /// The line of the attribute whose text is being read; such text has no lines of its own.
    line: Option<usize>,
    violations: Vec<Violation>,
    /// Every path of the crate that is named outside of tests.
    targets: Vec<Vec<String>>,
}

impl<'a> Checker<'a> {
    fn new(file: &'a str, layer: &'static Layer, module: &[String]) -> Self {
        Self {
            file,
            layer,
            dialect: dialect_of(module),
            pg_part: pg_part_of(module),
            line: None,
            violations: Vec::new(),
            targets: Vec::new(),
        }
    }

    /// Scans the tokens of one block, in order; `module` is where paths in it start from.
    fn scan(&mut self, tokens: &[TokenTree], module: &[String], in_tests: bool) {
        let mut in_tests = in_tests;
        // An attribute has marked what follows as test code, up to its body or its semicolon.
        let mut marked = false;
        let mut at = 0;
        while let Some(token) = tokens.get(at) {
            if let Some(attribute) = attribute_at(tokens, at) {
                self.attribute(&attribute.tokens, module, in_tests || marked);
                marked |= attribute.is_test && !attribute.is_inner;
                in_tests |= attribute.is_test && attribute.is_inner;
                at += attribute.length;
                continue;
            }
            if let Some((targets, next)) = path_at(tokens, at, module) {
                let line = self.line.unwrap_or(token.span().start().line);
                for target in targets {
                    self.import(&target, line, in_tests || marked);
                }
                at = next;
                continue;
            }
            match token {
                TokenTree::Ident(ident) => self.ident(&ident.to_string(), token, in_tests | marked),
                TokenTree::Literal(text) => {
                    self.literal(&text.to_string(), token, in_tests | marked);
                }
                TokenTree::Group(group) => {
                    let inner: Vec<_> = group.stream().into_iter().collect();
                    let mut within = module.to_vec();
                    within.extend(inline_module_at(tokens, at));
                    self.scan(&inner, &within, in_tests || marked);
                    marked &= group.delimiter() != Delimiter::Brace;
                }
                TokenTree::Punct(punct) => marked &= punct.as_char() != ';',
            }
            at += 1;
        }
    }

    /// Checks the path `target`, relative to the crate's root.
    fn import(&mut self, target: &[String], line: usize, in_tests: bool) {
        if !in_tests {
            self.targets.push(target.to_vec());
        }
        if matches!(self.layer.name, "lib" | "main") {
            let known = target.first().and_then(|first| layer(first));
            let forbidden = known.filter(|known| !self.layer.may_import.contains(&known.name));
            if let Some(known) = forbidden {
                self.violation(Rule::Imports, line, format!("main imports {}", known.name));
            }
            return;
        }
        let from = self.layer.name;
        let path = target.join("::");
        let Some(to) = target.first().and_then(|first| layer(first)) else {
            let what = format!("`crate::{path}` hides its layer: import it from where it lives");
            return self.violation(Rule::Imports, line, what);
        };
        if to.name == from {
            self.between_dialects(target, line);
            return self.inside_pg(target, line, in_tests);
        }
        if !may_import(LAYERS, self.layer, to, in_tests) {
            let what = format!("{from} may not import {} (crate::{path})", to.name);
            self.violation(Rule::Imports, line, what);
        }
    }

    /// Checks an import between parts of `pg`. A name that `pg/mod.rs` re-exports counts as its part.
    fn inside_pg(&mut self, target: &[String], line: usize, in_tests: bool) {
        let (Some(from), Some(name)) = (self.pg_part, target.get(1)) else { return };
        let name = PG_NAMES
            .iter()
            .find(|(short, _)| short == name)
            .map_or(name.as_str(), |(_, part)| part);
        let path = target.join("::");
        let Some(to) = PG.iter().find(|part| part.name == name) else {
            let what =
                format!("`crate::{path}` hides its part of pg: import it from where it lives");
            return self.violation(Rule::Imports, line, what);
        };
        if to.name != from.name && !may_import(PG, from, to, in_tests) {
            let what = format!("pg/{} may not import pg/{} (crate::{path})", from.name, to.name);
            self.violation(Rule::Imports, line, what);
        }
    }

    /// Checks that a dialect uses only what all of `http` shares, and nothing of another dialect.
    fn between_dialects(&mut self, target: &[String], line: usize) {
        let Some(own) = self.dialect else { return };
        let what = match target.get(1).map(String::as_str) {
            None | Some("*") => format!("{own} imports all of http: name what it needs"),
            Some(other) if other != own && DIALECTS.contains(&other) => {
                format!("{own} may not import {other}: what both need belongs to http itself")
            }
            Some(_) => return,
        };
        self.violation(Rule::Imports, line, what);
    }

    fn ident(&mut self, name: &str, token: &TokenTree, in_tests: bool) {
        let foreign = FOREIGN.iter().find(|foreign| foreign.name == name);
        let Some(foreign) = foreign.filter(|_| !in_tests) else { return };
        if !foreign.layers.contains(&self.layer.name) {
            let what = format!(
                "{} may not use {name}: it belongs to {}",
                self.layer.name,
                foreign.layers.join(", ")
            );
            self.violation(Rule::Foreign, token.span().start().line, what);
        }
    }

    fn literal(&mut self, text: &str, token: &TokenTree, in_tests: bool) {
        // Attributes contain help texts and messages, not SQL; their text is read for paths only.
        let reads_paths = self.line.is_some();
        let is_guard = GUARD_FILES.iter().any(|(file, _)| *file == self.file);
        if in_tests || reads_paths || is_guard {
            return;
        }
        if let Some(sql) = guarded_sql(text) {
            let what = format!("`{sql}` in a string: only the files of GUARD_FILES may name it");
            self.violation(Rule::Guard, token.span().start().line, what);
        }
    }

    fn attribute(&mut self, tokens: &[TokenTree], module: &[String], in_tests: bool) {
        let Some(first) = tokens.first() else { return };
        let line = self.line.unwrap_or(first.span().start().line);
        let name = first.to_string();
        if name == "doc" {
            return;
        }
        if name == "allow" || (name == "cfg_attr" && mentions(tokens, "allow")) {
            let what = "allows a lint: use #[expect(.., reason = \"..\")]".to_owned();
            self.violation(Rule::Lints, line, what);
        }
        let outer = self.line.replace(line);
        self.scan(tokens, module, in_tests);
        for text in texts(tokens) {
            // `#[serde(with = "crate::http::time")]` is an import written as text.
            if let Ok(path) = text.trim_matches('"').parse::<TokenStream>() {
                self.scan(&path.into_iter().collect::<Vec<_>>(), module, in_tests);
            }
        }
        self.line = outer;
    }

    fn violation(&mut self, rule: Rule, line: usize, what: String) {
        self.violations.push(Violation { rule, file: self.file.to_owned(), line, what });
    }
}

struct Attribute {
    tokens: Vec<TokenTree>,
    /// `#![..]`: applies to everything after it.
    is_inner: bool,
    is_test: bool,
    /// The number of its tokens, including the `#`.
    length: usize,
}

fn attribute_at(tokens: &[TokenTree], at: usize) -> Option<Attribute> {
    if !is_punct(tokens.get(at), '#') {
        return None;
    }
    let is_inner = is_punct(tokens.get(at + 1), '!');
    let length = if is_inner { 3 } else { 2 };
    let Some(TokenTree::Group(group)) = tokens.get(at + length - 1) else { return None };
    if group.delimiter() != Delimiter::Bracket {
        return None;
    }
    let text: String =
        group.stream().to_string().chars().filter(|letter| !letter.is_whitespace()).collect();
    let name = text.split('(').next().unwrap_or_default();
    let is_test = name == "test"
        || name.ends_with("::test")
        || text == "cfg(test)"
        || text.starts_with("cfg(all(test,");
    Some(Attribute { tokens: group.stream().into_iter().collect(), is_inner, is_test, length })
}

/// The name of the module whose body is at `at`, if there is one: `mod name { .. }`.
fn inline_module_at(tokens: &[TokenTree], at: usize) -> Option<String> {
    let [TokenTree::Ident(keyword), TokenTree::Ident(name), TokenTree::Group(_)] =
        tokens.get(at.checked_sub(2)?..=at)?
    else {
        return None;
    };
    (keyword == "mod").then(|| name.to_string())
}

/// The paths that start at `at`, relative to the crate's root, and the token after them. A group makes
/// more than one: `crate::{pg, auth::token}`.
fn path_at(
    tokens: &[TokenTree],
    at: usize,
    module: &[String],
) -> Option<(Vec<Vec<String>>, usize)> {
    let TokenTree::Ident(first) = tokens.get(at)? else { return None };
    let first = first.to_string();
    let base = match first.as_str() {
        "crate" | CRATE => Vec::new(),
        "self" => module.to_vec(),
        "super" => parent(module),
        _ => return None,
    };
    if is_separator(tokens, at + 1) {
        let mut paths = Vec::new();
        let next = follow(tokens, at + 3, base, &mut paths);
        return Some((paths, next));
    }
    let is_renamed = matches!(tokens.get(at + 1), Some(TokenTree::Ident(word)) if word == "as");
    (is_renamed && first != "self").then(|| (vec![base], at + 1))
}

/// Follows a path from the segment at `at` to its ends; returns the token after it.
fn follow(
    tokens: &[TokenTree],
    mut at: usize,
    mut base: Vec<String>,
    paths: &mut Vec<Vec<String>>,
) -> usize {
    loop {
        match tokens.get(at) {
            Some(TokenTree::Ident(segment)) => match segment.to_string().as_str() {
                "super" => base = parent(&base),
                "self" => {}
                name => base.push(name.to_owned()),
            },
            Some(TokenTree::Punct(star)) if star.as_char() == '*' => {
                base.push("*".to_owned());
                paths.push(base);
                return at + 1;
            }
            Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Brace => {
                let inner: Vec<_> = group.stream().into_iter().collect();
                for branch in inner.split(|token| is_punct(Some(token), ',')) {
                    if !branch.is_empty() {
                        follow(branch, 0, base.clone(), paths);
                    }
                }
                return at + 1;
            }
            _ => {
                paths.push(base);
                return at;
            }
        }
        at += 1;
        if !is_separator(tokens, at) {
            paths.push(base);
            return at;
        }
        at += 2;
    }
}

fn parent(module: &[String]) -> Vec<String> {
    module.split_last().map_or_else(Vec::new, |(_, rest)| rest.to_vec())
}

fn is_punct(token: Option<&TokenTree>, wanted: char) -> bool {
    matches!(token, Some(TokenTree::Punct(punct)) if punct.as_char() == wanted)
}

fn is_separator(tokens: &[TokenTree], at: usize) -> bool {
    is_punct(tokens.get(at), ':') && is_punct(tokens.get(at + 1), ':')
}

/// Whether the word occurs in the tokens, including nested groups.
fn mentions(tokens: &[TokenTree], word: &str) -> bool {
    tokens.iter().any(|token| match token {
        TokenTree::Ident(ident) => ident == word,
        TokenTree::Group(group) => mentions(&group.stream().into_iter().collect::<Vec<_>>(), word),
        _ => false,
    })
}

/// The literals in the tokens, including nested groups, each as written.
fn texts(tokens: &[TokenTree]) -> Vec<String> {
    let of = |token: &TokenTree| match token {
        TokenTree::Literal(text) => vec![text.to_string()],
        TokenTree::Group(group) => texts(&group.stream().into_iter().collect::<Vec<_>>()),
        _ => Vec::new(),
    };
    tokens.iter().flat_map(of).collect()
}

/// The first SQL in a literal that only the guard may contain.
fn guarded_sql(literal: &str) -> Option<&'static str> {
    // The bare word is the value of a setting (`isolation`), not SQL.
    if literal == "\"search_path\"" {
        return None;
    }
    let spaced = literal.replace("\\n", " ").replace("\\t", " ").replace('\\', " ").to_lowercase();
    let text = spaced.split_whitespace().collect::<Vec<_>>().join(" ");
    let contains = |sql: &str| {
        text.match_indices(sql).filter_map(|(at, _)| text.get(at + sql.len()..)).any(|rest| {
            // `UPDATE memberships SET role = $1` writes a column of that name.
            let is_longer_word =
                rest.starts_with(|next: char| next.is_alphanumeric() || next == '_');
            let is_column = rest.trim_start().starts_with('=') && text.contains("update ");
            !(sql.ends_with("role") && (is_longer_word || is_column))
        })
    };
    GUARDED_SQL.iter().copied().find(|sql| contains(sql))
}

// ---- tests of the checker ----------------------------------------------------------------------

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
fn a_circle_of_files_is_found_however_it_is_closed() {
    /// Files with their texts, and the circles among them.
    type Case = (&'static [(&'static str, &'static str)], &'static [&'static [&'static str]]);
    let cases: [Case; 6] = [
        (
            &[("a/x.rs", "use crate::a::y;"), ("a/y.rs", "use super::x::X;")],
            &[&["a/x.rs", "a/y.rs"]],
        ),
        (
            &[
                ("a/x.rs", "use crate::b::B;"),
                ("b.rs", "fn f() { crate::c::d() }"),
                ("c.rs", "use crate::a::x;"),
            ],
            &[&["a/x.rs", "b.rs", "c.rs"]],
        ),
        // Through a name that the folder re-exports.
        (
            &[
                ("a/mod.rs", "mod x; mod y; pub use x::X; pub use self::y::Y;"),
                ("a/x.rs", "use super::Y;"),
                ("a/y.rs", "use crate::a::X;"),
            ],
            &[&["a/x.rs", "a/y.rs"]],
        ),
        // A folder and its `mod.rs`.
        (&[("a/mod.rs", "mod x; pub use x::X; struct A;"), ("a/x.rs", "use super::A;")], &[]),
        (
            &[
                ("a/x.rs", "use crate::a::y;"),
                ("a/y.rs", "#[cfg(test)] mod tests { use crate::a::x; }"),
            ],
            &[],
        ),
        (&[("a/x.rs", "use crate::a::y;"), ("a/y.rs", "/// See `crate::a::x`.\nfn f() {}")], &[]),
    ];
    for (files, expected) in cases {
        assert_eq!(circles(files.iter().copied()), expected, "{files:?}");
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

// ---- the rights check comes first --------------------------------------------------------------
//
// A function of `service` that other layers can call and that is async (only such a one reaches the
// database) begins with its rights check. What counts as the check is decided by syntax alone. The
// first statement of the body, without a leading `let .. =`, is one of
//
// - `ctx.require(..)?`, `ctx.require_in(..)?`, `ctx.require_authenticated()?` or `ctx.reach(..)?`;
// - `require_..(ctx, ..)?`: a function of the service layer that combines these;
// - `self.method(ctx, ..).await?`: another method of the same type for which the same holds. Where
//   it is the whole body, it needs no `?`.
//
// A parameter of a type in [`PROOFS`] replaces the check, because the type can only be obtained
// through one. A name that ends in `_unauthorized` says that the function checks nothing; any other
// exception is a line in [`UNCHECKED`].
//
// `pub(super)` and `pub(in crate::service..)` do not leave the layer and are not checked. Neither
// are trait implementations: a service has no trait that another layer calls.

/// Types that prove a rights check.
const PROOFS: &[(&str, &str)] =
    &[("Pass", "System::pass gives it after the rights check, the unlock and the audit event")];

/// Functions without a rights check whose name does not say so, and why.
const UNCHECKED: &[(&str, &str)] = &[
    ("Identity::of_bearer", "finds the principal on which rights are checked"),
    ("Identity::of_api_key", "finds the principal on which rights are checked"),
    ("Identity::of_xtoken", "finds the principal on which rights are checked"),
    ("Sessions::log_in", "the password is the credential"),
    ("Sessions::refresh", "the refresh token is the credential"),
    ("Engine::stop", "ends the work of this process when it shuts down; no caller asks for it"),
    ("Fleet::stop", "ends the work of this process when it shuts down; no caller asks for it"),
    ("Vacancies::asked", "waits for a signal inside this process and reads nothing"),
];

/// The methods of [`CallContext`](rowhouse::auth::CallContext) that refuse a caller.
const CHECKS: &[&str] = &["require", "require_in", "require_authenticated", "reach"];

#[test]
fn every_service_method_begins_with_its_rights_check() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    collect_rust_files(&src, "", &mut files);
    let functions: Vec<Function> = files
        .iter()
        .filter(|file| file.starts_with("service/"))
        .flat_map(|file| {
            functions_in(file, &fs::read_to_string(src.join(file)).expect("a listed file is there"))
        })
        .collect();
    assert!(functions.iter().filter(|function| function.is_exported).count() > 50, "found too few");
    assert_eq!(unchecked(&functions), Vec::<String>::new());
    for (name, _) in UNCHECKED {
        assert!(functions.iter().any(|function| function.name() == *name), "{name} is gone");
    }
}

/// A function of the service layer.
#[derive(Debug)]
struct Function {
    /// The type whose method it is; empty for a free function.
    owner: String,
    ident: String,
    file: String,
    line: usize,
    /// Whether it is async and another layer can call it.
    is_exported: bool,
    begins_with: FirstStatement,
}

#[derive(Debug, PartialEq, Eq)]
enum FirstStatement {
    /// A rights check, or a proof of one among the parameters.
    Check,
    /// A call of this method of the same type with the same context.
    Method(String),
    Other,
}

impl Function {
    fn name(&self) -> String {
        if self.owner.is_empty() {
            self.ident.clone()
        } else {
            format!("{}::{}", self.owner, self.ident)
        }
    }

    fn is_excepted(&self) -> bool {
        self.ident.ends_with("_unauthorized")
            || UNCHECKED.iter().any(|(name, _)| *name == self.name())
    }
}

/// The exported functions that do not begin with a rights check, one line each.
fn unchecked(functions: &[Function]) -> Vec<String> {
    functions
        .iter()
        .filter(|function| function.is_exported && !function.is_excepted())
        .filter(|function| !is_checked(function, functions, &mut BTreeSet::new()))
        .map(|function| {
            let Function { file, line, .. } = function;
            format!("src/{file}:{line}: {} does not begin with its rights check", function.name())
        })
        .collect()
}

fn is_checked(function: &Function, all: &[Function], seen: &mut BTreeSet<String>) -> bool {
    match &function.begins_with {
        FirstStatement::Check => true,
        FirstStatement::Other => false,
        // Methods that only call each other check nothing.
        FirstStatement::Method(_) if !seen.insert(function.name()) => false,
        FirstStatement::Method(ident) => all
            .iter()
            .find(|other| other.owner == function.owner && other.ident == *ident)
            .is_some_and(|other| is_checked(other, all, seen)),
    }
}

fn functions_in(file: &str, source: &str) -> Vec<Function> {
    let tokens: TokenStream = source.parse().expect("what compiles is made of tokens");
    let mut functions = Vec::new();
    collect_functions(file, "", &tokens.into_iter().collect::<Vec<_>>(), &mut functions);
    functions
}

/// Adds the functions of a module's or an `impl`'s body; test code is left out.
fn collect_functions(file: &str, owner: &str, tokens: &[TokenTree], functions: &mut Vec<Function>) {
    let (mut at, mut in_tests) = (0, false);
    while let Some(token) = tokens.get(at) {
        if let Some(attribute) = attribute_at(tokens, at) {
            in_tests |= attribute.is_test;
            at += attribute.length;
            continue;
        }
        let TokenTree::Ident(word) = token else {
            in_tests &= !is_end(token);
            at += 1;
            continue;
        };
        let is_block = word == "impl" || word == "mod" || word == "trait" || word == "fn";
        let Some((body, next)) = is_block.then(|| brace_after(tokens, at)).flatten() else {
            at += 1;
            continue;
        };
        let head = tokens.get(at..next - 1).unwrap_or_default();
        let body: Vec<_> = body.into_iter().collect();
        match word.to_string().as_str() {
            _ if in_tests => {}
            "mod" => collect_functions(file, owner, &body, functions),
            "impl" => {
                if let Some(owner) = implemented_type(head) {
                    collect_functions(file, &owner, &body, functions);
                }
            }
            "fn" => functions.extend(function(file, owner, tokens, at, head, &body)),
            _ => {}
        }
        in_tests = false;
        at = next;
    }
}

/// Whether a token ends an item.
fn is_end(token: &TokenTree) -> bool {
    match token {
        TokenTree::Group(group) => group.delimiter() == Delimiter::Brace,
        token => is_punct(Some(token), ';'),
    }
}

/// The next group in braces, and the position after it; none where a semicolon comes first.
fn brace_after(tokens: &[TokenTree], at: usize) -> Option<(TokenStream, usize)> {
    for (position, token) in tokens.iter().enumerate().skip(at) {
        match token {
            TokenTree::Group(group) if group.delimiter() == Delimiter::Brace => {
                return Some((group.stream(), position + 1));
            }
            TokenTree::Punct(punct) if punct.as_char() == ';' => return None,
            _ => {}
        }
    }
    None
}

/// The type of `impl<..> path::Type<..> where ..`; none of `impl Trait for Type`.
fn implemented_type(head: &[TokenTree]) -> Option<String> {
    let (mut depth, mut last) = (0, None);
    for (at, token) in head.iter().enumerate().skip(1) {
        match token {
            TokenTree::Punct(punct) if punct.as_char() == '<' => depth += 1,
            TokenTree::Punct(punct)
                if punct.as_char() == '>' && !is_punct(head.get(at - 1), '-') =>
            {
                depth -= 1;
            }
            TokenTree::Ident(word) if depth == 0 && word == "for" => return None,
            TokenTree::Ident(word) if depth == 0 && word == "where" => break,
            TokenTree::Ident(word) if depth == 0 => last = Some(word.to_string()),
            _ => {}
        }
    }
    last
}

/// The function whose `fn` is at `at`; `head` reaches from there to its body.
fn function(
    file: &str,
    owner: &str,
    tokens: &[TokenTree],
    at: usize,
    head: &[TokenTree],
    body: &[TokenTree],
) -> Option<Function> {
    let ident = head.get(1)?.to_string();
    // Visibility and qualifiers stand before `fn`: `pub(crate) const async unsafe fn`.
    let mut before = tokens.get(..at)?;
    let mut is_async = false;
    while let [rest @ .., TokenTree::Ident(word)] = before {
        if word != "async" && word != "const" && word != "unsafe" {
            break;
        }
        is_async |= word == "async";
        before = rest;
    }
    let is_visible = match before {
        [.., TokenTree::Ident(word)] => word == "pub",
        [.., TokenTree::Ident(word), TokenTree::Group(within)] if word == "pub" => {
            let within: String =
                within.stream().to_string().chars().filter(|c| !c.is_whitespace()).collect();
            within == "crate" || within == "incrate"
        }
        _ => false,
    };
    let is_proven = head.iter().any(|token| match token {
        TokenTree::Group(parameters) => {
            let parameters: Vec<_> = parameters.stream().into_iter().collect();
            parameters.windows(2).any(|pair| match pair {
                [colon, TokenTree::Ident(word)] => {
                    is_punct(Some(colon), ':') && PROOFS.iter().any(|(proof, _)| word == proof)
                }
                _ => false,
            })
        }
        _ => false,
    });
    Some(Function {
        owner: owner.to_owned(),
        ident,
        file: file.to_owned(),
        line: head.first()?.span().start().line,
        is_exported: is_async && is_visible,
        begins_with: if is_proven { FirstStatement::Check } else { first_statement(body) },
    })
}

/// What the first statement of a body is.
fn first_statement(body: &[TokenTree]) -> FirstStatement {
    let end = body.iter().position(|token| is_punct(Some(token), ';'));
    let mut statement = body.get(..end.unwrap_or(body.len())).unwrap_or_default();
    if matches!(statement.first(), Some(TokenTree::Ident(word)) if word == "let") {
        let Some(equals) = statement.iter().position(|token| is_punct(Some(token), '=')) else {
            return FirstStatement::Other;
        };
        statement = statement.get(equals + 1..).unwrap_or_default();
    }
    let is_question = |token: Option<&TokenTree>| is_punct(token, '?');
    // Only the value of the whole body goes to the caller, refusal and all.
    let is_propagated = is_question(statement.last()) || end.is_none();
    if is_question(statement.last()) {
        statement = statement.split_last().map_or(&[][..], |(_, rest)| rest);
    }
    if !is_propagated {
        return FirstStatement::Other;
    }
    match statement {
        [TokenTree::Ident(ctx), dot, TokenTree::Ident(check), TokenTree::Group(_)]
            if ctx == "ctx"
                && is_punct(Some(dot), '.')
                && CHECKS.iter().any(|known| check == known) =>
        {
            FirstStatement::Check
        }
        [TokenTree::Ident(check), TokenTree::Group(arguments)]
            if check.to_string().starts_with("require_") && passes_context(arguments) =>
        {
            FirstStatement::Check
        }
        [
            TokenTree::Ident(this),
            dot,
            TokenTree::Ident(method),
            TokenTree::Group(arguments),
            other_dot,
            TokenTree::Ident(awaited),
        ] if this == "self"
            && is_punct(Some(dot), '.')
            && passes_context(arguments)
            && is_punct(Some(other_dot), '.')
            && awaited == "await" =>
        {
            FirstStatement::Method(method.to_string())
        }
        _ => FirstStatement::Other,
    }
}

/// Whether the first argument is `ctx`.
fn passes_context(arguments: &proc_macro2::Group) -> bool {
    let mut arguments = arguments.stream().into_iter();
    let is_context = matches!(arguments.next(), Some(TokenTree::Ident(word)) if word == "ctx");
    is_context && arguments.next().is_none_or(|token| is_punct(Some(&token), ','))
}

/// The exported functions of a snippet that do not begin with a check.
fn unchecked_in(source: &str) -> Vec<String> {
    unchecked(&functions_in("service/users.rs", source))
}

#[test]
fn a_service_method_without_its_rights_check_is_caught() {
    let bodies = [
        "",
        "self.db.list().await",
        "let tx = self.db.public().await?; ctx.require(Permission::ViewUsers)?; self.read(tx).await",
        "ctx.require(Permission::ViewUsers); self.db.list().await",
        "let _ = ctx.require(Permission::ViewUsers); self.db.list().await",
        "ctx.require(Permission::ViewUsers).ok(); self.db.list().await",
        "ctx.principal.reach(Permission::ViewUsers)?; self.db.list().await",
        "if ctx.require(Permission::ViewUsers).is_ok() { self.db.list().await }",
        "if named { ctx.require(Permission::ViewUsers)?; } self.db.list().await",
        "other.require(Permission::ViewUsers)?; self.db.list().await",
        "require_name(name, ctx)?; self.db.list().await",
        "check(ctx)?; self.db.list().await",
        "self.unchecked(ctx).await",
        "self.checked(other).await",
        "self.users.checked(ctx).await",
        "self.checked(ctx).await; self.db.list().await",
        "self.one(ctx).await",
        "self.elsewhere(ctx).await",
    ];
    for body in bodies {
        let source = format!(
            "impl Users {{
                pub async fn list(&self, ctx: &CallContext) -> Result<()> {{ {body} }}
                async fn unchecked(&self, ctx: &CallContext) {{ self.db.list().await }}
                async fn checked(&self, ctx: &CallContext) -> Result<()> {{ ctx.require(A)?; b() }}
                async fn one(&self, ctx: &CallContext) {{ self.other(ctx).await }}
                async fn other(&self, ctx: &CallContext) {{ self.one(ctx).await }}
            }}
            impl Others {{ async fn elsewhere(&self, ctx: &C) {{ ctx.require(A)?; b() }} }}"
        );
        assert_eq!(unchecked_in(&source).len(), 1, "{body}: {:?}", unchecked_in(&source));
    }
    for (source, name) in [
        ("impl<T: Fn() -> u8> a::Users<T> { pub(crate) async fn list(&self) {} }", "Users::list"),
        ("impl Users { pub(in crate) async fn list(&self) {} }", "Users::list"),
        ("impl Users { pub async fn list<F: Fn(Pass)>(&self) where F: Fn(Pass) {} }", ""),
        ("pub async fn list(ctx: &CallContext) { find(ctx).await }", "list"),
        ("mod inner { impl Users { pub async fn list(&self) {} } }", "Users::list"),
        (
            "#[cfg(test)] mod tests { fn f() {} } impl Users { pub async fn f(&self) {} }",
            "Users::f",
        ),
        ("#[cfg(test)] use a::b; impl Users { pub async fn f(&self) {} }", "Users::f"),
        ("#[cfg(test)] struct A {} impl Users { pub async fn f(&self) {} }", "Users::f"),
    ] {
        let found = unchecked_in(source);
        assert_eq!(found.len(), 1, "{source}: {found:?}");
        assert!(found.iter().all(|what| what.contains(name)), "{source}: {found:?}");
    }
    let found = unchecked_in("impl Users {\n pub async fn list(&self) {}\n}");
    assert_eq!(found, ["src/service/users.rs:2: Users::list does not begin with its rights check"]);
}

#[test]
fn a_service_method_that_begins_with_its_rights_check_passes() {
    let bodies = [
        "ctx.require(Permission::ViewUsers)?; self.db.list().await",
        "ctx.require_in(Permission::ViewUsers, tenant)?; self.db.list().await",
        "ctx.require_authenticated()?; self.db.list().await",
        "let reach = ctx.reach(Permission::ViewUsers)?; self.db.list(reach).await",
        "let reach: Reach = ctx.reach(Permission::ViewUsers)?; self.db.list(reach).await",
        "// why\n ctx.require(Permission::ViewUsers)?; self.db.list().await",
        "let own = require_own_or_any(ctx, tenant)?; self.db.list(own).await",
        "require_operator(ctx)?; self.db.list().await",
        "self.checked(ctx, tenant).await",
        "self.checked(ctx).await?; self.db.list().await",
        "let user = self.twice(ctx, tenant).await?; self.db.list(user).await",
    ];
    for body in bodies {
        let source = format!(
            "impl Users {{
                pub(crate) async fn list(&self, ctx: &CallContext) -> Result<()> {{ {body} }}
            }}
            impl Users {{
                pub async fn twice(&self, ctx: &CallContext) -> Result<()> {{ self.checked(ctx).await }}
                async fn checked(&self, ctx: &CallContext) -> Result<()> {{ ctx.require(A)?; b() }}
            }}"
        );
        assert_eq!(unchecked_in(&source), Vec::<String>::new(), "{body}");
    }
    for source in [
        "impl Users { pub async fn find_unauthorized(&self) {} }",
        "impl Users { pub async fn find(&self, ctx: &CallContext, _: Pass) {} }",
        "impl Identity { pub async fn of_bearer(&self) {} }",
        "impl Users { pub fn measure(&self) {} }",
        "impl Users { async fn find(&self) {} }",
        "impl Users { pub(super) async fn find(&self) {} }",
        "impl Users { pub(in crate::service) async fn find(&self) {} }",
        "pub(in crate::service) async fn find(tx: &PublicTx) {}",
        "impl Drop for Users { fn drop(&mut self) {} }",
        "trait Lists { async fn list(&self); }",
        "#[cfg(test)] mod tests { pub async fn list() {} }",
        "#[cfg(test)] impl Users { pub async fn list(&self) {} }",
    ] {
        assert_eq!(unchecked_in(source), Vec::<String>::new(), "{source}");
    }
}
