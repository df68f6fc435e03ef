use super::*;

/// The tokens as they are written; strings as `s`, numbers as `n`.
fn split(sql: &str) -> String {
    let mut lexer = Lexer::new(sql);
    let mut all = Vec::new();
    loop {
        match lexer.token() {
            Err(unclosed) => return format!("{} from {}", unclosed.what, unclosed.at),
            Ok(None) => return all.join(" "),
            Ok(Some(token)) => all.push(match token.kind {
                TokenKind::Text => "s",
                TokenKind::Number => "n",
                _ => token.text(sql),
            }),
        }
    }
}

#[test]
fn tokens_are_those_of_the_server() {
    for (sql, expected) in [
        ("SELECT Set_Config('a', $1)", "SELECT Set_Config ( s , n )"),
        (r#"pg_catalog . "Set""X" "#, r#"pg_catalog . "Set""X""#),
        (r#"U&"set\005fconfig" u&"s""t""#, r#"U&"set\005fconfig" u&"s""t""#),
        ("a--x\rb /* /* */ c */ d", "a b d"),
        ("/*/ */ a /***/ b /*/**/*/ c", "a b c"),
        ("1.5e3+.5*f(2)", "n + n * f ( n )"),
        ("$$ set_config() $$, $a$ $$ $b$ $a$, a$b$c", "s , s , a$b$c"),
        ("$é$ x $é$ || $ || $1$2", "s | | $ | | n n"),
        (r"E'it\'s \\' || 'a\' || '''' || x'ff' || U&'\0041'", "s | | s | | s | | s | | s"),
        ("E'a'\n 'b\\'; c' d", "s d"),
        ("E'a' -- x\n -- y ' \n 'b\\'; c' d", "s d"),
        ("E'a' 'b' c", "s s c"),
        ("'a' /* x */ \n 'b' c", "s s c"),
        ("aE'x'", "aE s"),
        ("é\u{a0}x", "é\u{a0}x"),
        ("a <-- b\n c", "a < c"),
        ("a */* b */ c", "a * c"),
        ("a::int := b; \\x", "a : : int : = b ; \\ x"),
        ("1a'x' 0xFF 1_000 1..2", "n s n n n"),
        ("", ""),
        ("-- x", ""),
    ] {
        assert_eq!(split(sql), expected, "{sql}");
    }
}

#[test]
fn a_string_is_read_without_its_quotes() {
    for (sql, expected) in [
        ("'it''s'", "it's"),
        (r"'a\'", r"a\"),
        (r"E'it\'s \\ ''x'' \n'", r"it's \ 'x'  "),
        ("$a$ it''s $a$", " it''s "),
        ("$$$$", ""),
        ("''", ""),
        ("U&'x'", "x"),
    ] {
        let token = Lexer::new(sql).token().unwrap().unwrap();
        assert_eq!(token.string(sql).as_deref(), Some(expected), "{sql}");
    }
}

#[test]
fn what_has_no_end_is_named_with_its_place() {
    for (sql, expected) in [
        ("a 'b", "a string from 2"),
        ("a E'b\\'", "a string from 2"),
        ("a E'b\\", "a string from 2"),
        ("\"a\"\"", "a quoted name from 0"),
        ("$a$ x $b$", "a string between dollar signs from 0"),
        ("x /* /* a */", "a comment from 2"),
    ] {
        assert_eq!(split(sql), expected, "{sql}");
    }
}
