//! Reads a secret from a file, as container engines mount them.
//!
//! Promises: a problem names the variable and the path, and nothing of the content.

use std::fs::File;
use std::io::{self, Read};

use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret, SecretString};

/// Longest file that is read, in bytes.
const LONGEST: u64 = 64 * 1024;

/// Returns the text of the file without the line end behind it; `variable` is the setting that names the file.
///
/// # Errors
/// A sentence, if the file cannot be read, is empty, too long or not text.
pub(super) fn read(variable: &str, path: &str) -> Result<SecretString, String> {
    let text =
        read_text(path).map_err(|error| format!("{variable}: cannot read {path}: {error}"))?;
    if text.expose_secret().is_empty() {
        return Err(format!("{variable}: {path} is empty"));
    }
    Ok(text)
}

fn read_text(path: &str) -> io::Result<SecretString> {
    let invalid = |problem: &str| io::Error::new(io::ErrorKind::InvalidData, problem);
    let mut bytes = Zeroizing::new(Vec::new());
    File::open(path)?.take(LONGEST + 1).read_to_end(&mut bytes)?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length > LONGEST) {
        return Err(invalid("it is longer than a secret"));
    }
    // The error of the conversion would hold the bytes.
    let text = std::str::from_utf8(&bytes).map_err(|_not_text| invalid("it is not UTF-8"))?;
    let text = text.strip_suffix('\n').unwrap_or(text);
    Ok(SecretString::from(text.strip_suffix('\r').unwrap_or(text)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_end_is_cut_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret").display().to_string();
        for (content, secret) in [
            ("hunter22", "hunter22"),
            ("hunter22\n", "hunter22"),
            ("hunter22\r\n", "hunter22"),
            ("hunter22\n\n", "hunter22\n"),
            (" hunter22 ", " hunter22 "),
        ] {
            std::fs::write(&path, content).unwrap();
            assert_eq!(read("ROWHOUSE_X_FILE", &path).unwrap().expose_secret(), secret);
        }
    }

    #[test]
    fn a_file_that_cannot_be_used_is_named_with_its_variable_and_without_its_content() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).display().to_string();
        std::fs::write(path("empty"), "\n").unwrap();
        std::fs::write(path("binary"), b"hunter22\xff").unwrap();
        std::fs::write(path("long"), "hunter22".repeat(10_000)).unwrap();
        for (file, problem) in [
            (path("missing"), "No such file"),
            (path("empty"), "is empty"),
            (path("binary"), "not UTF-8"),
            (path("long"), "longer"),
            (folder.path().display().to_string(), "directory"),
        ] {
            let said = read("ROWHOUSE_X_FILE", &file).unwrap_err();
            assert!(said.starts_with("ROWHOUSE_X_FILE: ") && said.contains(&file), "{said}");
            assert!(said.contains(problem) && !said.contains("hunter22"), "{said}");
        }
    }
}
