//! Cuts a file into statements: at each semicolon, but for those inside a `BEGIN ATOMIC` body.

use sqlparser::tokenizer::{Token, TokenWithSpan};

/// The statements of a file, each without its semicolon and without white space before it.
pub(super) fn statements(tokens: Vec<TokenWithSpan>) -> Vec<Vec<TokenWithSpan>> {
    let (mut all, mut now): (Vec<_>, Vec<TokenWithSpan>) = (Vec::new(), Vec::new());
    let mut body = 0_usize; // depth inside a BEGIN ATOMIC body
    let mut last = String::new();
    for token in tokens {
        match &token.token {
            Token::SemiColon if body == 0 => all.push(std::mem::take(&mut now)),
            Token::Whitespace(_) if now.is_empty() => {}
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
                now.push(token);
            }
            _ => now.push(token),
        }
    }
    all.push(now);
    all.retain(|statement| !statement.is_empty());
    all
}
