//! Splits a statement into tokens as PostgreSQL does (`src/backend/parser/scan.l`), and refuses what two servers, or
//! two settings of one, would split in different ways.
//!
//! What is refused for that reason, though a server may accept it: a quote behind an odd number of backslashes in a
//! plain string (it ends there or not, by `standard_conforming_strings`), a string that continues on the next line
//! (the second part has the escapes of the first), `UESCAPE`, a number or parameter with a letter or `$` directly
//! behind it, and a vertical tab (white space from PostgreSQL 16 on).

/// A token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Token {
    /// A word that is not quoted, a key word or a name, in lower case.
    Word(String),
    /// A quoted name, as the server would store it.
    Quoted(String),
    /// A string, in any of its notations.
    Text,
    /// A number or a parameter.
    Number,
    /// Any other character.
    Symbol(char),
}

/// Splits a statement.
///
/// # Errors
/// Why it cannot be split.
pub(super) fn tokens(sql: &str) -> Result<Vec<Token>, &'static str> {
    let mut lexer = Lexer { rest: sql };
    let mut tokens = Vec::new();
    while let Some(token) = lexer.token()? {
        if token == Token::Text && tokens.last() == Some(&Token::Text) {
            return Err("a string continues in a second part");
        }
        tokens.push(token);
    }
    Ok(tokens)
}

struct Lexer<'a> {
    rest: &'a str,
}

impl<'a> Lexer<'a> {
    /// The next token.
    fn token(&mut self) -> Result<Option<Token>, &'static str> {
        self.skip_space()?;
        let Some(first) = self.rest.chars().next() else { return Ok(None) };
        let token = match first {
            '\'' => self.plain_string(1)?,
            '"' => Token::Quoted(self.quoted(1)?),
            '$' => self.dollar()?,
            '0'..='9' => self.number()?,
            '.' if self.rest.as_bytes().get(1).is_some_and(u8::is_ascii_digit) => self.number()?,
            first if starts_name(first) => self.name()?,
            '\0' | '\u{b}' => return Err("it holds a control character"),
            other => {
                self.skip(other.len_utf8());
                Token::Symbol(other)
            }
        };
        Ok(Some(token))
    }

    fn skip(&mut self, bytes: usize) {
        self.rest = self.rest.split_at(bytes).1;
    }

    /// Returns what is before `end` and skips both.
    fn take_to(&mut self, end: &str) -> Option<&'a str> {
        let (before, after) = self.rest.split_once(end)?;
        self.rest = after;
        Some(before)
    }

    fn skip_space(&mut self) -> Result<(), &'static str> {
        loop {
            self.rest = self.rest.trim_start_matches([' ', '\t', '\n', '\r', '\u{c}']);
            if let Some(comment) = self.rest.strip_prefix("--") {
                // A carriage return ends a comment too.
                let end = comment.find(['\n', '\r']).unwrap_or(comment.len());
                self.rest = comment.split_at(end).1;
            } else if let Some(comment) = self.rest.strip_prefix("/*") {
                self.rest = after_block_comment(comment).ok_or("a comment does not end")?;
            } else {
                return Ok(());
            }
        }
    }

    /// A word, or what begins with a letter that says how a string or a quoted name is written.
    fn name(&mut self) -> Result<Token, &'static str> {
        let end = self.rest.find(|c| !continues_name(c)).unwrap_or(self.rest.len());
        let (word, after) = self.rest.split_at(end);
        match (word, after) {
            ("e" | "E", after) if after.starts_with('\'') => return self.escape_string(),
            ("b" | "B" | "x" | "X" | "n" | "N", after) if after.starts_with('\'') => {
                return self.plain_string(2);
            }
            ("u" | "U", after) if after.starts_with("&'") => return self.plain_string(3),
            ("u" | "U", after) if after.starts_with("&\"") => {
                let escaped = self.quoted(3)?;
                return unescaped(&escaped).map(Token::Quoted).ok_or("an escape is malformed");
            }
            _ => {}
        }
        self.rest = after;
        if word.eq_ignore_ascii_case("uescape") {
            return Err("it chooses an escape character");
        }
        // Only the letters of ASCII: the server folds no others in a database whose encoding is UTF-8.
        Ok(Token::Word(word.to_ascii_lowercase()))
    }

    /// The quoted name that begins after `prefix` bytes.
    fn quoted(&mut self, prefix: usize) -> Result<String, &'static str> {
        self.skip(prefix);
        let mut name = String::new();
        loop {
            name.push_str(self.take_to("\"").ok_or("a quoted name does not end")?);
            if !self.rest.starts_with('"') {
                return Ok(name);
            }
            self.skip(1);
            name.push('"');
        }
    }

    /// The string without escapes that begins after `prefix` bytes.
    fn plain_string(&mut self, prefix: usize) -> Result<Token, &'static str> {
        self.skip(prefix);
        loop {
            let part = self.take_to("'").ok_or("a string does not end")?;
            if backslashes_at_end(part) % 2 == 1 {
                return Err("a backslash is before a quote");
            }
            if !self.rest.starts_with('\'') {
                return Ok(Token::Text);
            }
            self.skip(1);
        }
    }

    /// The string `E'..'`.
    fn escape_string(&mut self) -> Result<Token, &'static str> {
        self.skip(2);
        loop {
            let part = self.take_to("'").ok_or("a string does not end")?;
            if backslashes_at_end(part) % 2 == 1 {
                continue;
            }
            if !self.rest.starts_with('\'') {
                return Ok(Token::Text);
            }
            self.skip(1);
        }
    }

    /// A parameter, or a string between dollar signs.
    fn dollar(&mut self) -> Result<Token, &'static str> {
        self.skip(1);
        if self.rest.starts_with(|c: char| c.is_ascii_digit()) {
            return self.number();
        }
        let is_tag = |c: char| continues_name(c) && c != '$';
        let end = self.rest.find(|c| !is_tag(c)).unwrap_or(self.rest.len());
        let (tag, after) = self.rest.split_at(end);
        let Some(body) = after.strip_prefix('$') else { return Err("a dollar sign stands alone") };
        self.rest = body;
        self.take_to(&format!("${tag}$")).ok_or("a string does not end")?;
        Ok(Token::Text)
    }

    /// The digits of a number or a parameter. Signs of an exponent and further dots are tokens of their own, which
    /// makes no difference here.
    fn number(&mut self) -> Result<Token, &'static str> {
        let digits = |c: char| c.is_ascii_digit() || c == '.';
        let after = self.rest.trim_start_matches(digits);
        let exponent = after.strip_prefix(['e', 'E']).filter(|exponent| {
            let sign = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
            sign.starts_with(|c: char| c.is_ascii_digit())
        });
        let after = exponent.map_or(after, |exponent| {
            let sign = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
            sign.trim_start_matches(|c: char| c.is_ascii_digit())
        });
        if after.starts_with(continues_name) {
            return Err("a letter is directly behind a number");
        }
        self.rest = after;
        Ok(Token::Number)
    }
}

fn starts_name(c: char) -> bool {
    c.is_ascii_alphabetic() || c == '_' || !c.is_ascii()
}

fn continues_name(c: char) -> bool {
    starts_name(c) || c.is_ascii_digit() || c == '$'
}

fn backslashes_at_end(text: &str) -> usize {
    text.bytes().rev().take_while(|byte| *byte == b'\\').count()
}

/// Returns the text after a block comment, if it ends. Block comments nest.
fn after_block_comment(mut inside: &str) -> Option<&str> {
    let mut depth = 1_usize;
    loop {
        let (open, close) = (inside.find("/*"), inside.find("*/")?);
        let next = match open {
            Some(open) if open < close => {
                depth += 1;
                open
            }
            _ => {
                depth -= 1;
                close
            }
        };
        inside = inside.split_at(next + 2).1;
        if depth == 0 {
            return Some(inside);
        }
    }
}

/// Replaces the escapes `\XXXX` and `\+XXXXXX` of a name in the notation `U&"..."`.
fn unescaped(escaped: &str) -> Option<String> {
    let mut name = String::new();
    let mut rest = escaped;
    while let Some((before, after)) = rest.split_once('\\') {
        name.push_str(before);
        if let Some(after) = after.strip_prefix('\\') {
            name.push('\\');
            rest = after;
            continue;
        }
        let (digits, after) = match after.strip_prefix('+') {
            Some(after) => after.split_at_checked(6)?,
            None => after.split_at_checked(4)?,
        };
        if !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        // Half of a surrogate pair is no character: such a name is refused, and none of ours has one.
        name.push(char::from_u32(u32::from_str_radix(digits, 16).ok()?)?);
        rest = after;
    }
    name.push_str(rest);
    Some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Words and names, quoted names in quotes, and `s`, `n` and symbols for the rest.
    fn split(sql: &str) -> String {
        let written = |token: Token| match token {
            Token::Word(word) => word,
            Token::Quoted(name) => format!("\"{name}\""),
            Token::Text => "s".to_owned(),
            Token::Number => "n".to_owned(),
            Token::Symbol(symbol) => symbol.to_string(),
        };
        match tokens(sql) {
            Ok(tokens) => tokens.into_iter().map(written).collect::<Vec<_>>().join(" "),
            Err(reason) => format!("refused: {reason}"),
        }
    }

    #[test]
    fn tokens_are_those_of_the_server() {
        for (sql, expected) in [
            ("SELECT Set_Config('a', $1)", "select set_config ( s , n )"),
            (r#"pg_catalog . "Set""X" "#, "pg_catalog . \"Set\"X\""),
            (r#"U&"set\005fconfig" u&"s\+000065t\\""#, "\"set_config\" \"set\\\""),
            ("a--x\rb /* /* */ c */ d", "a b d"),
            ("1.5e-3+.5*f(2)", "n + n * f ( n )"),
            ("$$ set_config() $$, $a$ $$ $b$ $a$, a$b$c", "s , s , a$b$c"),
            (
                r"E'it\'s set_config()' || 'a\b' || '''' || x'ff' || U&'\0041'",
                "s | | s | | s | | s | | s",
            ),
            ("aE'x'", "ae s"),
            ("é\u{a0}x", "é\u{a0}x"),
            ("a <-- b\n c", "a < c"),
            ("a */* b */ c", "a * c"),
        ] {
            assert_eq!(split(sql), expected, "{sql}");
        }
    }

    #[test]
    fn what_could_be_split_in_another_way_is_refused() {
        for sql in [
            r"'a\' set_config() || '",
            "E'a'\n'b\\' || set_config() || '",
            "'a' /* x */ 'b'",
            "U&\"set!005fconfig\" UESCAPE '!'",
            r#"U&"\00g1""#,
            r#"U&"\d83d""#,
            "1a",
            "1$$",
            "$1$$",
            "$a",
            "a\u{b}b",
            "'a",
            "\"a",
            "$$ a",
            "/* a",
            "/* /* a */",
            "E'a\\'",
        ] {
            assert!(split(sql).starts_with("refused: "), "{sql}: {}", split(sql));
        }
    }
}
