//! Splits a file into its statements with an SQL lexer, and recognizes those that PostgreSQL only runs outside a
//! transaction.

use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::tokenizer::{Location, Token, Tokenizer};

use crate::migrations::error::LoadError;

/// The first line of a file that runs statement by statement, outside a transaction.
pub const NO_TRANSACTION: &str = "-- rowhouse: no-transaction";

const NEEDS_NO_TRANSACTION: &str = "it cannot run in a transaction; begin the file with the line \
                                    `-- rowhouse: no-transaction`";
const UNNAMED: &str = "an index that is created CONCURRENTLY needs a name, by which the invalid index of a \
                       failed attempt is found and dropped";
const QUALIFIED: &str = "the name must not be qualified with a schema: each tenant has its own";
const UNSUPPORTED: &str = "of the statements that cannot run in a transaction, only CREATE INDEX CONCURRENTLY \
                           and DROP INDEX CONCURRENTLY are supported: no other could be resumed after an \
                           interruption";
const SEVERAL: &str = "DROP INDEX CONCURRENTLY takes one index at a time";

/// A statement of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Statement {
    /// Its text, without the semicolon.
    pub(crate) text: String,
    /// The line where it begins, from 1.
    pub(crate) line: u64,
    /// Its tokens as words in upper case; empty for a quoted name and for any token that is not a word.
    pub(crate) words: Vec<String>,
    pub(crate) kind: Kind,
}

/// How a statement runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    /// In a transaction.
    Ordinary,
    /// Outside a transaction. Interrupted, it leaves an invalid index behind.
    CreateIndex {
        /// The index's name in the catalog.
        index: String,
    },
    /// Outside a transaction.
    DropIndex {
        /// The index's name in the catalog.
        index: String,
    },
}

/// Whether a file declares that it runs outside a transaction.
pub(crate) fn is_non_transactional(sql: &str) -> bool {
    sql.lines().next().is_some_and(|line| line.trim() == NO_TRANSACTION)
}

/// A token of a statement.
struct Word {
    /// In upper case; empty unless it is an unquoted word.
    upper: String,
    /// As the catalog would store it, if it is a name; `.` and `,` too.
    name: Option<String>,
    /// The offset in the file, in characters.
    at: usize,
    len: usize,
}

/// Splits a file into statements, without empty ones.
///
/// # Errors
/// Text that is not valid SQL; a statement that cannot run as the file declares.
pub(crate) fn split(file: &str, sql: &str) -> Result<Vec<Statement>, LoadError> {
    let is_non_transactional = is_non_transactional(sql);
    let mut statements = Vec::new();
    for part in parts(file, sql)? {
        let refused = |reason| LoadError::Refused {
            file: file.to_owned(),
            line: part.line,
            statement: part
                .words
                .iter()
                .take(4)
                .map(|w| w.upper.as_str())
                .collect::<Vec<_>>()
                .join(" "),
            reason,
        };
        let kind = kind(&part.words).map_err(refused)?;
        if !is_non_transactional && kind != Kind::Ordinary {
            return Err(refused(NEEDS_NO_TRANSACTION));
        }
        let words = part.words.into_iter().map(|word| word.upper).collect();
        statements.push(Statement { text: part.text, line: part.line, words, kind });
    }
    Ok(statements)
}

/// Returns the text as it runs in a transaction, on tables that no other session sees yet: without `CONCURRENTLY`.
/// Blanks replace the word, so that every line and column stays the same.
pub(crate) fn without_concurrently(file: &str, sql: &str) -> Result<String, LoadError> {
    let mut text: Vec<char> = sql.chars().collect();
    for part in parts(file, sql)? {
        if kind(&part.words).is_ok_and(|kind| kind != Kind::Ordinary) {
            for word in part.words.iter().filter(|word| word.upper == "CONCURRENTLY").take(1) {
                text.iter_mut().skip(word.at).take(word.len).for_each(|c| *c = ' ');
            }
        }
    }
    Ok(text.into_iter().collect())
}

struct Part {
    text: String,
    line: u64,
    words: Vec<Word>,
}

fn parts(file: &str, sql: &str) -> Result<Vec<Part>, LoadError> {
    let tokens = Tokenizer::new(&PostgreSqlDialect {}, sql)
        .tokenize_with_location()
        .map_err(|error| LoadError::Syntax { file: file.to_owned(), reason: error.to_string() })?;
    let chars: Vec<char> = sql.chars().collect();
    let lines = line_starts(&chars);
    let offset = |at: Location| {
        let line = usize::try_from(at.line).unwrap_or(1).max(1);
        let column = usize::try_from(at.column).unwrap_or(1).max(1);
        lines.get(line - 1).copied().unwrap_or(chars.len()) + column - 1
    };
    let mut parts = Vec::new();
    let mut open = Part { text: String::new(), line: 0, words: Vec::new() };
    let mut end = 0; // of the current part
    let mut body = 0_usize; // depth inside a BEGIN ATOMIC body, whose semicolons do not end the statement
    for token in tokens {
        let (at, after) = (offset(token.span.start), offset(token.span.end));
        let bare = match &token.token {
            Token::Whitespace(_) | Token::EOF => continue,
            Token::SemiColon if body == 0 => {
                close(&mut parts, &mut open, &chars, end);
                continue;
            }
            Token::Word(word) if word.quote_style.is_none() => word.value.to_ascii_uppercase(),
            _ => String::new(),
        };
        if open.words.is_empty() {
            open.line = token.span.start.line;
        }
        let last = open.words.last().map(|word: &Word| word.upper.as_str());
        body = match (body, bare.as_str(), last) {
            (0, "ATOMIC", Some("BEGIN")) => 1,
            (0, ..) => 0,
            (depth, "CASE", _) => depth + 1,
            (depth, "END", _) => depth - 1,
            (depth, ..) => depth,
        };
        let name = match token.token {
            Token::Word(word) if word.quote_style.is_some() => Some(word.value),
            Token::Word(word) => Some(word.value.to_lowercase()),
            Token::Period => Some(".".to_owned()),
            Token::Comma => Some(",".to_owned()),
            _ => None,
        };
        open.words.push(Word { upper: bare, name, at, len: after.saturating_sub(at) });
        end = after;
    }
    close(&mut parts, &mut open, &chars, end);
    Ok(parts)
}

fn close(parts: &mut Vec<Part>, open: &mut Part, chars: &[char], end: usize) {
    let part = std::mem::replace(open, Part { text: String::new(), line: 0, words: Vec::new() });
    if let Some(first) = part.words.first() {
        let text = chars.get(first.at..end.min(chars.len())).unwrap_or_default().iter().collect();
        parts.push(Part { text, ..part });
    }
}

/// The offset of each line, in characters.
fn line_starts(chars: &[char]) -> Vec<usize> {
    let breaks = chars.iter().enumerate().filter(|(_, c)| **c == '\n').map(|(at, _)| at + 1);
    std::iter::once(0).chain(breaks).collect()
}

/// Returns the kind of a statement, or why it is refused.
fn kind(words: &[Word]) -> Result<Kind, &'static str> {
    let upper: Vec<&str> = words.iter().map(|word| word.upper.as_str()).collect();
    match upper.as_slice() {
        ["CREATE", "UNIQUE", "INDEX", "CONCURRENTLY", ..] => created(words, 4),
        ["CREATE", "INDEX", "CONCURRENTLY", ..] => created(words, 3),
        ["DROP", "INDEX", "CONCURRENTLY", rest @ ..] => {
            let at = if let ["IF", "EXISTS", ..] = rest { 5 } else { 3 };
            let index = name(words, at)?;
            if words.iter().any(|word| word.name.as_deref() == Some(",")) {
                return Err(SEVERAL);
            }
            Ok(Kind::DropIndex { index })
        }
        ["VACUUM" | "CLUSTER", ..]
        | ["CREATE" | "DROP", "DATABASE" | "TABLESPACE" | "SUBSCRIPTION", ..]
        | ["ALTER", "SYSTEM", ..] => Err(UNSUPPORTED),
        ["REINDEX" | "ALTER", ..] if upper.contains(&"CONCURRENTLY") => Err(UNSUPPORTED),
        _ => Ok(Kind::Ordinary),
    }
}

fn created(words: &[Word], after: usize) -> Result<Kind, &'static str> {
    let starts_if = words.get(after).is_some_and(|word| word.upper == "IF");
    let at = if starts_if { after + 3 } else { after };
    if words.get(at).is_none_or(|word| word.upper == "ON") {
        return Err(UNNAMED);
    }
    Ok(Kind::CreateIndex { index: name(words, at)? })
}

/// Returns the unqualified name at a position.
fn name(words: &[Word], at: usize) -> Result<String, &'static str> {
    if words.get(at + 1).is_some_and(|word| word.name.as_deref() == Some(".")) {
        return Err(QUALIFIED);
    }
    words.get(at).and_then(|word| word.name.clone()).ok_or(UNNAMED)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn non_transactional(sql: &str) -> String {
        format!("{NO_TRANSACTION}\n{sql}")
    }

    #[test]
    fn a_file_is_split_at_the_semicolons_between_statements_only() {
        let sql = "CREATE TABLE t (a text DEFAULT ';');\n-- a ; comment\n\nINSERT INTO t VALUES ('é;x') ;;\n\
                   CREATE FUNCTION f() RETURNS int LANGUAGE sql AS $$ SELECT 1; $$";
        let cut = split("V1__x.sql", sql).unwrap();
        let texts: Vec<_> = cut.iter().map(|s| (s.line, s.text.as_str())).collect();
        assert_eq!(
            texts,
            [
                (1, "CREATE TABLE t (a text DEFAULT ';')"),
                (4, "INSERT INTO t VALUES ('é;x')"),
                (5, "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS $$ SELECT 1; $$"),
            ]
        );
    }

    #[test]
    fn a_non_transactional_statement_is_recognized_with_its_index() {
        for (sql, kind) in [
            (
                "CREATE INDEX CONCURRENTLY Notes_Idx ON notes (a)",
                Kind::CreateIndex { index: "notes_idx".to_owned() },
            ),
            (
                "create unique index concurrently if not exists \"A b\" on t (a)",
                Kind::CreateIndex { index: "A b".to_owned() },
            ),
            ("DROP INDEX CONCURRENTLY IF EXISTS i", Kind::DropIndex { index: "i".to_owned() }),
            ("ALTER TABLE t ADD COLUMN concurrently_made int", Kind::Ordinary),
            ("REFRESH MATERIALIZED VIEW CONCURRENTLY v", Kind::Ordinary),
            ("INSERT INTO t VALUES ('CREATE INDEX CONCURRENTLY')", Kind::Ordinary),
        ] {
            assert_eq!(split("V1__x.sql", &non_transactional(sql)).unwrap()[0].kind, kind, "{sql}");
        }
    }

    #[test]
    fn a_statement_that_cannot_be_resumed_is_refused_with_a_reason() {
        for (sql, words) in [
            ("CREATE INDEX CONCURRENTLY i ON t (a)".to_owned(), "begin the file with the line"),
            ("DROP INDEX CONCURRENTLY i".to_owned(), "begin the file with the line"),
            (non_transactional("CREATE INDEX CONCURRENTLY ON t (a)"), "needs a name"),
            (non_transactional("DROP INDEX CONCURRENTLY a.i"), "must not be qualified"),
            (non_transactional("DROP INDEX CONCURRENTLY a, b"), "one index at a time"),
            (non_transactional("VACUUM t"), "are supported"),
            (non_transactional("REINDEX TABLE CONCURRENTLY t"), "are supported"),
            (non_transactional("ALTER TABLE t DETACH PARTITION p CONCURRENTLY"), "are supported"),
        ] {
            let error = split("V1__x.sql", &sql).unwrap_err().to_string();
            assert!(error.contains(words), "{sql}: {error}");
        }
    }

    #[test]
    fn in_a_transaction_the_word_is_blank_and_every_position_stays() {
        let sql = non_transactional(
            "/* CONCURRENTLY */ CREATE INDEX concurrently i ON t (concurrently);\nSELECT 'é CONCURRENTLY'",
        );
        let plain = without_concurrently("V1__x.sql", &sql).unwrap();
        assert_eq!(
            plain,
            non_transactional(
                "/* CONCURRENTLY */ CREATE INDEX              i ON t (concurrently);\nSELECT 'é CONCURRENTLY'"
            )
        );
    }
}
