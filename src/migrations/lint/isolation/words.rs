//! Checks a query that the parser does not support, by its words: a catalog must be compared with something of one
//! schema beside it.

use std::ops::Range;

use sqlparser::tokenizer::{Token, TokenWithSpan, Word};

use crate::migrations::lint::isolation::catalogs::{
    Catalog, Holds, IS_VISIBLE, is_shared, names_fixed_schema,
};

/// Words that end the FROM of a query or a statement around it.
const NO_ALIAS: [&str; 30] = [
    "AND",
    "AS",
    "CROSS",
    "DO",
    "ELSE",
    "EXCEPT",
    "FETCH",
    "FOR",
    "FULL",
    "GROUP",
    "HAVING",
    "IN",
    "INNER",
    "INTERSECT",
    "INTO",
    "JOIN",
    "LEFT",
    "LIMIT",
    "LOOP",
    "NATURAL",
    "ON",
    "ORDER",
    "RIGHT",
    "SET",
    "THEN",
    "UNION",
    "USING",
    "WHERE",
    "WINDOW",
    "WITH",
];

/// A catalog that is named in a FROM, and the tokens of its query.
struct Source {
    alias: String,
    catalog: Catalog,
    at: usize,
}

/// Returns the lines in which a catalog is named without a schema, of those whose position `is_open` is true for.
pub(super) fn lines_without_schema(
    tokens: &[TokenWithSpan],
    is_open: impl Fn(usize) -> bool,
) -> Vec<u64> {
    let sources: Vec<Source> =
        (0..tokens.len()).filter(|at| is_open(*at)).filter_map(|at| source(tokens, at)).collect();
    let mut lines = Vec::new();
    for source in sources.iter().filter(|source| source.catalog.needs_schema()) {
        let block = block(tokens, source.at);
        let beside: Vec<&Source> =
            sources.iter().filter(|other| block.contains(&other.at)).collect();
        if !is_tied(tokens, &block, source, &beside) {
            lines.push(tokens[source.at].span.start.line);
        }
    }
    lines
}

/// Returns the end of the query that begins here: its parenthesis, its semicolon, or the word of a
/// `plpgsql` statement after it.
pub(super) fn end_of_query(tokens: &[TokenWithSpan], from: usize) -> usize {
    let (mut depth, mut cases) = (0_usize, 0_usize);
    for (at, token) in tokens.iter().enumerate().skip(from) {
        match &token.token {
            Token::LParen | Token::LBracket => depth += 1,
            Token::RParen | Token::RBracket | Token::SemiColon if depth == 0 => return at,
            Token::RParen | Token::RBracket => depth -= 1,
            Token::Word(word) if depth == 0 && word.quote_style.is_none() => {
                match (upper(word).as_str(), cases) {
                    ("CASE", _) => cases += 1,
                    ("END" | "THEN" | "LOOP", 0) => return at,
                    ("END", _) => cases -= 1,
                    _ => {}
                }
            }
            _ => {}
        }
    }
    tokens.len()
}

/// Whether the token is this word without quotes.
pub(super) fn is(token: Option<&TokenWithSpan>, word: &str) -> bool {
    matches!(token.map(|token| &token.token), Some(Token::Word(found))
        if found.quote_style.is_none() && found.value.eq_ignore_ascii_case(word))
}

fn upper(word: &Word) -> String {
    word.value.to_ascii_uppercase()
}

/// A name as the catalog has it.
fn folded(token: Option<&TokenWithSpan>) -> Option<String> {
    match token.map(|token| &token.token) {
        Some(Token::Word(word)) if word.quote_style.is_some() => Some(word.value.clone()),
        Some(Token::Word(word)) => Some(word.value.to_lowercase()),
        _ => None,
    }
}

fn is_period(token: Option<&TokenWithSpan>) -> bool {
    token.is_some_and(|token| token.token == Token::Period)
}

/// The catalog that is named at a position, if a FROM, a JOIN or a USING is before it.
fn source(tokens: &[TokenWithSpan], at: usize) -> Option<Source> {
    let table = folded(tokens.get(at))?;
    let before = |count: usize| at.checked_sub(count).and_then(|at| tokens.get(at));
    let (schema, first) = if is_period(before(1)) { (folded(before(2)), 3) } else { (None, 1) };
    let catalog = Catalog::find(schema.as_deref(), &table)?;
    let is_listed = ["FROM", "JOIN", "USING", "ONLY", "TABLE", "UPDATE", "INTO"]
        .iter()
        .any(|word| is(before(first), word));
    let is_next = before(first).is_some_and(|it| matches!(it.token, Token::Comma | Token::LParen));
    if !is_listed && !is_next {
        return None;
    }
    let after = at + 1;
    let named = if is(tokens.get(after), "AS") { after + 1 } else { after };
    let alias = folded(tokens.get(named))
        .filter(|_| !NO_ALIAS.iter().any(|word| is(tokens.get(named), word)));
    // In a list, only what has the form of a table: a name in a list of arguments has none.
    if is_next && alias.is_none() && !ends_table(tokens.get(after)) {
        return None;
    }
    Some(Source { alias: alias.unwrap_or(table), catalog, at })
}

/// Whether a token may follow a table in a FROM.
fn ends_table(token: Option<&TokenWithSpan>) -> bool {
    let ends = ["WHERE", "JOIN", "LEFT", "RIGHT", "INNER", "FULL", "CROSS", "NATURAL", "GROUP"];
    ends.iter().any(|word| is(token, word))
}

/// The tokens of the query around a position.
fn block(tokens: &[TokenWithSpan], at: usize) -> Range<usize> {
    let mut depth = 0_usize;
    let mut start = at;
    while let Some(before) = start.checked_sub(1) {
        match &tokens[before].token {
            Token::RParen => depth += 1,
            Token::LParen | Token::SemiColon if depth == 0 => break,
            Token::LParen => depth -= 1,
            Token::Word(word) if depth == 0 && word.quote_style.is_none() => {
                let ends = ["UNION", "INTERSECT", "EXCEPT", "THEN", "LOOP", "BEGIN", "ELSE"];
                if ends.contains(&upper(word).as_str()) {
                    break;
                }
            }
            _ => {}
        }
        start = before;
    }
    let mut end = end_of_query(tokens, at);
    let unions = ["UNION", "INTERSECT", "EXCEPT"];
    if let Some(union) =
        depth_zero(tokens, at..end).find(|at| unions.iter().any(|word| is(tokens.get(*at), word)))
    {
        end = union;
    }
    start..end
}

/// The positions that are not inside parentheses.
fn depth_zero(tokens: &[TokenWithSpan], range: Range<usize>) -> impl Iterator<Item = usize> {
    let mut depth = 0_usize;
    range.filter(move |at| match tokens[*at].token {
        Token::LParen => {
            depth += 1;
            false
        }
        Token::RParen => {
            depth = depth.saturating_sub(1);
            false
        }
        _ => depth == 0,
    })
}

/// Whether a source is tied, directly or by another one in the same query that is.
fn is_tied(
    tokens: &[TokenWithSpan],
    block: &Range<usize>,
    source: &Source,
    beside: &[&Source],
) -> bool {
    // One side of an OR says nothing about the other.
    if depth_zero(tokens, block.clone()).any(|at| is(tokens.get(at), "OR")) {
        return false;
    }
    let others = |of: &Source| -> Vec<String> {
        beside.iter().filter(|other| other.at != of.at).map(|other| other.alias.clone()).collect()
    };
    let compared = comparisons(tokens, block, source, &others(source));
    if compared.contains(&Compared::WithOneSchema) {
        return true;
    }
    let is_direct = |other: &&&Source| {
        comparisons(tokens, block, other, &others(other)).contains(&Compared::WithOneSchema)
    };
    compared.contains(&Compared::WithSource)
        && beside.iter().filter(|other| other.at != source.at).any(|other| is_direct(&other))
}

#[derive(PartialEq)]
enum Compared {
    WithOneSchema,
    WithSource,
}

/// What the columns of a source that tie it are compared with.
fn comparisons(
    tokens: &[TokenWithSpan],
    block: &Range<usize>,
    source: &Source,
    others: &[String],
) -> Vec<Compared> {
    let mut all = Vec::new();
    for at in block.clone() {
        let Some(holds) = folded(tokens.get(at)).and_then(|it| source.catalog.holds(&it)) else {
            continue;
        };
        let is_qualified = at.checked_sub(1).is_some_and(|at| is_period(tokens.get(at)));
        let first = if is_qualified { at.saturating_sub(2) } else { at };
        if is_qualified && folded(tokens.get(first)).as_deref() != Some(&source.alias) {
            continue;
        }
        let previous = |count: usize| first.checked_sub(count).and_then(|at| tokens.get(at));
        let calls = previous(1).is_some_and(|token| token.token == Token::LParen)
            && IS_VISIBLE.iter().any(|word| is(previous(2), word));
        if calls {
            all.push(Compared::WithOneSchema);
        }
        if let Some(value) = value_after(tokens, at + 1) {
            all.extend(compared_with(tokens, value, holds, others));
        }
        if previous(1).is_some_and(|token| token.token == Token::Eq)
            && let Some(value) = first.checked_sub(2)
        {
            all.extend(compared_with(tokens, value, holds, others));
        }
    }
    all
}

/// The position of what a column is equal to.
fn value_after(tokens: &[TokenWithSpan], mut at: usize) -> Option<usize> {
    while tokens.get(at).is_some_and(|token| token.token == Token::DoubleColon) {
        at += 2;
    }
    match &tokens.get(at)?.token {
        Token::Eq => {}
        Token::Word(word) if upper(word) == "IN" => {}
        _ => return None,
    }
    at += 1;
    while matches!(tokens.get(at).map(|token| &token.token), Some(Token::LParen))
        || ["ANY", "SOME"].iter().any(|word| is(tokens.get(at), word))
    {
        at += 1;
    }
    Some(at)
}

fn compared_with(
    tokens: &[TokenWithSpan],
    at: usize,
    holds: Holds,
    others: &[String],
) -> Option<Compared> {
    // What a literal ends with is put in at run time.
    let Some(token) = tokens.get(at) else { return Some(Compared::WithOneSchema) };
    match &token.token {
        Token::SingleQuotedString(text) | Token::EscapedStringLiteral(text) => {
            let is_of_one = match holds {
                Holds::Schema => is_shared(text),
                Holds::Object => !names_fixed_schema(text),
            };
            is_of_one.then_some(Compared::WithOneSchema)
        }
        Token::Number(..) => None,
        Token::Word(_) => {
            let before = at.checked_sub(1).is_some_and(|at| is_period(tokens.get(at)));
            let alias =
                if before { at.checked_sub(2).and_then(|at| tokens.get(at)) } else { Some(token) };
            let is_source = folded(alias).is_some_and(|alias| others.contains(&alias));
            Some(if is_source { Compared::WithSource } else { Compared::WithOneSchema })
        }
        _ => Some(Compared::WithOneSchema),
    }
}
