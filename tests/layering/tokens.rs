//! Reads attributes, inline modules and paths off tokens.

use proc_macro2::{Delimiter, TokenTree};

use super::CRATE;

pub(crate) struct Attribute {
    pub(crate) tokens: Vec<TokenTree>,
    /// `#![..]`: applies to everything after it.
    pub(crate) is_inner: bool,
    pub(crate) is_test: bool,
    /// The number of its tokens, including the `#`.
    pub(crate) length: usize,
}

pub(crate) fn attribute_at(tokens: &[TokenTree], at: usize) -> Option<Attribute> {
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
pub(crate) fn inline_module_at(tokens: &[TokenTree], at: usize) -> Option<String> {
    let [TokenTree::Ident(keyword), TokenTree::Ident(name), TokenTree::Group(_)] =
        tokens.get(at.checked_sub(2)?..=at)?
    else {
        return None;
    };
    (keyword == "mod").then(|| name.to_string())
}

/// The paths that start at `at`, relative to the crate's root, and the token after them. A group makes
/// more than one: `crate::{pg, auth::token}`.
pub(crate) fn path_at(
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
pub(crate) fn follow(
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

pub(crate) fn is_punct(token: Option<&TokenTree>, wanted: char) -> bool {
    matches!(token, Some(TokenTree::Punct(punct)) if punct.as_char() == wanted)
}

fn is_separator(tokens: &[TokenTree], at: usize) -> bool {
    is_punct(tokens.get(at), ':') && is_punct(tokens.get(at + 1), ':')
}

/// Whether the word occurs in the tokens, including nested groups.
pub(crate) fn mentions(tokens: &[TokenTree], word: &str) -> bool {
    tokens.iter().any(|token| match token {
        TokenTree::Ident(ident) => ident == word,
        TokenTree::Group(group) => mentions(&group.stream().into_iter().collect::<Vec<_>>(), word),
        _ => false,
    })
}

/// The literals in the tokens, including nested groups, each as written.
pub(crate) fn texts(tokens: &[TokenTree]) -> Vec<String> {
    let of = |token: &TokenTree| match token {
        TokenTree::Literal(text) => vec![text.to_string()],
        TokenTree::Group(group) => texts(&group.stream().into_iter().collect::<Vec<_>>()),
        _ => Vec::new(),
    };
    tokens.iter().flat_map(of).collect()
}
