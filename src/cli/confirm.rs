//! Asks for a confirmation before data is destroyed, and fails without a terminal instead of waiting.

use std::io::{self, BufRead, IsTerminal, Write};

use super::Failure;
use crate::telemetry;

/// Fails if there is no terminal to ask on. Commands call it before they open the database.
pub(super) fn require_terminal(command: &str) -> Result<(), Failure> {
    if io::stdin().is_terminal() && io::stderr().is_terminal() {
        return Ok(());
    }
    Err(Failure::usage(format!("no terminal to confirm {command}; pass --yes")))
}

/// Shows the warning and succeeds if the user types the word.
pub(super) async fn ask(warning: &str, word: &str) -> Result<(), Failure> {
    let (warning, word) = (warning.to_owned(), word.to_owned());
    let confirmed = tokio::task::spawn_blocking(move || {
        telemetry::flush();
        converse(&mut io::stdin().lock(), &mut io::stderr().lock(), &warning, &word)
    });
    confirmed.await.map_err(|error| Failure::Other(error.to_string()))?
}

fn converse(
    input: &mut impl BufRead,
    screen: &mut impl Write,
    warning: &str,
    word: &str,
) -> Result<(), Failure> {
    write!(screen, "{warning}\nType {word} to confirm: ")
        .and_then(|()| screen.flush())
        .map_err(Failure::io("write to the terminal"))?;
    let mut line = String::new();
    input.read_line(&mut line).map_err(Failure::io("read the answer"))?;
    if line.trim() == word {
        Ok(())
    } else {
        Err(Failure::Other(format!("the input is not {word}; nothing was changed")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_word_itself_confirms() {
        for (typed, good) in [
            ("acme-corp\n", true),
            ("  acme-corp \r\n", true),
            ("acme-corp", true),
            ("acme\n", false),
            ("y\n", false),
            ("yes\n", false),
            ("ACME-CORP\n", false),
            ("acme-corp x\n", false),
            ("\nacme-corp\n", false),
            ("", false),
        ] {
            let mut screen = Vec::new();
            let answer = converse(&mut typed.as_bytes(), &mut screen, "All is lost.", "acme-corp");
            assert_eq!(answer.is_ok(), good, "{typed:?}");
            let shown = String::from_utf8(screen).unwrap();
            assert_eq!(shown, "All is lost.\nType acme-corp to confirm: ");
        }
    }
}
