//! Recognizes a statement by its text, without what does not change its meaning, and shows it without its literals.
//!
//! White space and comments outside of strings do not count: a file that failed half-way is often indented anew and
//! commented when it is corrected; it is the same statement then. The case of words counts, because a quoted name has
//! one; so does everything inside of a string.

use sha2::{Digest, Sha256};

use crate::migrations::lexer::TokenKind;
use crate::migrations::splitter::tokens;

/// The most characters of a summary.
const SUMMARY: usize = 100;

/// Returns the digest of a statement, in hex.
pub(crate) fn digest(sql: &str) -> String {
    let mut hash = Sha256::new();
    for token in tokens(sql) {
        let text = token.text(sql);
        hash.update(text.len().to_be_bytes());
        hash.update(text);
    }
    hex::encode(hash.finalize().get(..16).unwrap_or_default())
}

/// Returns the start of a statement on one line, with `'..'` for each string: a string may be a secret.
pub(crate) fn summary(sql: &str) -> String {
    let mut text = String::new();
    let mut end = 0;
    for token in tokens(sql) {
        if text.len() > 4 * SUMMARY {
            break;
        }
        if token.start > end && !text.is_empty() {
            text.push(' ');
        }
        text.push_str(if token.kind == TokenKind::Text { "'..'" } else { token.text(sql) });
        end = token.end;
    }
    if text.chars().count() <= SUMMARY {
        return text;
    }
    format!("{} ..", text.chars().take(SUMMARY).collect::<String>().trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn white_space_and_comments_do_not_change_a_statement_and_all_else_does() {
        let same = |a: &str, b: &str| digest(a) == digest(b);
        let first = "ALTER TABLE notes ADD COLUMN lang text DEFAULT 'de'";
        for written in [
            "ALTER  TABLE\r\n\tnotes ADD COLUMN lang text DEFAULT 'de'  ",
            "ALTER TABLE notes /* the 'old' one */ ADD COLUMN lang text -- é\nDEFAULT 'de'",
        ] {
            assert!(same(first, written), "{written}");
        }
        assert!(same("SELECT f(a,b)", "SELECT f ( a , b )"));
        for other in [
            "ALTER TABLE notes ADD COLUMN lang text DEFAULT 'en'",
            "ALTER TABLE notes ADD COLUMN lang text DEFAULT 'd e'",
            "ALTER TABLE notes ADD COLUMN lang text DEFAULT E'de'",
            "ALTER TABLE notes ADD COLUMN \"lang\" text DEFAULT 'de'",
            "ALTER TABLE notes ADD COLUMN lang text",
        ] {
            assert!(!same(first, other), "{other}");
        }
        assert!(!same("SELECT '-- a'", "SELECT '-- b'"));
        assert!(!same("SELECT $$ a $$", "SELECT $$ a  $$"));
        assert!(!same("SELECT ab", "SELECT a b"));
    }

    #[test]
    fn a_summary_is_one_line_without_strings() {
        assert_eq!(
            summary("ALTER ROLE x\n  -- hunter2\n  PASSWORD 'hunter2' /* hunter2 */;"),
            "ALTER ROLE x PASSWORD '..' ;"
        );
        assert_eq!(
            summary("SELECT E'hunt\\'er2', $a$hunter2$a$, $$hunter2$$"),
            "SELECT '..', '..', '..'"
        );
        let long = summary(&format!("SELECT {}", "é, ".repeat(200)));
        assert!(long.ends_with(" ..") && long.chars().count() <= SUMMARY + 3, "{long}");
        assert_eq!(summary("SELECT 'never closed: hunter2"), "SELECT");
    }
}
