//! The page that the OpenAPI document is read on: whole, and of this server alone.

use crate::support::TestApp;

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
