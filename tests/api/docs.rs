//! The page that the OpenAPI document is read on: whole, and of this server alone.

use crate::support::documented::operations;
use crate::support::{Program, TestApp};

/// The values of an attribute.
fn attributes<'a>(html: &'a str, name: &str) -> Vec<&'a str> {
    let lead = format!("{name}=\"");
    html.split(lead.as_str()).skip(1).filter_map(|rest| rest.split('"').next()).collect()
}

#[tokio::test]
async fn the_page_and_all_it_is_made_of_come_from_this_server() {
    let app = TestApp::spawn().await;
    let page = app.anonymous().get("/docs").await;
    assert_eq!((page.status, page.header("content-type")), (200, Some("text/html")), "{page:?}");
    let policy = page.header("content-security-policy").expect("the page has a policy");
    assert!(policy.starts_with("default-src 'none'"), "{policy}");
    let files = [attributes(&page.text, "src"), attributes(&page.text, "href")].concat();
    assert!(files.len() >= 5, "the page is made of something: {files:?}");
    for file in files {
        assert!(!file.contains("//"), "{file} is elsewhere");
        let answer = app.anonymous().get(&format!("/{file}")).await;
        assert_eq!(answer.status, 200, "{file}: {answer:?}");
        let media = answer.header("content-type").unwrap_or_default();
        let right = match file.rsplit('.').next() {
            Some("js") => "text/javascript",
            Some("css") => "text/css",
            Some("png") => "image/png",
            other => panic!("{other:?} is an unknown kind of file"),
        };
        assert_eq!(media, right, "{file}");
    }
    let start = app.anonymous().get("/docs/swagger-initializer.js").await.text;
    assert!(start.contains("openapi.json") && !start.contains("petstore"), "{start}");
    assert!(!start.contains("http"), "it loads another host: {start}");
}

#[tokio::test]
async fn nothing_else_is_served_beside_the_page() {
    let app = TestApp::spawn().await;
    for path in ["/docs/", "/docs/nothing.js", "/docs/..%2FCargo.toml", "/docs/%2e%2e"] {
        assert_eq!(app.anonymous().get(path).await.status, 404, "{path}");
    }
}

#[tokio::test]
async fn the_page_begins_with_the_ways_to_make_a_tenant_bearer_first() {
    let app = TestApp::spawn().await;
    let served = app.anonymous().get("/openapi.json").await;
    let document = &served.body;
    let text = document["info"]["description"].as_str().expect("the document has a description");
    let mut at = 0;
    for name in
        ["ensureTenant", "createTenant", "setUpTenant", "createWebflussTenant", "tenantCreate"]
    {
        let of_name = operations().into_iter().find(|one| one.described()["operationId"] == name);
        let operation = of_name.unwrap_or_else(|| panic!("there is no operation {name}"));
        let row = format!("`{} {}` (`{name}`)", operation.method, operation.template);
        let found = text.find(&row).unwrap_or_else(|| panic!("{row} is not in {text}"));
        assert!(found > at, "{row} is in another place");
        at = found;
    }
    let (_, schemes) = served.text.split_once("\"securitySchemes\":{").expect("there are some");
    assert!(schemes.starts_with("\"bearer\":"), "{}", &schemes[..100]);
}

#[tokio::test]
async fn the_control_api_has_a_document_of_its_own_which_the_command_prints_too() {
    let app = TestApp::spawn().await;
    let served = app.anonymous().get("/control/v1/openapi.json").await;
    assert_eq!(served.status, 200, "{served:?}");
    let program = Program::embedded();
    assert_eq!(served.body, program.run(&["openapi", "--tag", "control"]).expect(0).json());
    let whole = app.anonymous().get("/openapi.json").await.body;
    assert_eq!(whole, program.run(&["openapi"]).expect(0).json());
    let older = program.run(&["openapi", "--tag", "control", "--openapi", "3.0"]).expect(0).json();
    assert_eq!(older["openapi"], "3.0.3");
    let wrong = program.run(&["openapi", "--tag", "contro"]).expect(2);
    assert!(wrong.stderr.contains("there are control, tenants, auth"), "{wrong:?}");
    program.run(&["openapi", "--openapi", "2.0"]).expect(2);
}
