use serde_json::{Value, json};
use time::OffsetDateTime;
use uuid::Uuid;

use super::Event;
use super::catalogue::types;
use crate::domain::AuditAction;
use crate::domain::names::TenantId;
use crate::pg::control::audit_chain::Entry;
use crate::pg::control::feed::SealedEvent;

fn stored(action: AuditAction, details: Value) -> SealedEvent {
    let id = Uuid::from_u128(7);
    SealedEvent {
        position: 3,
        seal: vec![1; 32],
        entry: Entry {
            id,
            at: OffsetDateTime::UNIX_EPOCH,
            actor: "root".to_owned(),
            actor_name: None,
            action: action.as_str().to_owned(),
            tenant: Some(TenantId::new(id)),
            tenant_slug: None,
            request_id: "x".to_owned(),
            details,
        },
    }
}

/// Also events of earlier versions, whose details lack what events tell today, and broken ones.
#[test]
fn the_schema_of_a_type_takes_every_event_of_the_type_and_names_every_member_of_it() {
    for info in types() {
        let is_valid = jsonschema::draft202012::options()
            .should_validate_formats(true)
            .build(&info.schema)
            .expect("it is a schema");
        for action in info.kind.actions() {
            for details in [json!({}), json!(null), json!({ "slug": { "from": "a", "to": "b" } })] {
                let event = Event::of(&stored(action, details)).expect("it is of the feed");
                let event = serde_json::to_value(event).expect("it is JSON");
                assert!(is_valid.is_valid(&event), "{action}: {event}");
                let properties = info.schema["properties"]["data"]["properties"].as_object();
                let known = properties.expect("the schema lists the members");
                let data = event["data"].as_object().expect("it is an object");
                assert!(data.keys().all(|key| known.contains_key(key)), "{action}: {event}");
            }
        }
        let text = info.schema.to_string();
        assert!(!text.contains("$ref"), "{}: {text}", info.kind);
    }
}

#[test]
fn the_changes_of_an_event_from_before_are_told_as_those_of_a_new_one() {
    let changes = json!({
        "slug": { "from": "a", "to": "b" }, "org": { "from": null, "to": "c" }, "settings": ["key"],
    });
    let old = Event::of(&stored(AuditAction::TenantUpdate, changes.clone())).unwrap();
    let new = json!({ "changes": changes, "slug": "b", "external_id": "x", "revision": 4 });
    let new = Event::of(&stored(AuditAction::TenantUpdate, new)).unwrap();
    assert_eq!(old.data["changes"], changes);
    assert_eq!(new.data, json!({ "revision": 4, "changes": changes }));
    let tenant = new.tenant.expect("it concerns a tenant");
    assert_eq!((tenant.slug.as_deref(), tenant.external_id.as_deref()), (Some("b"), Some("x")));
    assert_eq!(old.tenant.expect("it concerns a tenant").slug, None);
}
