//! Owns the keys by which a person can be found: their kinds, and the form in which they are stored.

use crate::domain::rule::Rule;

/// Longest key or identity, in characters: it must fit an index entry (a third of an 8 KiB page).
pub const KEY_MAX: usize = 512;

/// The kinds of keys by which a person can be found.
#[derive(
    Debug,
    Default,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    strum::EnumString,
    strum::IntoStaticStr,
    strum::VariantArray,
)]
#[strum(serialize_all = "lowercase")]
pub enum KeyKind {
    /// E-mail address; compared in lower case.
    #[default]
    Email,
    /// Log-in name.
    Login,
    /// Telephone number; compared without spaces and punctuation.
    Phone,
    /// Any other name that the application has for the person.
    Custom,
}

impl KeyKind {
    /// Every kind, in order of declaration.
    pub const ALL: &'static [Self] = <Self as strum::VariantArray>::VARIANTS;

    /// Returns the word: the document's field, the column and the mode on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    /// Returns the form in which a key is stored and searched.
    #[must_use]
    pub fn normalize(self, given: &str) -> String {
        match self {
            Self::Email => given.trim().chars().flat_map(fold).collect(),
            Self::Login | Self::Custom => given.trim().to_owned(),
            Self::Phone => {
                given.chars().filter(|c| !c.is_whitespace() && !"-().".contains(*c)).collect()
            }
        }
    }
}

/// The keys of one profile, normalised.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Keys {
    /// E-mail address.
    pub email: Option<String>,
    /// Log-in name.
    pub login: Option<String>,
    /// Telephone number.
    pub phone: Option<String>,
    /// Any other name.
    pub custom: Option<String>,
}

impl Keys {
    /// Returns the keys that are set.
    pub fn iter(&self) -> impl Iterator<Item = (KeyKind, String)> {
        let all = [
            (KeyKind::Email, &self.email),
            (KeyKind::Login, &self.login),
            (KeyKind::Phone, &self.phone),
            (KeyKind::Custom, &self.custom),
        ];
        all.into_iter().filter_map(|(kind, key)| Some((kind, key.clone()?)))
    }
}

/// Reads a key into its stored form; `None` if nothing is left of it.
pub(super) fn parse_key(kind: KeyKind, given: &str) -> Result<Option<String>, Rule> {
    if given.contains('\0') {
        return Err(Rule::ControlCharacter);
    }
    if given.chars().count() > KEY_MAX {
        return Err(Rule::TooLong(KEY_MAX));
    }
    let key = kind.normalize(given);
    Ok((!key.is_empty()).then_some(key))
}

/// Lower-cases a character of an address. A non-ASCII letter whose lower case is ASCII (the Kelvin sign, which
/// becomes k) stays as it is: folded, a look-alike address would become another person's.
fn fold(c: char) -> impl Iterator<Item = char> {
    let crosses = !c.is_ascii() && c.to_lowercase().any(|lower| lower.is_ascii());
    let folded = (!crosses).then(|| c.to_lowercase());
    folded.into_iter().flatten().chain(crosses.then_some(c))
}
