//! What the answers of all dialects have in common.

use actix_web::body::to_bytes;
use actix_web::http::header::RETRY_AFTER;

use super::*;
use crate::domain::names::TenantId;
use crate::domain::operation::FleetProblem;
use crate::domain::outage::Outage;

/// A path of each dialect.
const PATHS: [&str; 6] =
    ["/api/tenant", "/v1/tenant", "/v2/UserGet", "/api/tenants/x", "/control/v1/tenants", "/other"];

#[test]
fn a_client_is_told_when_to_ask_again_by_every_429_and_503_of_every_dialect() {
    let outages = [
        Outage::Away,
        Outage::TenantClosed,
        Outage::OutcomeUnknown,
        Outage::NoConnection,
        Outage::LockTimeout,
        Outage::LostRace,
        Outage::ReadOnly,
    ];
    for path in PATHS {
        let outages = outages.map(|why| Error::outage(why, "read tenant row", "the cause"));
        let blocked = FleetProblem::NewTenantsBlocked("a file".to_owned());
        let too_many = Error::TooMany { retry_after: Duration::from_millis(1) };
        let errors = outages.into_iter().chain([too_many, blocked.into()]);
        for error in errors {
            let expected = if matches!(error, Error::TooMany { .. }) { 429 } else { 503 };
            let said = error.to_string();
            let answer = refuse(Served::all(), path, error);
            assert_eq!(answer.status().as_u16(), expected, "{path}: {said}");
            let seconds = answer.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
            let seconds = seconds.and_then(|text| text.parse::<u64>().ok());
            assert!(seconds.is_some_and(|seconds| seconds >= 1), "{path}: {said}");
        }
    }
}

#[actix_web::test]
async fn a_damaged_tenant_has_its_code_in_every_dialect_and_nothing_of_the_cause() {
    for path in ["/api/tenant/mine", "/v2/UserGet", "/v1/user", "/api/tenants", "/control/v1/me"] {
        let (tenant, during) = (TenantId::generate(), "read profile");
        let error = Error::TenantDamaged { tenant, during, source: "relation secret".into() };
        let answer = refuse(Served::all(), path, error);
        assert_eq!(answer.status().as_u16(), 503, "{path}");
        assert!(answer.headers().contains_key("retry-after"), "{path}");
        let body = to_bytes(answer.into_body()).await.expect("it is in memory");
        let body = String::from_utf8_lossy(&body);
        assert!(body.contains("tenant_damaged"), "{path}: {body}");
        assert!(!body.contains("secret") && !body.contains(&tenant.to_string()), "{path}: {body}");
    }
}
