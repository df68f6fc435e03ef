//! Reads the file of `tenant adopt --from-file`: lines of `schema,slug[,name[,admin-email]]`, as CSV.

use std::collections::HashSet;
use std::path::Path;

use crate::cli::Failure;
use crate::cli::failure::sentence;
use crate::cli::files::{read_text, split};
use crate::domain::names::{Email, Slug, TenantName};
use crate::service::provisioning::adopt::AdoptSchema;
use crate::service::provisioning::{Admin, ProvisionTenant};

/// The largest file that is read.
const BYTES_MAX: usize = 16 << 20;

/// Reads a file, or stdin for `-`.
///
/// # Errors
/// Every line that is not right, at once.
pub(super) fn read(file: &Path) -> Result<Vec<AdoptSchema>, Failure> {
    let text = read_text("--from-file", file, BYTES_MAX)?;
    parse(&text).map_err(|problems| {
        let name = file.display();
        Failure::Usage(
            problems.into_iter().map(|what| format!("--from-file {name}, {what}")).collect(),
        )
    })
}

fn parse(text: &str) -> Result<Vec<AdoptSchema>, Vec<String>> {
    let (mut commands, mut problems) = (Vec::new(), Vec::new());
    let (mut schemas, mut slugs) = (HashSet::new(), HashSet::new());
    for (at, line) in text.lines().enumerate() {
        let number = at + 1;
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        let fields = match split(line) {
            Ok(fields) => fields,
            Err(reason) => {
                problems.push(format!("line {number}: {reason}"));
                continue;
            }
        };
        if commands.is_empty() && fields.iter().take(2).eq(["schema", "slug"].iter()) {
            continue; // the names of the columns
        }
        match command(&fields) {
            Ok(command) => {
                let slug = command.tenant.slug.to_string();
                if !schemas.insert(command.schema.clone()) {
                    problems.push(format!(
                        "line {number}: the schema {} is named twice",
                        command.schema
                    ));
                } else if !slugs.insert(slug.clone()) {
                    problems.push(format!("line {number}: the slug {slug} is named twice"));
                }
                commands.push(command);
            }
            Err(reasons) => {
                problems.extend(reasons.into_iter().map(|what| format!("line {number}: {what}")));
            }
        }
    }
    if commands.is_empty() && problems.is_empty() {
        problems.push("no line names a schema".to_owned());
    }
    if problems.is_empty() { Ok(commands) } else { Err(problems) }
}

fn command(fields: &[String]) -> Result<AdoptSchema, Vec<String>> {
    let (schema, slug, more) = match fields {
        [schema, slug, more @ ..] if !schema.is_empty() && more.len() <= 2 => (schema, slug, more),
        _ => return Err(vec!["it is not schema,slug[,name[,admin-email]]".to_owned()]),
    };
    let given = |at: usize| more.get(at).filter(|field| !field.is_empty());
    let mut problems = Vec::new();
    let name = TenantName::parse(given(0).unwrap_or(slug));
    let name = name.map_err(|rule| problems.push(format!("the name {}", sentence(rule))));
    let slug = Slug::parse(slug);
    let slug = slug.map_err(|rule| problems.push(format!("the slug {}", sentence(rule))));
    let admin = given(1).map_or(Ok(Admin::None), |email| Email::parse(email).map(Admin::Existing));
    let admin =
        admin.map_err(|rule| problems.push(format!("the admin's address {}", sentence(rule))));
    match (name, slug, admin) {
        (Ok(name), Ok(slug), Ok(admin)) => {
            Ok(AdoptSchema::new(schema.clone(), ProvisionTenant::new(name, slug, admin)))
        }
        _ => Err(problems),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_names_a_schema_and_its_tenant() {
        let text = "schema,slug,name,admin-email\r\n# a note\n\nacme,acme-corp\n\
                    \"odd, name\" , odd , \"Odd, \"\"Ltd\"\"\",ada@odd.test\nplain,plain,,\n";
        let read = parse(text).unwrap();
        let seen: Vec<_> = read
            .iter()
            .map(|command| {
                let email = command.tenant.admin.email().map(ToString::to_string);
                (
                    command.schema.as_str(),
                    command.tenant.slug.as_str(),
                    command.tenant.name.as_str(),
                    email,
                )
            })
            .collect();
        assert_eq!(
            seen,
            [
                ("acme", "acme-corp", "acme-corp", None),
                ("odd, name", "odd", "Odd, \"Ltd\"", Some("ada@odd.test".to_owned())),
                ("plain", "plain", "plain", None),
            ]
        );
    }

    #[test]
    fn every_wrong_line_is_named_at_once() {
        let text =
            "acme\nacme,Acme\nacme,a\nacme,b\nc,a\nd,d,,no address\n\"e,e\na,b,c,d@e.test,f\n";
        let problems = parse(text).unwrap_err().join("\n");
        for words in [
            "line 1: it is not schema,slug",
            "line 2: the slug must consist",
            "line 4: the schema acme is named twice",
            "line 5: the slug a is named twice",
            "line 6: the admin's address must be",
            "line 7: a double quote is not closed",
            "line 8: it is not schema,slug",
        ] {
            assert!(problems.contains(words), "{words}: {problems}");
        }
        assert!(parse("# nothing\n").is_err());
    }
}
