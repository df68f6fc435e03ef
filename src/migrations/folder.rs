//! Reads a folder of migrations. No SQL file is passed over in silence: each is taken, or refused by its name with the
//! reason.

use std::fs;
use std::io;
use std::path::Path;

use crate::migrations::error::{LoadError, Refusal};
use crate::migrations::file::File;

const FORM: &str = "a migration is named V<number>__<what_it_does>.sql, a repeatable one R__<what_it_makes>.sql; rename it";
const NO_EXTENSION: &str = "it is named like a migration, and is not read, because its name does not end in .sql; rename or delete it";
const LEFT_OVER: &str = "it is not read, because its name does not end in .sql; move it out of the folder, or rename it";
const SUBFOLDER: &str =
    "folders within the folder are not read; move the file up, or out of the folder";
const UNDO: &str =
    "a migration is not undone by another file; delete it, and write a new migration where needed";
const REPEATABLE: &str = "a repeatable file has no number: R__<what_it_makes>.sql; rename it";
const UTF_16: &str = "it is UTF-16; save it as UTF-8";

/// How deep folders within the folder are searched for files that would be passed over.
const DEPTH: usize = 8;

/// Reads the files of a folder; what is wrong with their names or encodings is added to `refusals`.
pub(super) fn read(folder: &Path, refusals: &mut Vec<Refusal>) -> Result<Vec<File>, LoadError> {
    let unreadable = |source: io::Error| LoadError::unreadable(folder, &source);
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        let Some(file) = path.file_name().map(|name| name.to_string_lossy().into_owned()) else {
            continue;
        };
        if file.starts_with('.') {
            continue;
        }
        if path.is_dir() {
            refuse_within(&path, &file, DEPTH, refusals);
            continue;
        }
        let bytes = || {
            fs::read(&path)
                .map_err(|error| Refusal::of_file(&file, format!("it cannot be read: {error}")))
        };
        files.extend(take(&file, bytes, refusals));
    }
    Ok(files)
}

/// Takes files that were read before; a name with a slash is that of a file in a folder within the folder.
pub(super) fn of_entries(entries: &[(&str, &[u8])], refusals: &mut Vec<Refusal>) -> Vec<File> {
    let mut files = Vec::new();
    for (name, bytes) in entries {
        match name.rsplit_once('/') {
            None => files.extend(take(name, || Ok(bytes.to_vec()), refusals)),
            Some((_, file)) if matches!(classify(file), Entry::Other) => {}
            Some(_) => refusals.push(Refusal::of_file(name, SUBFOLDER)),
        }
    }
    files
}

/// Takes a file, or refuses it; none if it is no migration.
fn take(
    file: &str,
    bytes: impl FnOnce() -> Result<Vec<u8>, Refusal>,
    refusals: &mut Vec<Refusal>,
) -> Option<File> {
    let taken = match classify(file) {
        Entry::Other => return None,
        Entry::Refused(reason) => Err(Refusal::of_file(file, reason)),
        Entry::Versioned { version, name } => bytes()
            .and_then(|bytes| text(file, bytes))
            .map(|text| File::versioned(stem(file), version, name, text)),
        Entry::Repeatable { name } => bytes()
            .and_then(|bytes| text(file, bytes))
            .map(|text| File::repeatable(stem(file), name, text)),
    };
    taken.map_err(|refusal| refusals.push(refusal)).ok()
}

fn stem(file: &str) -> &str {
    file.strip_suffix(".sql").unwrap_or(file)
}

/// Refuses the SQL files in a folder within the folder.
fn refuse_within(folder: &Path, name: &str, depth: usize, refusals: &mut Vec<Refusal>) {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) => {
            let message = format!("the folder cannot be searched for migrations: {error}");
            return refusals.push(Refusal::of_file(name, message));
        }
    };
    for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
        let Some(file) = path.file_name().map(|file| file.to_string_lossy().into_owned()) else {
            continue;
        };
        let inner = format!("{name}/{file}");
        if file.starts_with('.') {
            continue;
        }
        if path.is_dir() {
            if depth > 1 {
                refuse_within(&path, &inner, depth - 1, refusals);
            }
        } else if !matches!(classify(&file), Entry::Other) {
            refusals.push(Refusal::of_file(&inner, SUBFOLDER));
        }
    }
}

/// What a file is, by its name.
#[derive(Debug, PartialEq, Eq)]
enum Entry<'a> {
    Versioned {
        version: i32,
        name: &'a str,
    },
    Repeatable {
        name: &'a str,
    },
    Refused(String),
    /// Not a migration, and not like one.
    Other,
}

fn classify(file: &str) -> Entry<'_> {
    let refused = |reason: &str| Entry::Refused(reason.to_owned());
    let lower = file.to_ascii_lowercase();
    let has =
        |text: &str, ending: &str| text.rsplit_once('.').is_some_and(|(_, last)| last == ending);
    if !has(&lower, "sql") {
        return if is_like_one(&lower) {
            refused(NO_EXTENSION)
        } else if lower.contains(".sql") {
            refused(LEFT_OVER)
        } else {
            Entry::Other
        };
    }
    let Some(stem) = file.strip_suffix(".sql") else {
        let renamed = file.get(..file.len() - 4).unwrap_or_default();
        return Entry::Refused(format!("write the extension in small letters: {renamed}.sql"));
    };
    if has(stem, "down") || has(stem, "undo") {
        return refused(UNDO);
    }
    let Some((prefix, name)) = stem.split_once("__") else { return refused(FORM) };
    let number = prefix.get(1..).unwrap_or_default();
    let is_number = !number.is_empty() && number.bytes().all(|digit| digit.is_ascii_digit());
    match prefix.chars().next() {
        Some('U') if is_number => return refused(UNDO),
        Some('R') if is_number => return refused(REPEATABLE),
        Some('R') if number.is_empty() => {}
        Some('V') if is_number => {}
        _ => return refused(FORM),
    }
    if name.is_empty() || !name.chars().all(is_word) {
        let plain = name.strip_suffix(".up").unwrap_or(name);
        let plain: String = plain.chars().map(|c| if is_word(c) { c } else { '_' }).collect();
        return Entry::Refused(if plain.is_empty() {
            FORM.to_owned()
        } else {
            format!(
                "a name holds letters, digits and underscores only; rename it, to {prefix}__{plain}.sql for example"
            )
        });
    }
    if prefix == "R" {
        return Entry::Repeatable { name };
    }
    match number.parse() {
        Ok(version) if version >= 0 => Entry::Versioned { version, name },
        _ => Entry::Refused(format!("its number must not be above {}; rename it", i32::MAX)),
    }
}

/// Whether a name may have this character: what refinery takes as part of a word.
fn is_word(c: char) -> bool {
    let is_mark = ('\u{300}'..='\u{36f}').contains(&c);
    c.is_alphabetic() || c.is_ascii_digit() || c == '_' || is_mark
}

/// Whether a name, in small letters, begins as that of a migration does: `V1__`, `R__`, `U1__`.
fn is_like_one(lower: &str) -> bool {
    let Some((prefix, _)) = lower.split_once("__") else { return false };
    let number = prefix.trim_start_matches(['v', 'r', 'u']);
    prefix.len() == number.len() + 1 && number.bytes().all(|digit| digit.is_ascii_digit())
}

/// Reads the text of a file, without a byte order mark.
fn text(file: &str, bytes: Vec<u8>) -> Result<String, Refusal> {
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        return Err(Refusal::of_file(file, UTF_16));
    }
    let mut text = String::from_utf8(bytes).map_err(|error| {
        let (at, bytes) = (error.utf8_error().valid_up_to(), error.as_bytes());
        let before = bytes.get(..at).unwrap_or_default();
        let line = before.split(|byte| *byte == b'\n').count();
        let byte = bytes.get(at).copied().unwrap_or_default();
        let message = format!(
            "it is not UTF-8: byte {} of the file is 0x{byte:02x}; save it as UTF-8",
            at + 1
        );
        Refusal::at_line(file, line, message)
    })?;
    if text.starts_with('\u{feff}') {
        text.drain(..'\u{feff}'.len_utf8());
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_taken_or_refused_with_the_reason() {
        let versioned = |version, name| Entry::Versioned { version, name };
        assert_eq!(classify("V1__create_notes.sql"), versioned(1, "create_notes"));
        assert_eq!(classify("V0012__Été_2.sql"), versioned(12, "Été_2"));
        assert_eq!(classify("V20261128__x.sql"), versioned(20_261_128, "x"));
        assert_eq!(classify("R__views.sql"), Entry::Repeatable { name: "views" });
        for (file, words) in [
            ("V2__tags.SQL", "small letters: V2__tags.sql"),
            ("V2__tags.Sql", "small letters: V2__tags.sql"),
            ("V2__add-tags.sql", "to V2__add_tags.sql for example"),
            ("V2__add tags.sql", "to V2__add_tags.sql for example"),
            ("V2__add.tags.sql", "to V2__add_tags.sql for example"),
            ("V2__tags.up.sql", "to V2__tags.sql for example"),
            ("V2__tags.down.sql", "is not undone"),
            ("U2__tags.sql", "is not undone"),
            ("R2__tags.sql", "has no number"),
            ("V2_tags.sql", "V<number>__"),
            ("V2__.sql", "V<number>__"),
            ("v2__tags.sql", "V<number>__"),
            ("V1.2__tags.sql", "V<number>__"),
            ("V__tags.sql", "V<number>__"),
            ("0002_tags.sql", "V<number>__"),
            ("2024-01-01-tags.sql", "V<number>__"),
            ("tags.sql", "V<number>__"),
            (".sql", "V<number>__"),
            ("V20261128120000__tags.sql", "above 2147483647"),
            ("V2__tags.sql~", "does not end in .sql"),
            ("V2__tags.sql.bak", "does not end in .sql"),
            ("tags.sql.orig", "does not end in .sql"),
            ("V2__tags.txt", "does not end in .sql"),
            ("V2__tags", "does not end in .sql"),
            ("r__views.txt", "does not end in .sql"),
        ] {
            match classify(file) {
                Entry::Refused(reason) => assert!(reason.contains(words), "{file}: {reason}"),
                other => panic!("{file}: {other:?}"),
            }
        }
        for file in ["README.md", "lint.allow", "drift.allow", "Makefile", "vacuum__x", "mod.rs"] {
            assert_eq!(classify(file), Entry::Other, "{file}");
        }
    }
}
