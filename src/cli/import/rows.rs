//! Reads the CSV file of `tenant import`.

use std::collections::HashMap;
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::cli::end::{parse_length, parse_time};
use crate::cli::ensure::parse_settings;
use crate::cli::failure::sentence;
use crate::cli::{Failure, files};
use crate::domain::names::{Email, ExternalId, Slug, TenantName};
use crate::domain::rule::Rule;
use crate::domain::{Document, End};
use crate::service::provisioning::{Admin, ProvisionTenant};
use crate::service::tenants::upsert::Upsert;

/// The largest file that is read.
const BYTES_MAX: usize = 64 << 20;

/// The columns that a file may have.
const COLUMNS: [&str; 7] =
    ["external_id", "slug", "name", "admin_email", "settings", "expires_in", "expires_at"];

/// How many problems are listed.
const PROBLEMS_MAX: usize = 100;

/// A line of the file.
#[derive(Debug, Clone)]
pub(super) struct Row {
    /// Its number, from 1.
    pub(super) line: u64,
    /// A digest of its text, by which a state file recognises it.
    pub(super) digest: String,
    pub(super) upsert: Upsert,
}

/// Reads a file, or stdin for `-`.
///
/// # Errors
/// Every line that is not right, at once.
pub(super) fn read(file: &Path, restore: bool) -> Result<Vec<Row>, Failure> {
    let text = files::read_text("the file", file, BYTES_MAX)?;
    parse(&text, restore).map_err(|mut problems| {
        let more = problems.len().saturating_sub(PROBLEMS_MAX);
        problems.truncate(PROBLEMS_MAX);
        if more > 0 {
            problems.push(format!("and {more} more"));
        }
        let name = file.display();
        Failure::Usage(problems.into_iter().map(|what| format!("{name}, {what}")).collect())
    })
}

fn parse(text: &str, restore: bool) -> Result<Vec<Row>, Vec<String>> {
    let (mut columns, mut rows, mut problems) = (None, Vec::new(), Vec::new());
    let (mut slugs, mut ids) = (HashMap::new(), HashMap::new());
    for (line, text) in (1_u64..).zip(text.lines()) {
        if text.trim().is_empty() || text.starts_with('#') {
            continue;
        }
        let read = files::split(text).map_err(|reason| vec![reason.to_owned()]);
        let Some(columns) = &columns else {
            // Without them no other line can be read.
            let named = read.and_then(|fields| self::columns(&fields));
            columns = Some(named.map_err(|reasons| at_line(line, reasons))?);
            continue;
        };
        match read.and_then(|fields| row(&fields, columns, line, restore)) {
            Ok(row) => {
                let (slug, id) = (&row.upsert.command.slug, &row.upsert.external_id);
                let mut twice = |what: &str, first: u64| {
                    problems.push(format!("line {line}: {what} is that of line {first} too"));
                };
                if let Some(first) = slugs.insert(slug.to_string(), line) {
                    twice(&format!("the slug {slug}"), first);
                } else if let Some(first) = ids.insert(id.to_string(), line) {
                    twice(&format!("the external id {id}"), first);
                }
                rows.push(row);
            }
            Err(reasons) => problems.extend(at_line(line, reasons)),
        }
    }
    if rows.is_empty() && problems.is_empty() {
        problems.push("no line names a tenant".to_owned());
    }
    if problems.is_empty() { Ok(rows) } else { Err(problems) }
}

fn at_line(line: u64, reasons: Vec<String>) -> Vec<String> {
    reasons.into_iter().map(|what| format!("line {line}: {what}")).collect()
}

/// Returns the columns by their names.
fn columns(header: &[String]) -> Result<HashMap<&'static str, usize>, Vec<String>> {
    let (mut columns, mut problems) = (HashMap::new(), Vec::new());
    for (at, given) in header.iter().enumerate() {
        let known = COLUMNS.iter().find(|name| given == **name);
        match known {
            None => problems.push(format!("{given:?} is not one of {}", COLUMNS.join(", "))),
            Some(name) if columns.insert(*name, at).is_some() => {
                problems.push(format!("the column {name} is named twice"));
            }
            Some(_) => {}
        }
    }
    if problems.is_empty() && !columns.contains_key("slug") {
        problems.push("it must name the columns, and slug is none of them".to_owned());
    }
    if problems.is_empty() { Ok(columns) } else { Err(problems) }
}

fn row(
    record: &[String],
    columns: &HashMap<&'static str, usize>,
    line: u64,
    restore: bool,
) -> Result<Row, Vec<String>> {
    if record.len() != columns.len() {
        return Err(vec![format!(
            "it has {} fields, and there are {} columns",
            record.len(),
            columns.len()
        )]);
    }
    let given = |name: &str| {
        columns
            .get(name)
            .and_then(|at| record.get(*at))
            .map(String::as_str)
            .filter(|field| !field.is_empty())
    };
    let mut problems = Problems(Vec::new());
    let slug_text = given("slug").unwrap_or_default();
    let slug = problems.read("the slug", slug_text, Slug::parse);
    let name = problems.read("the name", given("name").unwrap_or(slug_text), TenantName::parse);
    let id = given("external_id").unwrap_or(slug_text);
    let external_id = problems.read("the external id", id, ExternalId::parse);
    let admin = match given("admin_email") {
        None => Some(Admin::None),
        Some(email) => {
            problems.read("the admin's address", email, Email::parse).map(Admin::Existing)
        }
    };
    let settings = problems.settings(given("settings"));
    let end = problems.end(given("expires_in"), given("expires_at"));
    let upsert = || {
        Some(Upsert {
            external_id: external_id?,
            command: ProvisionTenant::new(name?, slug?, admin?),
            settings: settings?,
            end: end?,
            restore,
        })
    };
    match upsert() {
        Some(upsert) if problems.0.is_empty() => {
            Ok(Row { line, digest: digest(record, columns), upsert })
        }
        _ => Err(problems.0),
    }
}

/// Returns a digest of the fields, which does not depend on the order of the columns.
fn digest(record: &[String], columns: &HashMap<&'static str, usize>) -> String {
    let mut hash = Sha256::new();
    for name in COLUMNS {
        let field = columns.get(name).and_then(|at| record.get(*at)).map_or("", String::as_str);
        hash.update(field.len().to_be_bytes());
        hash.update(field);
    }
    hex::encode(hash.finalize())
}

/// Collects what is wrong with a line.
struct Problems(Vec<String>);

impl Problems {
    fn read<T>(
        &mut self,
        what: &str,
        given: &str,
        parse: impl FnOnce(&str) -> Result<T, Rule>,
    ) -> Option<T> {
        parse(given).map_err(|rule| self.0.push(format!("{what} {}", sentence(rule)))).ok()
    }

    #[expect(clippy::option_option, reason = "the outer one says whether it is right")]
    fn settings(&mut self, given: Option<&str>) -> Option<Option<Document>> {
        let Some(text) = given else { return Some(None) };
        let parsed = crate::domain::json::check(text.as_bytes())
            .map_err(|excess| excess.to_string())
            .and_then(|()| {
                crate::domain::json::Value::parse(text.as_bytes())
                    .map_err(|_no_json| "are not JSON".to_owned())
            })
            .and_then(parse_settings);
        parsed.map_err(|problem| self.0.push(format!("the settings {problem}"))).ok().map(Some)
    }

    #[expect(clippy::option_option, reason = "the outer one says whether it is right")]
    fn end(&mut self, length: Option<&str>, at: Option<&str>) -> Option<Option<End>> {
        match (length, at) {
            (None, None) => Some(None),
            (Some(length), None) => self.read("expires_in", length, parse_length).map(Some),
            (None, Some(at)) => self.read("expires_at", at, parse_time).map(Some),
            (Some(_), Some(_)) => {
                self.0.push("expires_in and expires_at are both given".to_owned());
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(text: &str) -> String {
        parse(text, false).expect_err("it is wrong").join("\n")
    }

    #[test]
    fn a_line_is_a_tenant_whatever_the_order_of_the_columns() {
        let text = "slug, external_id ,name,settings,expires_in,admin_email\r\n\
                    # a note\n\nacme,crm-1,\"Acme, \"\"Ltd\"\"\",\"{\"\"plan\"\": \"\"pro\"\"}\",24h,ada@acme.com\nplain,,,,,\n";
        let rows = parse(text, false).expect("it is right");
        let (first, second) = (&rows[0].upsert, &rows[1].upsert);
        assert_eq!(first.external_id.as_str(), "crm-1");
        assert_eq!(first.command.name.as_str(), "Acme, \"Ltd\"");
        let plan = first.settings.as_ref().and_then(|settings| settings.as_value().get("plan"));
        assert_eq!(plan.and_then(|plan| plan.as_str()), Some("pro"));
        assert_eq!(first.end, Some(End::In(time::Duration::DAY)));
        assert_eq!(first.command.admin.email().unwrap().as_str(), "ada@acme.com");
        assert_eq!((second.external_id.as_str(), second.command.name.as_str()), ("plain", "plain"));
        assert!(second.settings.is_none() && second.end.is_none());
        let other_order = "external_id,slug,name,settings,expires_in,admin_email\n,plain,,,,\n";
        assert_eq!(parse(other_order, false).unwrap()[0].digest, rows[1].digest);
    }

    #[test]
    fn every_wrong_line_is_named_with_its_number() {
        let text = "external_id,slug,settings,expires_in\n1,Acme,,\n2,b,{,\n3,c,,soon\n4,d\n5,e,,\n6,e,,\n5,f,,\n\"7,g,,\n";
        let problems = problems(text);
        for words in [
            "line 2: the slug must consist",
            "line 3: the settings are not JSON",
            "line 4: expires_in must be a duration",
            "line 5: it has 2 fields, and there are 4 columns",
            "line 7: the slug e is that of line 6 too",
            "line 8: the external id 5 is that of line 6 too",
            "line 9: a double quote is not closed",
        ] {
            assert!(problems.contains(words), "{words}: {problems}");
        }
    }

    #[test]
    fn a_file_names_its_columns() {
        for (text, words) in [
            ("", "no line names a tenant"),
            ("external_id,name\n1,x\n", "slug is none of them"),
            ("slug,colour\na,red\n", "\"colour\" is not one of"),
            ("slug,slug\na,b\n", "named twice"),
            ("slug\n", "no line names a tenant"),
        ] {
            assert!(problems(text).contains(words), "{text:?}: {}", problems(text));
        }
    }
}
