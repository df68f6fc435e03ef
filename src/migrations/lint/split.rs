//! Splits a file into statements: at each semicolon outside a `BEGIN ATOMIC` body.

use sqlparser::tokenizer::{Token, TokenWithSpan};

/// Returns the statements of a file, each without its semicolon and leading white space.
pub(super) fn statements(tokens: Vec<TokenWithSpan>) -> Vec<Vec<TokenWithSpan>> {
    let (mut all, mut current): (Vec<_>, Vec<TokenWithSpan>) = (Vec::new(), Vec::new());
    let mut body = 0_usize; // depth inside a BEGIN ATOMIC body
    let mut last = String::new();
    for token in tokens {
        match &token.token {
            Token::SemiColon if body == 0 => all.push(std::mem::take(&mut current)),
            Token::Whitespace(_) if current.is_empty() => {}
            Token::EOF => {}
            Token::Word(word) if word.quote_style.is_none() => {
                let word = word.value.to_ascii_uppercase();
                body = match (body, word.as_str(), last.as_str()) {
                    (0, "ATOMIC", "BEGIN") => 1,
                    (0, ..) => 0,
                    (depth, "CASE", _) => depth + 1,
                    (depth, "END", _) => depth - 1,
                    (depth, ..) => depth,
                };
                last = word;
                current.push(token);
            }
            _ => current.push(token),
        }
    }
    all.push(current);
    all.retain(|statement| !statement.is_empty());
    all
}
