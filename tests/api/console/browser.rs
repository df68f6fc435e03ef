//! A client that keeps cookies and sends what a browser sends; it runs no script and follows no redirect by itself.

use reqwest::header::HeaderMap;
use reqwest::redirect::Policy;
use reqwest::{Client, Method, RequestBuilder};
use url::form_urlencoded::Serializer;

use crate::support::{PASSWORD, TestApp};

/// A browser with its cookies.
pub struct Browser {
    address: String,
    client: Client,
}

/// What a browser was answered.
#[derive(Debug)]
pub struct Shown {
    pub status: u16,
    pub headers: HeaderMap,
    pub text: String,
}

impl Shown {
    /// Returns a header as text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// Returns where a redirect leads to.
    #[track_caller]
    pub fn leads_to(&self) -> &str {
        assert_eq!(self.status, 303, "{self:?}");
        self.header("location").expect("a redirect has a location")
    }

    /// Fails unless this is a page; returns it.
    #[track_caller]
    pub fn page(self) -> Self {
        assert_eq!(self.status, 200, "{self:?}");
        assert_eq!(self.header("content-type"), Some("text/html; charset=utf-8"), "{self:?}");
        self
    }

    #[track_caller]
    pub fn shows(&self, text: &str) {
        assert!(self.text.contains(text), "there is no {text:?} in {}", self.text);
    }

    #[track_caller]
    pub fn does_not_show(&self, text: &str) {
        assert!(!self.text.contains(text), "there is {text:?} in {}", self.text);
    }

    /// Returns the value of a hidden field of the page.
    #[track_caller]
    pub fn hidden(&self, name: &str) -> String {
        let start = format!("name=\"{name}\" value=\"");
        let after = self.text.split(&start).nth(1);
        let after = after.unwrap_or_else(|| panic!("there is no field {name} in {}", self.text));
        after.split('"').next().expect("a text has a first part").to_owned()
    }

    /// Returns the text that follows a text, up to another.
    #[track_caller]
    pub fn between(&self, start: &str, end: &str) -> &str {
        let after = self.text.split(start).nth(1);
        let after = after.unwrap_or_else(|| panic!("there is no {start:?} in {}", self.text));
        after.split(end).next().expect("a text has a first part")
    }

    /// Returns the paths of the API that the page names.
    pub fn alternates(&self) -> Vec<String> {
        let links = self.text.split("<link rel=\"alternate\" type=\"application/json\" href=\"");
        let path = |link: &str| link.split('"').next().unwrap_or_default().to_owned();
        links.skip(1).map(|link| unescaped(&path(link))).collect()
    }
}

/// Returns the text of an attribute.
pub fn unescaped(text: &str) -> String {
    text.replace("&#38;", "&")
        .replace("&#60;", "<")
        .replace("&#62;", ">")
        .replace("&#34;", "\"")
        .replace("&#39;", "'")
}

impl Browser {
    pub fn new(app: &TestApp) -> Self {
        let client = Client::builder()
            .cookie_store(true)
            // As in `Caller::new`.
            .tls_certs_only([])
            .redirect(Policy::none())
            .build()
            .expect("a client without TLS can always be built");
        Self { address: app.address.clone(), client }
    }

    /// Returns the same browser, with its cookies, before another server.
    pub fn at(&self, app: &TestApp) -> Self {
        Self { address: app.address.clone(), client: self.client.clone() }
    }

    /// Signs in with the password of every user of the tests.
    pub async fn signed_in(app: &TestApp, email: &str) -> Self {
        let browser = Self::new(app);
        let fields = [("email", email), ("password", PASSWORD)];
        let answer = browser.post("/console/login", &fields).await;
        assert_eq!(answer.leads_to(), "/console", "{answer:?}");
        browser
    }

    /// Signs in with a token.
    pub async fn with_token(app: &TestApp, token: &str) -> Self {
        let browser = Self::new(app);
        let answer = browser.post("/console/login", &[("by", "token"), ("token", token)]).await;
        assert_eq!(answer.leads_to(), "/console", "{answer:?}");
        browser
    }

    /// Builds a request without the headers that a browser adds.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("{}{path}", self.address))
    }

    pub async fn get(&self, path: &str) -> Shown {
        let request = self.request(Method::GET, path);
        send(request.header("sec-fetch-site", "same-origin").header("sec-fetch-mode", "navigate"))
            .await
    }

    pub async fn post(&self, path: &str, fields: &[(&str, &str)]) -> Shown {
        send(self.form(path, fields).header("sec-fetch-site", "same-origin")).await
    }

    /// Builds the request of a form without the headers that tell who sent it.
    pub fn form(&self, path: &str, fields: &[(&str, &str)]) -> RequestBuilder {
        let body = Serializer::new(String::new()).extend_pairs(fields).finish();
        self.request(Method::POST, path)
            .header("content-type", "application/x-www-form-urlencoded")
            .body(body)
    }

    /// Sends a form and follows the redirect to the page that says what was done.
    pub async fn submit(&self, path: &str, fields: &[(&str, &str)]) -> Shown {
        let answer = self.post(path, fields).await;
        let next = answer.leads_to().to_owned();
        self.get(&next).await
    }
}

pub async fn send(request: RequestBuilder) -> Shown {
    let answer = request.send().await.expect("the server answers");
    let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
    let text = answer.text().await.expect("the answer has a body");
    Shown { status, headers, text }
}
