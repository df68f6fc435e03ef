//! The public API: what `src/lib.rs` shows, and the methods of its types. Hidden modules are for our own program, tests and
//! benchmarks, and may change at any time.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use proc_macro2::{Delimiter, Group, TokenStream, TokenTree};

/// The list of the API, which a change of it changes too.
const LIST: &str = "tests/layering/api.txt";

/// The most items that the API may have.
const MOST: usize = 150;

fn tokens(path: &Path) -> Vec<TokenTree> {
    let text = fs::read_to_string(path).expect("a source file can be read");
    let stream: TokenStream = text.parse().expect("a source file has tokens");
    stream.into_iter().collect()
}

fn ident(token: Option<&TokenTree>) -> Option<String> {
    match token {
        Some(TokenTree::Ident(ident)) => Some(ident.to_string()),
        _ => None,
    }
}

/// Whether a token is the group of the attribute `#[doc(hidden)]`.
fn hides(token: &TokenTree) -> bool {
    matches!(token, TokenTree::Group(group) if group.to_string().replace(' ', "") == "[doc(hidden)]")
}

/// Returns the items of a list of tokens, each with whether it is public and shown, and its tokens.
fn items(tokens: &[TokenTree]) -> Vec<(bool, Vec<TokenTree>)> {
    let (mut found, mut item, mut hidden) = (Vec::new(), Vec::new(), false);
    let mut at = 0;
    while let Some(token) = tokens.get(at) {
        at += 1;
        if let TokenTree::Punct(punct) = token
            && punct.as_char() == '#'
            && item.is_empty()
        {
            while !matches!(tokens.get(at), Some(TokenTree::Group(_))) {
                at += 1;
            }
            hidden |= tokens.get(at).is_some_and(hides);
            at += 1;
            continue;
        }
        item.push(token.clone());
        let is_braces = matches!(token, TokenTree::Group(g) if g.delimiter() == Delimiter::Brace);
        let is_use = ident(item.get(1)).as_deref() == Some("use");
        let ends = matches!(token, TokenTree::Punct(punct) if punct.as_char() == ';');
        if ends || (is_braces && !is_use) {
            let is_public = ident(item.first()).as_deref() == Some("pub")
                && !matches!(item.get(1), Some(TokenTree::Group(_)));
            found.push((is_public && !hidden, std::mem::take(&mut item)));
            hidden = false;
        }
    }
    found
}

/// Returns the names that the tokens of a `use` bring, each with its name at its origin.
fn used(tokens: &[TokenTree], names: &mut Vec<(String, String)>) {
    let mut last: Option<String> = None;
    let mut at = 0;
    while let Some(token) = tokens.get(at) {
        match token {
            TokenTree::Ident(word) if word == "as" => {
                let origin = last.take().expect("a name stands before `as`");
                let alias = ident(tokens.get(at + 1)).expect("a name stands behind `as`");
                names.push((alias, origin));
                at += 1;
            }
            TokenTree::Ident(word) => last = Some(word.to_string()),
            TokenTree::Group(group) => {
                last = None;
                let inner: Vec<TokenTree> = group.stream().into_iter().collect();
                used(&inner, names);
            }
            TokenTree::Punct(punct) if punct.as_char() == ',' => {
                names.extend(last.take().map(|name| (name.clone(), name)));
            }
            TokenTree::Punct(_) | TokenTree::Literal(_) => {}
        }
        at += 1;
    }
    names.extend(last.map(|name| (name.clone(), name)));
}

/// Returns the public methods of a type in the sources.
fn methods(name: &str, sources: &[Vec<TokenTree>]) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (at, tokens) in
        sources.iter().flat_map(|file| file.iter().enumerate().map(move |(at, _)| (at, file)))
    {
        if ident(tokens.get(at)).as_deref() != Some("impl") {
            continue;
        }
        let header: Vec<&TokenTree> = tokens
            .iter()
            .skip(at + 1)
            .take_while(
                |token| !matches!(token, TokenTree::Group(g) if g.delimiter() == Delimiter::Brace),
            )
            .collect();
        let words: Vec<String> = header.iter().map(ToString::to_string).collect();
        let is_of_trait = words.iter().any(|word| word == "for");
        let target = words.iter().find(|word| *word == name);
        let body = tokens.get(at + 1 + header.len());
        if let (false, Some(_), Some(TokenTree::Group(body))) = (is_of_trait, target, body) {
            found.extend(methods_in(body));
        }
    }
    found
}

fn methods_in(body: &Group) -> Vec<String> {
    let tokens: Vec<TokenTree> = body.stream().into_iter().collect();
    let name = |item: &Vec<TokenTree>| {
        let words = item.iter().position(|token| ident(Some(token)).as_deref() == Some("fn"))?;
        ident(item.get(words + 1))
    };
    items(&tokens).iter().filter(|(shown, _)| *shown).filter_map(|(_, item)| name(item)).collect()
}

fn rust_files(folder: &Path, files: &mut Vec<Vec<TokenTree>>) {
    for entry in fs::read_dir(folder).expect("a folder can be listed") {
        let path = entry.expect("an entry can be read").path();
        if path.is_dir() {
            rust_files(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(tokens(&path));
        }
    }
}

/// Returns the items that `src/lib.rs` shows, each with its name at its origin.
fn shown(source: &Path) -> Vec<(String, String)> {
    let mut names = Vec::new();
    for (is_shown, item) in items(&tokens(&source.join("lib.rs"))) {
        match ident(item.get(1)).as_deref() {
            Some("use") if is_shown => {
                used(item.get(2..).unwrap_or_default(), &mut names);
            }
            Some("mod") if is_shown => {
                let name = ident(item.get(2)).expect("a module has a name");
                let file = source.join(&name).join("mod.rs");
                if let Some(TokenTree::Group(body)) = item.last() {
                    let inner: Vec<TokenTree> = body.stream().into_iter().collect();
                    for (is_shown, item) in items(&inner) {
                        if is_shown {
                            used(item.get(2..).unwrap_or_default(), &mut names);
                        }
                    }
                } else if file.exists() {
                    for (is_shown, item) in items(&tokens(&file)) {
                        let kind = ident(item.get(1)).unwrap_or_default();
                        if is_shown && kind == "use" {
                            used(item.get(2..).unwrap_or_default(), &mut names);
                        } else if is_shown {
                            let name = ident(item.get(2)).unwrap_or_default();
                            names.push((name.clone(), name));
                        }
                    }
                }
                names.push((name.clone(), name));
            }
            _ => {}
        }
    }
    names.push(("embed_migrations".to_owned(), "embed_migrations".to_owned()));
    names.sort();
    names.dedup();
    names
}

#[test]
#[expect(clippy::disallowed_methods, reason = "BLESS is a switch of this test and not a setting")]
fn the_public_api_is_the_one_that_is_listed_and_is_small() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let source = root.join("src");
    let mut files = Vec::new();
    rust_files(&source, &mut files);
    let names = shown(&source);
    assert!(names.iter().any(|(name, _)| name == "Application"), "{names:?}");
    assert!(names.len() <= MOST, "{} items", names.len());
    let mut lines = String::new();
    for (name, origin) in &names {
        lines.push_str(name);
        lines.push('\n');
        for method in methods(origin, &files) {
            writeln!(lines, "{name}::{method}").expect("a string takes everything");
        }
    }
    let list = root.join(LIST);
    if std::env::var("BLESS").is_ok() {
        fs::write(&list, lines).expect("the list can be written");
        return;
    }
    let listed = fs::read_to_string(&list).expect("the list can be read");
    assert_eq!(
        listed, lines,
        "the public API has changed; if that is meant, `make bless` lists it"
    );
}
