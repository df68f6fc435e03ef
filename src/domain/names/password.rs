//! Passwords: one that a caller presents, and one that is being set.
//!
//! [`Password`] is what a log-in compares. A password that is *set*, wherever that is, is a [`NewPassword`], which is
//! refused if it is among the most common ones (NIST SP 800-63B, 3.1.1.2): attackers try those first. Users whose
//! password was set before this rule can log in with it.

use std::fmt;

use passwords::analyzer::is_common_password;
use secrecy::{ExposeSecret, SecretString};

use crate::domain::rule::Rule;

/// Shortest password, in characters (NIST SP 800-63B).
const PASSWORD_MIN: usize = 8;
/// Longest password, in bytes, so that hashing a huge one cannot be used to exhaust the CPU.
pub const PASSWORD_MAX: usize = 1024;
/// The longest of the common passwords, in characters: a longer one is not looked for among them.
const COMMON_MAX: usize = 32;

/// A password in clear: wiped from memory when dropped, redacted wherever it might be printed.
#[derive(Clone)]
pub struct Password(SecretString);

impl Password {
    /// Parses a password: at least 8 characters, at most 1,024 bytes, any character but NUL.
    ///
    /// # Errors
    /// The rule that it breaks.
    pub fn parse(given: &str) -> Result<Self, Rule> {
        if given.is_empty() {
            Err(Rule::Required)
        } else if given.chars().count() < PASSWORD_MIN {
            Err(Rule::TooShort(PASSWORD_MIN))
        } else if given.len() > PASSWORD_MAX {
            Err(Rule::TooLong(PASSWORD_MAX))
        } else if given.contains('\0') {
            Err(Rule::ControlCharacter)
        } else {
            Ok(Self(SecretString::from(given)))
        }
    }

    /// Returns the clear text, for hashing only.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(redacted)")
    }
}

/// A password that is being set, which is not among the most common ones.
#[derive(Debug, Clone)]
pub struct NewPassword(Password);

impl NewPassword {
    /// Parses a new password: as [`Password::parse`], and not in the list of the crate `passwords`, which has the
    /// 100,000 most common. The list is compared with the password as it is given and in lower case, since the first
    /// variation that an attacker tries is a capital letter.
    ///
    /// # Errors
    /// The rule that it breaks.
    pub fn parse(given: &str) -> Result<Self, Rule> {
        let password = Password::parse(given)?;
        let may_be_common = given.chars().count() <= COMMON_MAX;
        if may_be_common && (is_common_password(given) || is_common_password(given.to_lowercase()))
        {
            return Err(Rule::CommonPassword);
        }
        Ok(Self(password))
    }

    /// Returns the password, for hashing it.
    #[must_use]
    pub const fn as_password(&self) -> &Password {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_have_a_minimum_in_characters_and_a_maximum_in_bytes() {
        for parse in
            [|text: &str| Password::parse(text).err(), |text: &str| NewPassword::parse(text).err()]
        {
            assert_eq!(parse("1234567"), Some(Rule::TooShort(8)));
            assert_eq!(parse("ééééé888"), None);
            assert_eq!(parse(&"x".repeat(1024)), None);
            assert_eq!(parse(&"x".repeat(1025)), Some(Rule::TooLong(1024)));
            assert_eq!(parse("1234567\0"), Some(Rule::ControlCharacter));
        }
        for printed in [
            format!("{:?}", Password::parse("correct horse").unwrap()),
            format!("{:?}", NewPassword::parse("correct horse").unwrap()),
        ] {
            assert!(!printed.contains("horse") && printed.contains("redacted"), "{printed}");
        }
    }

    #[test]
    fn a_common_password_cannot_be_set_and_can_still_be_presented() {
        for common in [
            "password",
            "12345678",
            "qwertyuiop",
            "iloveyou1",
            "Password1",
            "PASSWORD1",
            "LiverPool1",
            "d1bd6bc58c1d74df41a957489c9942f5",
        ] {
            assert_eq!(NewPassword::parse(common).err(), Some(Rule::CommonPassword), "{common}");
            assert!(Password::parse(common).is_ok(), "{common}");
        }
    }

    #[test]
    fn the_passwords_of_the_documented_examples_can_be_set() {
        for good in
            ["SecurePass123!", "NewSecurePass456!", "correct horse battery", "пароль из слов"]
        {
            assert!(NewPassword::parse(good).is_ok(), "{good}");
        }
    }
}
