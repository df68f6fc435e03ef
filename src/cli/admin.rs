//! The admin whom the flags of a command name: by an address alone, or with the names of an account that may be new.

use clap::Args;
use secrecy::ExposeSecret;

use super::failure::Arguments;
use super::{Failure, password};
use crate::domain::NewPassword;
use crate::domain::names::{Email, PersonName};
use crate::service::provisioning::{Admin, NewAdmin};

/// The flags of an admin who may be new, beside the address.
#[derive(Debug, Args)]
#[expect(clippy::struct_field_names, reason = "a field has the name of its flag")]
pub(super) struct NewAdminFlags {
    /// The given name of an admin who may be new
    #[arg(long, value_name = "NAME", requires = "admin_email", requires = "admin_last_name")]
    admin_first_name: Option<String>,
    /// The family name of an admin who may be new
    #[arg(long, value_name = "NAME", requires = "admin_email", requires = "admin_first_name")]
    admin_last_name: Option<String>,
    /// Read the password of an admin who may be new from the first line of stdin
    #[arg(long, requires = "admin_first_name")]
    pub(super) admin_password_stdin: bool,
}

impl NewAdminFlags {
    /// As [`NamedAdmin::read`], with the names of these flags.
    pub(super) fn read(
        &self,
        arguments: &mut Arguments,
        email: Option<&str>,
    ) -> Option<NamedAdmin> {
        let names = [&self.admin_first_name, &self.admin_last_name];
        let [first, last] = names.map(|name| name.as_deref());
        NamedAdmin::read(arguments, email, first, last)
    }
}

/// An admin whose flags were read, and whose password was not.
pub(super) enum NamedAdmin {
    /// None is named.
    None,
    /// An account that must exist.
    Existing(Email),
    /// An account that is made unless it exists.
    NewOrExisting(Email, PersonName, PersonName),
}

impl NamedAdmin {
    /// Parses the flags; none if one is invalid. The names count only together.
    pub(super) fn read(
        arguments: &mut Arguments,
        email: Option<&str>,
        first_name: Option<&str>,
        last_name: Option<&str>,
    ) -> Option<Self> {
        let email = email.map(|email| arguments.read("--admin-email", email, Email::parse));
        let names = first_name.zip(last_name).map(|(first, last)| {
            let first = arguments.read("--admin-first-name", first, PersonName::parse);
            first.zip(arguments.read("--admin-last-name", last, PersonName::parse))
        });
        Some(match (email, names) {
            (None, _) => Self::None,
            (Some(email), None) => Self::Existing(email?),
            (Some(email), Some(names)) => {
                let (first, last) = names?;
                Self::NewOrExisting(email?, first, last)
            }
        })
    }

    /// Reads the password of an account that may be new: from stdin if the flag is given, else from the environment or a
    /// prompt. After [`Arguments::finish`], so that nothing is asked for in vain.
    ///
    /// # Errors
    /// No password is given, or it is not valid.
    pub(super) async fn with_password(self, from_stdin: bool) -> Result<Admin, Failure> {
        let (email, first_name, last_name) = match self {
            Self::None => return Ok(Admin::None),
            Self::Existing(email) => return Ok(Admin::Existing(email)),
            Self::NewOrExisting(email, first_name, last_name) => (email, first_name, last_name),
        };
        let given = password::of_admin(from_stdin).await?;
        let mut arguments = Arguments::default();
        let password =
            arguments.read("the admin's password", given.expose_secret(), NewPassword::parse);
        let password = arguments.finish(password)?;
        Ok(Admin::NewOrExisting(NewAdmin { email, password, first_name, last_name }))
    }
}
