//! The pieces of a file as they are sent to the server, and what else the runner asks of the files.

use std::ops::Range;

use crate::migrations::lexer::Token;
use crate::migrations::splitter::{self, Pieces, tokens};
use crate::migrations::statements::{Kind, Statement};
use crate::migrations::{File, MigrationSet, Pending};

/// A piece of a file as it is sent to the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Piece<'a> {
    /// Statements that are sent in one message.
    Statements {
        sql: &'a str,
        /// The line where the text begins in the file, from 1.
        line: usize,
    },
    /// `COPY .. FROM stdin`.
    Rows {
        /// The statement, without its semicolon.
        copy: &'a str,
        /// Its rows, without the line `\.` that ends them.
        rows: &'a str,
        /// The line of the statement, from 1.
        line: usize,
    },
}

/// What a file could leave behind in its session or transaction, by a word in its text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mention {
    /// Prepared statements.
    Prepare,
    /// Constraints that are checked at the end of the transaction.
    Deferrable,
    /// Savepoints.
    Savepoint,
    /// Temporary tables.
    Temporary,
    /// Cursors, which are open until the transaction ends, or longer.
    Cursor,
    /// Notifications.
    Listen,
    /// Advisory locks.
    AdvisoryLock,
}

impl Mention {
    const ALL: [Self; 7] = [
        Self::Prepare,
        Self::Deferrable,
        Self::Savepoint,
        Self::Temporary,
        Self::Cursor,
        Self::Listen,
        Self::AdvisoryLock,
    ];

    /// Whether a word, in upper case, mentions it.
    fn is_in(self, word: &str) -> bool {
        match self {
            Self::Prepare => word == "PREPARE",
            Self::Deferrable => word.starts_with("DEFERR"),
            Self::Savepoint => word == "SAVEPOINT",
            Self::Temporary => ["TEMP", "TEMPORARY", "PG_TEMP"].contains(&word),
            Self::Cursor => word.ends_with("CURSOR"),
            Self::Listen => word == "LISTEN",
            Self::AdvisoryLock => word.contains("ADVISORY"),
        }
    }
}

/// For each of [`Mention::ALL`], whether it is there.
pub(super) type Mentions = [bool; Mention::ALL.len()];

/// The longest word that can be a [`Mention`].
const LONGEST_MENTION: usize = 32;

/// What is known of a file from its text.
#[derive(Debug, Clone, Default)]
pub(super) struct Facts {
    /// Its pieces, if it has any statement.
    pieces: Vec<Cut>,
    /// `CREATE EXTENSION IF NOT EXISTS .. SCHEMA extensions`: the name and the statement.
    extensions: Vec<(String, String)>,
}

/// Where a piece is in its file.
#[derive(Debug, Clone)]
struct Cut {
    text: Range<usize>,
    rows: Option<Range<usize>>,
    line: usize,
}

impl Facts {
    /// Reads a file that was split into these statements.
    pub(super) fn of(sql: &str, statements: &[Statement]) -> Self {
        Self {
            pieces: cut(sql, statements),
            extensions: statements.iter().filter_map(|each| extension(each.text(sql))).collect(),
        }
    }
}

impl MigrationSet {
    /// The pieces of a file, in order, as they run in a transaction.
    pub(crate) fn pieces(&self, at: usize) -> Vec<Piece<'_>> {
        let text = match &self.non_transactional[at] {
            Some(non_transactional) => non_transactional.transactional_sql.as_str(),
            None => self.migrations[at].sql(),
        };
        let of = |range: &Range<usize>| text.get(range.clone()).unwrap_or_default();
        let piece = |cut: &Cut| match &cut.rows {
            Some(rows) => Piece::Rows { copy: of(&cut.text), rows: of(rows), line: cut.line },
            None => Piece::Statements { sql: of(&cut.text), line: cut.line },
        };
        self.facts[at].pieces.iter().map(piece).collect()
    }

    /// Whether one of these files has rows of `COPY`. Such a file cannot be joined with others in one message.
    pub(crate) fn has_rows(&self, files: &Pending) -> bool {
        files.0.iter().any(|at| self.facts[*at].pieces.iter().any(|cut| cut.rows.is_some()))
    }

    /// The line, from 1, of the n-th statement of a text, from 0, and its first line.
    pub(crate) fn nth_statement(sql: &str, n: usize) -> Option<(usize, String)> {
        let mut pieces = Pieces::new(sql);
        let piece = std::iter::from_fn(|| pieces.next_piece().ok().flatten()).nth(n)?;
        Self::line_and_beginning(sql, piece)
    }

    /// The line, from 1, of the statement of a text at an offset in bytes, and its first line.
    pub(crate) fn statement_at(sql: &str, offset: usize) -> Option<(usize, String)> {
        let mut pieces = Pieces::new(sql);
        let all = std::iter::from_fn(|| pieces.next_piece().ok().flatten());
        let piece = all.take_while(|piece| piece.range.start <= offset).last()?;
        Self::line_and_beginning(sql, piece)
    }

    fn line_and_beginning(sql: &str, piece: splitter::Piece) -> Option<(usize, String)> {
        let first = sql.get(piece.range)?.lines().next().unwrap_or_default();
        Some((piece.line, first.chars().take(80).collect()))
    }

    /// Whether a word occurs in some file, in any letter case, also within bodies, strings and comments.
    pub(crate) fn mentions(&self, word: Mention) -> bool {
        // Read when a file is to run, which is at few starts.
        let found = self.mentions.get_or_init(|| mentions(self.migrations.iter().map(File::sql)));
        found.get(word as usize) == Some(&true)
    }

    /// The statements of a file that create extensions in the schema `extensions`. The owner runs them before the file,
    /// which then finds the extensions there.
    pub(crate) fn extensions(&self, at: usize) -> impl Iterator<Item = &str> {
        self.facts[at].extensions.iter().map(|(_, statement)| statement.as_str())
    }
}

/// Cuts a file at its rows.
fn cut(sql: &str, statements: &[Statement]) -> Vec<Cut> {
    let mut pieces = Vec::new();
    let (mut begin, mut line, mut is_empty) = (0, 1, true);
    for statement in statements {
        let Kind::CopyIn { rows } = &statement.kind else {
            is_empty = false;
            continue;
        };
        let text = statement.range.clone();
        if !is_empty {
            pieces.push(Cut { text: begin..text.start, rows: None, line });
        }
        pieces.push(Cut { text, rows: Some(rows.clone()), line: statement.line });
        begin = after_line(sql, rows.end);
        line = statement.line + lines_in(sql, statement.range.start..begin);
        is_empty = true;
    }
    if !is_empty {
        pieces.push(Cut { text: begin..sql.len(), rows: None, line });
    }
    pieces
}

/// The position behind the line that begins at `at`.
fn after_line(sql: &str, at: usize) -> usize {
    let rest = sql.get(at..).unwrap_or_default();
    rest.find('\n').map_or(sql.len(), |end| at + end + 1)
}

fn lines_in(sql: &str, range: Range<usize>) -> usize {
    sql.get(range).unwrap_or_default().matches('\n').count()
}

/// For each of [`Mention::ALL`], whether a word of one of the texts mentions it.
fn mentions<'a>(texts: impl Iterator<Item = &'a str>) -> Mentions {
    let mut found = Mentions::default();
    let words = texts.flat_map(|sql| sql.split(|c: char| !c.is_alphanumeric() && c != '_'));
    for word in words.filter(|word| (4..=LONGEST_MENTION).contains(&word.len())) {
        let word = word.to_ascii_uppercase();
        for (found, mention) in found.iter_mut().zip(Mention::ALL) {
            *found |= mention.is_in(&word);
        }
    }
    found
}

/// Returns the extension that a statement creates in the schema `extensions`, if it is
/// `CREATE EXTENSION IF NOT EXISTS .. SCHEMA extensions`.
pub(super) fn extension(text: &str) -> Option<(String, String)> {
    let tokens: Vec<Token> = tokens(text).take(12).collect();
    let has = |at: usize, word: &str| tokens.get(at).is_some_and(|token| token.is(text, word));
    let begins = ["CREATE", "EXTENSION", "IF", "NOT", "EXISTS"];
    if !begins.iter().enumerate().all(|(at, word)| has(at, word)) {
        return None;
    }
    let name = tokens.get(5)?.name(text)?;
    let is_there = tokens.windows(2).skip(6).any(|pair| {
        pair[0].is(text, "SCHEMA") && pair[1].name(text).is_some_and(|name| name == "extensions")
    });
    is_there.then(|| (name, text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_one_piece_unless_it_has_rows() {
        let sql = "CREATE TABLE t (a int);\n\nCOPY t FROM stdin;\n1\n\\.\n-- behind\nSELECT 1;\n\
                   COPY t FROM stdin;\n\\.\n\n-- the end\n";
        let marked = "-- rowhouse: no-transaction\nCREATE INDEX CONCURRENTLY i ON t (a);\n";
        let set = MigrationSet::of(&[
            ("V1__a", "SELECT 1;\nSELECT 2"),
            ("V2__b", sql),
            ("V3__c", "-- none"),
            ("V4__d", marked),
        ]);
        assert_eq!(set.pieces(0), [Piece::Statements { sql: "SELECT 1;\nSELECT 2", line: 1 }]);
        assert_eq!(
            set.pieces(1),
            [
                Piece::Statements { sql: "CREATE TABLE t (a int);\n\n", line: 1 },
                Piece::Rows { copy: "COPY t FROM stdin", rows: "1\n", line: 3 },
                Piece::Statements { sql: "-- behind\nSELECT 1;\n", line: 6 },
                Piece::Rows { copy: "COPY t FROM stdin", rows: "", line: 8 },
            ]
        );
        assert_eq!(set.pieces(2), []);
        let plain = marked.replace("CONCURRENTLY", "            ");
        assert_eq!(set.pieces(3), [Piece::Statements { sql: &plain, line: 1 }]);
        let has_rows = |files: &[usize]| set.has_rows(&Pending(files.to_vec()));
        assert_eq!([has_rows(&[]), has_rows(&[0, 2]), has_rows(&[0, 1])], [false, false, true]);
    }

    #[test]
    fn the_statement_that_failed_is_named_by_its_number() {
        let sql = "SELECT 1;\n-- two\n\nSELECT\n  2; ; SELECT 3";
        let nth = |n| MigrationSet::nth_statement(sql, n);
        assert_eq!(nth(0), Some((1, "SELECT 1".to_owned())));
        assert_eq!(nth(1), Some((4, "SELECT".to_owned())));
        assert_eq!(nth(2), Some((5, "SELECT 3".to_owned())));
        assert_eq!(nth(3), None);
        let long = format!("SELECT '{}'", "é".repeat(100));
        let (_, first) = MigrationSet::nth_statement(&long, 0).unwrap();
        assert_eq!(first.chars().count(), 80);
    }

    #[test]
    fn the_statement_that_failed_is_named_by_its_place() {
        let sql = "SELECT 1;\n-- two\n\nSELECT\n  'é' FROM; ; SELECT 3";
        let at = |text: &str| MigrationSet::statement_at(sql, sql.find(text).unwrap());
        assert_eq!(at("1;"), Some((1, "SELECT 1".to_owned())));
        assert_eq!(at("FROM"), Some((4, "SELECT".to_owned())));
        assert_eq!(at("3"), Some((5, "SELECT 3".to_owned())));
    }

    #[test]
    fn words_are_found_in_bodies_and_strings_and_not_within_other_words() {
        for (sql, prepare, deferrable) in [
            ("SELECT 1", false, false),
            ("PREPARE q AS SELECT 1", true, false),
            ("DO $$ BEGIN EXECUTE 'prepare q AS SELECT 1'; END $$", true, false),
            ("CREATE TABLE prepared (unprepare int, prepare_2 int)", false, false),
            ("ALTER TABLE t ADD UNIQUE (a) Deferrable", false, true),
            ("SET CONSTRAINTS ALL DEFERRED", false, true),
            ("SELECT undeferred", false, false),
        ] {
            let set = MigrationSet::of(&[("V1__a", "SELECT 1"), ("V2__b", sql)]);
            let found = (set.mentions(Mention::Prepare), set.mentions(Mention::Deferrable));
            assert_eq!(found, (prepare, deferrable), "{sql}");
        }
    }

    #[test]
    fn extensions_are_those_that_are_created_in_their_schema() {
        for (sql, name) in [
            ("CREATE EXTENSION IF NOT EXISTS citext SCHEMA extensions", Some("citext")),
            (
                "create extension if not exists \"uuid-ossp\" with schema extensions version '1' cascade",
                Some("uuid-ossp"),
            ),
            ("CREATE EXTENSION IF NOT EXISTS citext VERSION '1' SCHEMA extensions", Some("citext")),
            ("CREATE EXTENSION IF NOT EXISTS citext SCHEMA \"extensions\"", Some("citext")),
            ("CREATE EXTENSION IF NOT EXISTS citext", None),
            ("CREATE EXTENSION citext SCHEMA extensions", None),
            ("CREATE EXTENSION IF NOT EXISTS citext SCHEMA public", None),
            ("SELECT 'CREATE EXTENSION IF NOT EXISTS citext SCHEMA extensions'", None),
        ] {
            assert_eq!(extension(sql).map(|(name, _)| name).as_deref(), name, "{sql}");
        }
    }
}
