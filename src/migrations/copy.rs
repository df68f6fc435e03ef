//! Reads `COPY`: which form it has, and the rows behind `COPY .. FROM stdin`, as `pg_dump` writes them.

use std::ops::Range;

use crate::migrations::lexer::{Token, TokenKind};
use crate::migrations::splitter::{Pieces, tokens};

const NO_ROWS: &str = "its rows do not follow, or the line `\\.` that ends them is missing; write the rows on the next \
                       lines and `\\.` alone on a line behind them, as pg_dump does, or delete the statement";
const ON_NEXT_LINE: &str =
    "its rows begin on the line behind the semicolon; move what is on the same line";
const OUT: &str = "its rows would be sent to the program that runs the migration, which does not read them; delete it";
const SERVER_FILE: &str = "it reads or writes a file, or runs a program, on the database's server; put the rows into \
                           the migration: COPY .. FROM stdin with its rows, or INSERT";
const BINARY: &str =
    "rows in the binary format cannot be in a text file; dump them in the format text";

/// Returns where the rows of a statement are in the file, if it is `COPY .. FROM stdin`, and continues behind them.
///
/// # Errors
/// Why the statement is refused.
pub(super) fn rows(
    text: &str,
    file: &str,
    pieces: &mut Pieces<'_>,
) -> Result<Option<Range<usize>>, &'static str> {
    match form(text) {
        Form::Other => Ok(None),
        Form::Refused(reason) => Err(reason),
        Form::Rows => {
            let after = pieces.position();
            let rest = file.get(after..).unwrap_or_default();
            let (same_line, lines) = rest.split_once('\n').unwrap_or((rest, ""));
            let same_line = same_line.trim();
            if !same_line.is_empty() && !same_line.starts_with("--") {
                return Err(ON_NEXT_LINE);
            }
            let start = file.len() - lines.len();
            let Some((length, end)) = end_of_rows(lines) else {
                pieces.go_to(start + likely_end(lines));
                return Err(NO_ROWS);
            };
            pieces.go_to(start + end);
            Ok(Some(start..start + length))
        }
    }
}

/// Returns the length of the rows, and the position behind the line that ends them.
fn end_of_rows(lines: &str) -> Option<(usize, usize)> {
    let mut at = 0;
    for line in lines.split_inclusive('\n') {
        if line.trim_end_matches(['\n', '\r']) == "\\." {
            return Some((at, at + line.len()));
        }
        at += line.len();
    }
    None
}

/// Where rows without an end probably end: at an empty line or a comment. Reading continues there, so that what else is
/// wrong in the file is found too.
fn likely_end(lines: &str) -> usize {
    let is_row = |line: &&str| !line.trim().is_empty() && !line.starts_with("--");
    lines.split_inclusive('\n').take_while(is_row).map(str::len).sum()
}

/// What a statement is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// `COPY .. FROM stdin`.
    Rows,
    /// Another `COPY`, and why it is refused.
    Refused(&'static str),
    /// Not `COPY`.
    Other,
}

fn form(text: &str) -> Form {
    let mut rest = tokens(text);
    if !rest.next().is_some_and(|token| token.is(text, "COPY")) {
        return Form::Other;
    }
    let mut depth = 0_usize;
    let direction = rest.find(|token| {
        match token.kind {
            TokenKind::Symbol(b'(') => depth += 1,
            TokenKind::Symbol(b')') => depth = depth.saturating_sub(1),
            _ => {}
        }
        depth == 0 && (token.is(text, "FROM") || token.is(text, "TO"))
    });
    let Some(direction) = direction else { return Form::Other };
    let target = rest.next();
    let is = |word| target.is_some_and(|token: Token| token.is(text, word));
    if target.is_some_and(|token| token.kind == TokenKind::Text) || is("PROGRAM") {
        Form::Refused(SERVER_FILE)
    } else if !is("STDIN") && !is("STDOUT") {
        // The server refuses it by itself.
        Form::Other
    } else if direction.is(text, "TO") {
        Form::Refused(OUT)
    } else if tokens(text).any(|token| token.is(text, "BINARY")) {
        Form::Refused(BINARY)
    } else {
        Form::Rows
    }
}

#[cfg(test)]
mod tests {
    use crate::migrations::statements::{Kind, split};

    /// The statements of a text, each `COPY` with its rows, and the refusals.
    fn read(sql: &str) -> (Vec<(&str, Option<&str>)>, Vec<String>) {
        let mut refusals = Vec::new();
        let statements = split("V1__x.sql", sql, &mut refusals).statements;
        let of = |kind: &Kind| match kind {
            Kind::CopyIn { rows } => sql.get(rows.clone()),
            _ => None,
        };
        let statements = statements.iter().map(|s| (s.text(sql), of(&s.kind))).collect();
        (statements, refusals.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn rows_of_copy_are_read_up_to_the_line_that_ends_them() {
        for (sql, copy, rows) in [
            (
                "COPY t (a, b) FROM stdin;\n1\t'x\n2\t\\N\n\\.\n",
                "COPY t (a, b) FROM stdin",
                "1\t'x\n2\t\\N\n",
            ),
            ("copy t from STDIN ; -- rows\n\\.\n", "copy t from STDIN", ""),
            (
                "COPY t FROM stdin WITH (FORMAT csv);\n\"a;\"\n\\.\n",
                "COPY t FROM stdin WITH (FORMAT csv)",
                "\"a;\"\n",
            ),
            ("COPY t FROM stdin;\r\n1\r\n\\.\r\n", "COPY t FROM stdin", "1\r\n"),
            (
                "COPY \"from\" (\"to\") FROM stdin;\n1\n\\.\n",
                "COPY \"from\" (\"to\") FROM stdin",
                "1\n",
            ),
            ("COPY t FROM stdin;\n\\\\.\n\\.\n", "COPY t FROM stdin", "\\\\.\n"),
        ] {
            let after = format!("{sql}SELECT 1;");
            let expected = vec![(copy, Some(rows)), ("SELECT 1", None)];
            assert_eq!(read(&after), (expected, vec![]), "{sql}");
            // Without a line break at the end.
            let trimmed = sql.trim_end();
            assert_eq!(read(trimmed), (vec![(copy, Some(rows))], vec![]), "{sql}");
        }
    }

    #[test]
    fn copy_without_its_rows_is_refused_and_reading_continues_behind_it() {
        let (_, refusals) = read("COPY t (id) FROM stdin;");
        assert_eq!(refusals.len(), 1);
        assert!(refusals[0].starts_with("V1__x.sql, line 1: COPY T"), "{refusals:?}");
        assert!(refusals[0].contains("`\\.`"), "{refusals:?}");
        let sql =
            "COPY a FROM stdin;\n\n--\nCOPY b FROM stdin;\n1\tit's\n\nSELECT 1;\nCOPY c TO stdout;";
        let (statements, refusals) = read(sql);
        assert_eq!(statements, [("SELECT 1", None)]);
        let lines: Vec<_> = refusals.iter().filter_map(|line| line.get(16..18)).collect();
        assert_eq!(lines, ["1:", "4:", "8:"], "{refusals:?}");
    }

    #[test]
    fn a_form_of_copy_that_reads_no_rows_of_the_file_is_refused_with_the_reason() {
        for (sql, words) in [
            ("COPY t TO stdout", "does not read them"),
            ("COPY (SELECT a FROM t) TO STDOUT", "does not read them"),
            ("COPY t TO stdin", "does not read them"),
            ("COPY t FROM '/tmp/x'", "on the database's server"),
            ("COPY t TO E'/tmp/x'", "on the database's server"),
            ("COPY t FROM PROGRAM 'cat'", "on the database's server"),
            ("COPY (SELECT 1) TO PROGRAM 'cat'", "on the database's server"),
            ("COPY BINARY t FROM stdin;\nx\n\\.", "in the format text"),
            ("COPY t FROM stdin (FORMAT binary);\nx\n\\.", "in the format text"),
            ("COPY t FROM stdin; SELECT 1;\n1\n\\.", "on the line behind the semicolon"),
        ] {
            let (_, refusals) = read(sql);
            assert!(
                refusals.first().is_some_and(|first| first.contains(words)),
                "{sql}: {refusals:?}"
            );
        }
    }
}
