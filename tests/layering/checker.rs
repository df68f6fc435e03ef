//! Reads one file as tokens and reports what its layer may not contain.

use std::collections::BTreeSet;

use proc_macro2::{Delimiter, TokenStream, TokenTree};

use super::tokens::{attribute_at, inline_module_at, mentions, path_at, texts};
use super::{DIALECTS, FOREIGN, GUARD_FILES, GUARDED_SQL, LAYERS, Layer, PG, PG_NAMES};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rule {
    Imports,
    Guard,
    Lints,
    Foreign,
}

#[derive(Debug)]
pub(crate) struct Violation {
    pub(crate) rule: Rule,
    pub(crate) file: String,
    pub(crate) line: usize,
    pub(crate) what: String,
}

/// Checks one file; `file` is its path below `src/`.
pub(crate) fn check(file: &str, source: &str) -> Vec<Violation> {
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

/// `pg/scope.rs` is `[pg, scope]`, `http/mod.rs` is `[http]`, the two roots are `[]`.
pub(crate) fn module_of(file: &str) -> Vec<String> {
    let stem = file.strip_suffix(".rs").unwrap_or(file);
    let mut module: Vec<String> = stem.split('/').map(str::to_owned).collect();
    let last = module.last().map_or("", String::as_str);
    if last == "mod" || module == ["lib"] || module == ["main"] {
        module.pop();
    }
    module
}

pub(crate) fn layer(name: &str) -> Option<&'static Layer> {
    LAYERS.iter().find(|layer| layer.name == name)
}

/// All layers below `layer`, direct and indirect.
pub(crate) fn below(layers: &'static [Layer], layer: &Layer) -> BTreeSet<&'static str> {
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
pub(crate) fn may_import(
    layers: &'static [Layer],
    from: &Layer,
    to: &Layer,
    in_tests: bool,
) -> bool {
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

pub(crate) struct Checker<'a> {
    file: &'a str,
    layer: &'static Layer,
    dialect: Option<&'static str>,
    pg_part: Option<&'static Layer>,
    /// The line of the attribute whose text is being read; such text has no lines of its own.
    line: Option<usize>,
    violations: Vec<Violation>,
    /// Every path of the crate that is named outside of tests.
    pub(crate) targets: Vec<Vec<String>>,
}

impl<'a> Checker<'a> {
    pub(crate) fn new(file: &'a str, layer: &'static Layer, module: &[String]) -> Self {
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
    pub(crate) fn scan(&mut self, tokens: &[TokenTree], module: &[String], in_tests: bool) {
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
