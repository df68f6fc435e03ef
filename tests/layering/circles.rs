//! Finds files that import each other in circles.

use std::collections::{BTreeMap, BTreeSet};

use proc_macro2::{Delimiter, TokenStream, TokenTree};

use super::LAYERS;
use super::checker::{Checker, layer, module_of};
use super::tokens::{follow, path_at};

/// Groups of files that import each other, directly or through others, without their tests. An import of a folder's
/// `mod.rs` from the files below it does not count: it re-exports them, and they may use what it declares. A
/// re-exported name counts as the file that declares it.
pub(crate) fn circles<'a>(sources: impl Iterator<Item = (&'a str, &'a str)>) -> Vec<Vec<String>> {
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
