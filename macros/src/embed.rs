//! Reads a folder while the program is compiled.

use std::fs;
use std::path::{Path, PathBuf};

use proc_macro::{TokenStream, TokenTree};

/// How deep folders within the folder are listed, so that a migration in one of them is refused and not passed over.
const DEPTH: usize = 8;

pub(crate) fn folder(input: TokenStream) -> TokenStream {
    expand(input).unwrap_or_else(|problem| format!("::core::compile_error!({problem:?})")).parse().unwrap_or_default()
}

fn expand(input: TokenStream) -> Result<String, String> {
    let name = literal(input)?;
    let base = std::env::var_os("CARGO_MANIFEST_DIR").ok_or("CARGO_MANIFEST_DIR is not set")?;
    let folder = PathBuf::from(base).join(&name);
    let mut entries = Vec::new();
    list(&folder, "", DEPTH, &mut entries).map_err(|error| {
        format!("cannot read the migrations in {}: {error}", folder.display())
    })?;
    entries.sort();
    let entries = entries.into_iter().map(|(name, path)| match path {
        Some(path) => format!("({name:?}, ::core::include_bytes!({path:?}) as &[u8]),"),
        None => format!("({name:?}, &[] as &[u8]),"),
    });
    Ok(format!("&[{}]", entries.collect::<String>()))
}

/// Returns the text of the one string literal.
fn literal(input: TokenStream) -> Result<String, String> {
    let expected = "expected the folder as a string, such as \"tenant_migrations\"";
    let mut tokens = input.into_iter();
    let (Some(first), None) = (tokens.next(), tokens.next()) else { return Err(expected.to_owned()) };
    unquoted(first).ok_or_else(|| expected.to_owned())
}

fn unquoted(token: TokenTree) -> Option<String> {
    match token {
        TokenTree::Literal(literal) => {
            let text = literal.to_string();
            Some(text.strip_prefix('"')?.strip_suffix('"')?.to_owned())
        }
        // A literal that another macro has passed on.
        TokenTree::Group(group) => {
            let mut inner = group.stream().into_iter();
            match (inner.next(), inner.next()) {
                (Some(token), None) => unquoted(token),
                _ => None,
            }
        }
        _ => None,
    }
}

/// Lists the files, each with its path; those of folders within the folder without one.
fn list(
    folder: &Path,
    prefix: &str,
    depth: usize,
    entries: &mut Vec<(String, Option<String>)>,
) -> std::io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        if name.starts_with('.') {
            continue;
        }
        let name = format!("{prefix}{name}");
        if path.is_dir() {
            if depth > 1 {
                list(&path, &format!("{name}/"), depth - 1, entries)?;
            }
        } else {
            let text = path.to_str().map(str::to_owned).filter(|_| prefix.is_empty());
            entries.push((name, text));
        }
    }
    Ok(())
}
