//! A round trip by the client that openapi-generator made for Rust.

use rowhouse_client::apis::Error;
use rowhouse_client::apis::configuration::Configuration;
use rowhouse_client::apis::control_api::{ensure_tenant, get_tenant, list_tenants, suspend_tenant};
use rowhouse_client::models::{EnsuredTenantBody, TenantStatus};

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let variable = |name| std::env::var(name).expect("the script sets it");
    let configuration = Configuration {
        base_path: variable("URL"),
        bearer_access_token: Some(variable("ROOT_TOKEN")),
        ..Configuration::default()
    };
    let unique = format!(
        "{:?}",
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos()
    );
    let (external_id, slug) = (format!("pr-{unique}"), format!("t-{unique}"));
    let body = || EnsuredTenantBody::new("Round trip".to_owned(), slug.clone());
    let made = ensure_tenant(&configuration, &external_id, body(), None).await.unwrap();
    let again = ensure_tenant(&configuration, &external_id, body(), None).await.unwrap();
    assert_eq!(made.id, again.id);

    let suspended = suspend_tenant(&configuration, &slug, "*").await.unwrap();
    assert_eq!(suspended.status, TenantStatus::Suspended);
    let status = Some(TenantStatus::Suspended);
    let listed =
        list_tenants(&configuration, None, None, status, Some(&slug), None, None, None, None, None)
            .await
            .unwrap();
    assert_eq!(listed.data.iter().map(|tenant| tenant.slug.clone()).collect::<Vec<_>>(), [slug]);
    match get_tenant(&configuration, "nothing-here").await {
        Err(Error::ResponseError(answer)) => assert_eq!(answer.status.as_u16(), 404),
        other => panic!("{other:?}"),
    }
    println!("openapi-generator, rust: a round trip is done");
}
