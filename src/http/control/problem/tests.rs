//! Who must wait, what is missing, which field is bad: as it goes out.

use std::time::Duration;

use super::*;
use crate::domain::Permission;

fn body(error: Error) -> (u16, Option<String>, serde_json::Value) {
    let answer = Problem(error).error_response();
    let retry_after =
        answer.headers().get(RETRY_AFTER).map(|value| value.to_str().unwrap().to_owned());
    let status = answer.status().as_u16();
    let bytes =
        futures_util::FutureExt::now_or_never(actix_web::body::to_bytes(answer.into_body()));
    (status, retry_after, serde_json::from_slice(&bytes.unwrap().unwrap()).unwrap())
}

#[test]
fn an_error_that_passes_by_itself_has_retry_after() {
    let after = Duration::from_secs(7);
    for (error, status, seconds) in [
        (Error::TooMany { retry_after: after }, 429, "7"),
        (Error::TenantBusy { retry_after: after }, 429, "7"),
        (Error::unavailable("read tenant row", "the secret cause"), 503, "1"),
        (Error::Conflict(Conflict::Concurrent), 409, "1"),
        (Error::Conflict(Conflict::StillRunning), 409, "1"),
    ] {
        let (answered, retry_after, body) = body(error);
        assert_eq!((answered, retry_after.as_deref()), (status, Some(seconds)));
        assert!(!body.to_string().contains("secret"));
    }
    assert_eq!(body(Error::Conflict(Conflict::SlugTaken)).1, None);
}

#[test]
fn missing_permissions_are_listed_for_machines_and_people() {
    let missing = vec![Permission::UpdateTenant, Permission::DeleteTenant];
    let (status, _, body) = body(Error::Forbidden { missing });
    assert_eq!(status, 403);
    assert_eq!(body["missing"], serde_json::json!(["UPDATE_TENANT", "DELETE_TENANT"]));
    assert_eq!(body["detail"], "You would need UPDATE_TENANT, DELETE_TENANT");
}

#[test]
fn fields_that_services_name_become_pointers() {
    for (field, expected) in [
        ("expiresAt", "/expires_at"),
        ("admin/email", "/admin/email"),
        ("?limit", "?limit"),
        ("/a~1b", "/a~1b"),
    ] {
        assert_eq!(pointer(field), expected);
    }
}
