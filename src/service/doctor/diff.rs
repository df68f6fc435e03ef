//! Computes how a tenant's schema differs from the one that the migrations make. No I/O.
//!
//! One cause gives one difference: the columns of a missing table are not reported beside the table, nor the rights of
//! a missing role beside the role.

use std::collections::{BTreeMap, BTreeSet};

use crate::pg::catalog::{BETWEEN_RIGHTS, Kind, Object, TENANT};
use crate::pg::rules::RUNTIME_LOGIN;
use crate::pg::schema::repair::{Repair, has_owner};
use crate::service::doctor::report::Area;

/// A definition longer than this is not quoted in a sentence; JSON has all of it.
const QUOTED_MAX: usize = 120;

/// One difference.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::service) struct Difference {
    pub area: Area,
    /// The object that differs.
    pub kind: Kind,
    /// What it belongs to, as in [`Object::parent`].
    pub parent: String,
    pub name: String,
    /// Whether it is missing, there although it should not be, or another.
    pub change: Change,
    /// A sentence without the tenant's name.
    pub what: String,
    pub is: Option<String>,
    pub should: Option<String>,
    /// What repairs it; empty if that would change structure.
    pub repairs: Vec<Repair>,
}

/// How an object differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::service) enum Change {
    Missing,
    Extra,
    Other,
}

type Key<'a> = (Kind, &'a str, &'a str);

/// Returns all differences between what was found and what should be there. Of an additional object for which
/// `is_expected` is true, the rights of roles other than the tenant's are compared as well.
pub(in crate::service) fn compare(
    found: &[Object],
    wanted: &[Object],
    is_expected: impl Fn(Kind, &str) -> bool,
) -> Vec<Difference> {
    let (found, wanted) = (by_key(found), by_key(wanted));
    let keys: BTreeSet<Key<'_>> = found.keys().chain(wanted.keys()).copied().collect();
    let one_sided = |key: &Key<'_>| found.contains_key(key) != wanted.contains_key(key);
    // Objects on one side only, by the name that their parts refer to.
    let on_one_side: BTreeSet<String> = keys
        .iter()
        .filter(|key| key.1.is_empty() && one_sided(key))
        .filter_map(|key| found.get(key).or_else(|| wanted.get(key)))
        .map(|object| object.label())
        .collect();
    let expected: BTreeSet<String> = keys
        .iter()
        .filter(|key| key.1.is_empty() && !wanted.contains_key(key) && is_expected(key.0, key.2))
        .filter_map(|key| found.get(key).map(|object| object.label()))
        .collect();
    let no_role = on_one_side.contains(Kind::Role.as_str());
    let other_columns: BTreeSet<&str> =
        keys.iter().filter(|k| k.0 == Kind::Column && one_sided(k)).map(|k| k.1).collect();
    let mut all: Vec<Difference> = Vec::new();
    for key in keys {
        let (kind, parent, name) = key;
        let is_foreign_right = kind == Kind::Grant
            && ![TENANT, RUNTIME_LOGIN].contains(&name)
            && expected.contains(parent);
        if (on_one_side.contains(parent) && !is_foreign_right) || (no_role && name == TENANT) {
            continue;
        }
        let before = all.len();
        match (found.get(&key), wanted.get(&key)) {
            (Some(found), Some(wanted)) => {
                let columns_differ =
                    kind == Kind::Table && { other_columns.contains(found.label().as_str()) };
                all.extend(properties(found, wanted, columns_differ));
            }
            (Some(object), None) => all.push(extra(object)),
            (None, Some(object)) => all.push(missing(object)),
            (None, None) => {}
        }
        let change = match (found.contains_key(&key), wanted.contains_key(&key)) {
            (true, false) => Change::Extra,
            (false, true) => Change::Missing,
            _ => Change::Other,
        };
        for difference in all.iter_mut().skip(before) {
            (difference.kind, difference.change) = (kind, change);
            (difference.parent, difference.name) = (parent.to_owned(), name.to_owned());
        }
    }
    all
}

fn by_key(objects: &[Object]) -> BTreeMap<Key<'_>, &Object> {
    objects.iter().map(|o| ((o.kind, o.parent.as_str(), o.name.as_str()), o)).collect()
}

/// The object and its place, such as `table profiles: column email`.
fn subject(object: &Object) -> String {
    if object.parent.is_empty() {
        object.label()
    } else {
        format!("{}: {}", object.parent, object.label())
    }
}

fn missing(wanted: &Object) -> Difference {
    match wanted.kind {
        Kind::Role => {
            rights_of("the tenant's role is missing".to_owned(), vec![Repair::CreateRole])
        }
        Kind::Member => rights_of(
            format!("{} cannot become the tenant's role", wanted.name),
            if wanted.name == RUNTIME_LOGIN {
                vec![Repair::GrantToRuntimeLogin]
            } else {
                Vec::new()
            },
        ),
        Kind::Grant | Kind::DefaultGrant => rights(wanted, "", &wanted.properties[0]),
        _ => structure(format!("{} is missing", subject(wanted))),
    }
}

fn extra(found: &Object) -> Difference {
    match found.kind {
        Kind::Member => rights_of(
            format!("{} can become the tenant's role", found.name),
            vec![Repair::RevokeMember(found.name.clone())],
        ),
        Kind::Membership => rights_of(
            format!("the tenant's role can become {}", found.name),
            vec![Repair::RevokeMembership(found.name.clone())],
        ),
        Kind::Grant | Kind::DefaultGrant => rights(found, &found.properties[0], ""),
        _ => structure(format!("{} is there, and no migration makes it", subject(found))),
    }
}

/// The differences of an object that is on both sides.
fn properties(found: &Object, wanted: &Object, columns_differ: bool) -> Vec<Difference> {
    let names = found.kind.properties();
    let pairs = names.iter().zip(found.properties.iter().zip(&wanted.properties));
    pairs
        .filter(|(_, (is, should))| is != should)
        .filter(|(name, _)| !(columns_differ && **name == "order of columns"))
        .map(|(name, (is, should))| match found.kind {
            Kind::Grant | Kind::DefaultGrant => rights(found, is, should),
            Kind::Role => {
                let kept: Vec<&str> = should.split(", ").collect();
                let gained: Vec<&str> = is
                    .split(", ")
                    .filter(|word| !word.is_empty() && !kept.contains(word))
                    .collect();
                let gained = gained.join(", ");
                let what = format!("the tenant's role is {gained}");
                rights_of(what, vec![Repair::RevokeAttributes(gained)])
            }
            Kind::Member => rights_of(
                format!(
                    "{} can become the tenant's role: {name} are {is}, should be {should}",
                    found.name
                ),
                if found.name == RUNTIME_LOGIN {
                    vec![Repair::GrantToRuntimeLogin]
                } else {
                    Vec::new()
                },
            ),
            kind if *name == "owner" && has_owner(found) => Difference {
                is: Some(is.clone()),
                should: Some(should.clone()),
                ..rights_of(
                    format!(
                        "{}: owner is {}, should be {}",
                        subject(found),
                        owner(is),
                        owner(should)
                    ),
                    vec![Repair::SetOwner {
                        kind,
                        name: found.name.clone(),
                        owner: Some(should.clone()).filter(|owner| !owner.is_empty()),
                    }],
                )
            },
            _ => differs(&subject(found), name, is, should),
        })
        .collect()
}

fn differs(subject: &str, property: &str, is: &str, should: &str) -> Difference {
    let quote = |text: &str| match text {
        "" => Some("none".to_owned()),
        text if text.len() <= QUOTED_MAX && !text.contains('\n') => Some(text.to_owned()),
        _ => None,
    };
    let what = match (quote(is), quote(should)) {
        (Some(is), Some(should)) => format!("{subject}: {property} is {is}, should be {should}"),
        _ => format!("{subject}: {property} differs"),
    };
    Difference { is: Some(is.to_owned()), should: Some(should.to_owned()), ..structure(what) }
}

/// The difference between the rights that a role has on an object, or will have on future objects, and those that it
/// should have.
fn rights(object: &Object, is: &str, should: &str) -> Difference {
    let (on, role) = (object.parent.clone(), object.name.clone());
    let grantee = if role == TENANT { "the tenant's role" } else { role.as_str() };
    let words = |rights: &str| match rights {
        "" => "no rights".to_owned(),
        rights => rights.split(BETWEEN_RIGHTS).collect::<Vec<_>>().join(", "),
    };
    let (place, tense) = match object.kind {
        Kind::DefaultGrant => (format!("future {on}"), "will have"),
        _ => (on.clone(), "has"),
    };
    let what =
        format!("{place}: {grantee} {tense} {}, and should have {}", words(is), words(should));
    let rights = should.to_owned();
    let repair = match object.kind {
        Kind::DefaultGrant => Repair::DefaultGrant { on, role, rights },
        _ => Repair::Grant { on, role, rights },
    };
    Difference { is: Some(words(is)), should: Some(words(should)), ..rights_of(what, vec![repair]) }
}

fn owner(name: &str) -> &str {
    if name.is_empty() { "the login of the control plane" } else { name }
}

fn structure(what: String) -> Difference {
    Difference { area: Area::Structure, ..rights_of(what, Vec::new()) }
}

fn rights_of(what: String, repairs: Vec<Repair>) -> Difference {
    // `compare` sets what the difference is about.
    let (parent, name) = (String::new(), String::new());
    let (kind, change) = (Kind::Other, Change::Other);
    let (is, should) = (None, None);
    Difference { area: Area::Rights, kind, parent, name, change, what, is, should, repairs }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(kind: Kind, parent: &str, name: &str, properties: &[&str]) -> Object {
        Object {
            kind,
            parent: parent.to_owned(),
            name: name.to_owned(),
            properties: properties.iter().map(|p| (*p).to_owned()).collect(),
        }
    }

    fn expected() -> Vec<Object> {
        vec![
            object(Kind::Schema, "", "", &[""]),
            object(Kind::Role, "", "", &[""]),
            object(Kind::Member, "role", RUNTIME_LOGIN, &["SET"]),
            object(Kind::Table, "", "notes", &["", "plain", "", "off", "id, body"]),
            object(Kind::Column, "table notes", "id", &["uuid", "NOT NULL", "", "", ""]),
            object(Kind::Column, "table notes", "body", &["text", "NULL", "", "", ""]),
            object(Kind::Grant, "table notes", TENANT, &["INSERT\u{1e}SELECT"]),
            object(Kind::Grant, "schema", TENANT, &["USAGE"]),
        ]
    }

    fn sentences(found: &[Object]) -> Vec<String> {
        compare(found, &expected(), |_, _| false)
            .into_iter()
            .map(|difference| difference.what)
            .collect()
    }

    #[test]
    fn the_order_of_objects_makes_no_difference() {
        let mut found = expected();
        found.reverse();
        assert_eq!(compare(&found, &expected(), |_, _| false), []);
    }

    #[test]
    fn a_missing_table_gives_one_difference() {
        let mut found = expected();
        found.retain(|object| object.name != "notes" && object.parent != "table notes");
        assert_eq!(sentences(&found), ["table notes is missing"]);
    }

    #[test]
    fn a_missing_role_gives_one_difference() {
        let mut found = expected();
        found.retain(|o| o.kind != Kind::Role && o.parent != "role" && o.name != TENANT);
        assert_eq!(sentences(&found), ["the tenant's role is missing"]);
    }

    #[test]
    fn a_missing_column_does_not_change_the_order_of_the_others() {
        let mut found = expected();
        found.retain(|object| object.name != "body");
        found[3].properties[4] = "id".to_owned();
        assert_eq!(sentences(&found), ["table notes: column body is missing"]);
        let mut swapped = expected();
        swapped[3].properties[4] = "body, id".to_owned();
        assert_eq!(
            sentences(&swapped),
            ["table notes: order of columns is body, id, should be id, body"]
        );
    }

    #[test]
    fn the_rights_of_other_roles_on_an_expected_object_are_compared() {
        let mut found = expected();
        found.push(object(Kind::Table, "", "events_1", &["", "plain", "", "off", "id"]));
        found.push(object(Kind::Grant, "table events_1", TENANT, &["INSERT"]));
        found.push(object(Kind::Grant, "table events_1", "PUBLIC", &["SELECT"]));
        let is_expected = |kind: Kind, name: &str| kind == Kind::Table && name == "events_1";
        let differences = compare(&found, &expected(), is_expected);
        let sentences: Vec<&str> = differences.iter().map(|d| d.what.as_str()).collect();
        assert_eq!(
            sentences,
            [
                "table events_1 is there, and no migration makes it",
                "table events_1: PUBLIC has SELECT, and should have no rights",
            ]
        );
        assert_eq!(differences[0].change, Change::Extra);
        assert_eq!((differences[0].kind, differences[0].name.as_str()), (Kind::Table, "events_1"));
    }

    #[test]
    fn missing_and_extra_rights_can_be_repaired() {
        let mut found = expected();
        found[6].properties[0] = "SELECT".to_owned();
        found.push(object(Kind::Grant, "schema", "PUBLIC", &["USAGE"]));
        let differences = compare(&found, &expected(), |_, _| false);
        let sentences: Vec<&str> = differences.iter().map(|d| d.what.as_str()).collect();
        assert_eq!(
            sentences,
            [
                "schema: PUBLIC has USAGE, and should have no rights",
                "table notes: the tenant's role has SELECT, and should have INSERT, SELECT",
            ]
        );
        assert!(differences.iter().all(|d| d.repairs.len() == 1 && d.area == Area::Rights));
    }
}
