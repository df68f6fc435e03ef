//! Logins, refresh tokens, and forged access tokens.

use std::collections::BTreeMap;

use aws_lc_rs::hmac;
use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures_util::future::join_all;
use reqwest::Method;
use rowhouse::auth::secret_key::SecretKey;
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::callers::send;
use crate::support::{Answer, PASSWORD, SECRET_KEY, Snapshot, TestApp};

const LOGIN: &str = "/api/auth/login";
const REFRESH: &str = "/api/auth/refresh";
const EMAIL: &str = "una@example.com";

async fn log_in(app: &TestApp, identifier: &str, password: &str) -> Answer {
    let body = json!({ "identifier": identifier, "password": password });
    app.anonymous().post(LOGIN, &body).await
}

async fn refresh(app: &TestApp, cookie: &str) -> Answer {
    let request = app.anonymous().request(Method::POST, REFRESH);
    send(request.header("cookie", format!("theme=dark; refreshToken={cookie}"))).await
}

/// Returns the value and the attributes of the cookie that an answer sets.
fn cookie(answer: &Answer) -> (String, BTreeMap<String, String>) {
    let header = answer.header("set-cookie").unwrap_or_else(|| panic!("no cookie in {answer:?}"));
    let mut parts = header.split("; ").map(|part| part.split_once('=').unwrap_or((part, "")));
    let (name, value) = parts.next().expect("a cookie has a name");
    assert_eq!(name, "refreshToken");
    let attributes = parts.map(|(name, value)| (name.to_lowercase(), value.to_owned())).collect();
    (value.to_owned(), attributes)
}

fn access_token(answer: &Answer) -> &str {
    answer.body["accessToken"].as_str().unwrap_or_else(|| panic!("no token in {answer:?}"))
}

/// Returns whether the server accepts a token.
async fn is_accepted(app: &TestApp, token: &str) -> bool {
    let answer = app.bearer(token).get("/api/tenant/mine").await;
    if answer.status != 200 {
        answer.refusal(401);
    }
    answer.status == 200
}

#[tokio::test]
async fn a_login_returns_a_token_the_user_and_a_cookie() {
    let app = TestApp::spawn().await;
    let id = app.add_user(EMAIL, None).await;
    let answer = log_in(&app, "  UNA@example.com ", PASSWORD).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let token = access_token(&answer);
    let user = json!({ "id": id, "email": EMAIL, "firstName": "Una", "lastName": "User" });
    assert_eq!(answer.body, json!({ "accessToken": token, "user": user }));
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    assert!(is_accepted(&app, token).await);

    let (value, attributes) = cookie(&answer);
    assert!(value.starts_with("rhr_"), "{value}");
    let expected =
        [("httponly", ""), ("max-age", "604800"), ("path", "/api/auth"), ("samesite", "Lax")];
    let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(attributes, BTreeMap::from(expected));
    assert!(!is_accepted(&app, &value).await, "a refresh token is not an access token");

    let sql = app.sql().await;
    let row = sql.query_one("SELECT digest FROM refresh_tokens", &[]).await.unwrap();
    let digest = <sha2::Sha256 as sha2::Digest>::digest(value.as_bytes());
    assert_eq!(row.get::<_, &[u8]>(0), &digest[..], "only a digest is stored");
    let event = "SELECT actor FROM audit_events WHERE action = 'session.open'";
    let event = sql.query_one(event, &[]).await.unwrap();
    assert_eq!(event.get::<_, String>(0), format!("user:{id}"));
}

#[tokio::test]
async fn the_cookie_is_secure_if_the_settings_say_so() {
    let app = TestApp::builder().with("auth.cookie_secure", "true").spawn().await;
    app.add_user(EMAIL, None).await;
    let login = log_in(&app, EMAIL, PASSWORD).await;
    let (value, attributes) = cookie(&login);
    assert!(attributes.contains_key("secure"), "{attributes:?}");
    let refreshed = refresh(&app, &value).await;
    assert!(cookie(&refreshed).1.contains_key("secure"));
}

#[tokio::test]
async fn every_failed_login_gets_the_same_answer_after_the_same_work() {
    let app = TestApp::spawn().await;
    app.add_user(EMAIL, None).await;
    app.add_user("nopass@example.com", None).await;
    let sql = app.sql().await;
    let remove = "UPDATE users SET password_hash = NULL WHERE email = 'nopass@example.com'";
    sql.execute(remove, &[]).await.unwrap();
    let before = Snapshot::of(&app).await;
    let long = "x".repeat(254);
    for (identifier, password) in [
        (EMAIL, "WrongPass123!"),
        (EMAIL, "securepass123!"),
        ("unknown@example.com", PASSWORD),
        ("nopass@example.com", PASSWORD),
        ("una", PASSWORD),
        ("una@example.com'; DROP TABLE users; --", PASSWORD),
        ("una@example.com\0", PASSWORD),
        ("%", PASSWORD),
        (&long, PASSWORD),
    ] {
        let hashes = hashes_computed(&app).await;
        let answer = log_in(&app, identifier, password).await;
        assert_eq!(answer.refusal(401), "Invalid email or password", "{identifier}");
        assert_eq!(answer.header("set-cookie"), None);
        assert_eq!(hashes_computed(&app).await, hashes + 1, "{identifier}");
    }
    assert_eq!(Snapshot::of(&app).await, before);
    assert_eq!(log_in(&app, EMAIL, PASSWORD).await.status, 200);
}

async fn hashes_computed(app: &TestApp) -> u64 {
    let metrics = app.anonymous().get("/metrics").await.text;
    let line =
        metrics.lines().find(|line| line.starts_with("rowhouse_password_hashes_computed_total "));
    let count = line.and_then(|line| line.split(' ').nth(1)?.parse().ok());
    count.unwrap_or_else(|| panic!("the hashes are not counted in {metrics}"))
}

#[tokio::test]
async fn a_login_renews_a_hash_with_other_parameters() {
    let app = TestApp::builder().with("auth.hash_iterations", "2").spawn().await;
    app.add_user(EMAIL, None).await; // with one iteration
    assert_eq!(log_in(&app, EMAIL, PASSWORD).await.status, 200);
    let hash = app.sql().await.query_one("SELECT password_hash FROM users", &[]).await.unwrap();
    assert!(hash.get::<_, &str>(0).contains("t=2"));
    assert_eq!(log_in(&app, EMAIL, PASSWORD).await.status, 200);
}

#[tokio::test]
async fn a_refresh_returns_a_new_access_token_and_a_new_cookie() {
    let app = TestApp::spawn().await;
    app.add_user(EMAIL, None).await;
    let login = log_in(&app, EMAIL, PASSWORD).await;
    let (mut value, _) = cookie(&login);
    let mut seen = vec![value.clone()];
    for _ in 0..3 {
        app.clock.advance(time::Duration::days(6));
        let answer = refresh(&app, &value).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(answer.body, json!({ "accessToken": access_token(&answer) }));
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        assert!(is_accepted(&app, access_token(&answer)).await);
        let (fresh, attributes) = cookie(&answer);
        assert_eq!(attributes["max-age"], "604800", "each cookie is valid for a week");
        assert!(!seen.contains(&fresh), "each refresh sets a new cookie");
        seen.push(fresh.clone());
        value = fresh;
    }
    assert!(!is_accepted(&app, access_token(&login)).await, "its 15 minutes are over");
}

#[tokio::test]
async fn reuse_of_a_refresh_cookie_ends_its_session_at_once() {
    let app = TestApp::spawn().await;
    app.add_user(EMAIL, None).await;
    let other_session = log_in(&app, EMAIL, PASSWORD).await;
    let login = log_in(&app, EMAIL, PASSWORD).await;
    let (stolen, _) = cookie(&login);
    let refreshed = refresh(&app, &stolen).await;
    let (current, _) = cookie(&refreshed);
    assert!(
        is_accepted(&app, access_token(&login)).await
            && is_accepted(&app, access_token(&refreshed)).await
    );

    refresh(&app, &stolen).await.refusal(401);

    assert!(!is_accepted(&app, access_token(&login)).await);
    assert!(!is_accepted(&app, access_token(&refreshed)).await);
    refresh(&app, &current).await.refusal(401);
    assert!(is_accepted(&app, access_token(&other_session)).await, "the other session continues");
    let event = "SELECT count(*) FROM audit_events WHERE action = 'session.reuse_detected'";
    let event = app.sql().await.query_one(event, &[]).await.unwrap();
    assert_eq!(event.get::<_, i64>(0), 1);
}

#[tokio::test]
async fn at_most_one_of_several_simultaneous_refreshes_with_one_cookie_succeeds() {
    let app = TestApp::builder().with("database.max_connections", "40").spawn().await;
    app.add_user(EMAIL, None).await;
    for _ in 0..3 {
        let (value, _) = cookie(&log_in(&app, EMAIL, PASSWORD).await);
        let answers = join_all((0..8).map(|_| refresh(&app, &value))).await;
        let good: Vec<_> = answers.iter().filter(|answer| answer.status == 200).collect();
        assert_eq!(good.len(), 1, "{answers:?}");
        for answer in answers.iter().filter(|answer| answer.status != 200) {
            answer.refusal(401);
        }
        assert!(!is_accepted(&app, access_token(good[0])).await, "the session has ended");
    }
}

#[tokio::test]
async fn an_invalid_refresh_cookie_is_refused() {
    let app = TestApp::spawn().await;
    app.add_user(EMAIL, None).await;
    let login = log_in(&app, EMAIL, PASSWORD).await;
    let (value, _) = cookie(&login);
    let missing = app.anonymous().post_raw(REFRESH, "").await;
    missing.refusal(401);
    let long = "x".repeat(3000);
    let swapped = value.to_uppercase();
    for bad in ["", "rhr_", &long, &swapped, access_token(&login), &app.root_token, "\"", "%00"] {
        refresh(&app, bad).await.refusal(401);
    }
    // A refresh token is accepted only in the cookie.
    app.bearer(&value).post_raw(REFRESH, "").await.refusal(401);
    let body = json!({ "refreshToken": value });
    app.anonymous().post(REFRESH, &body).await.refusal(401);
    assert_eq!(refresh(&app, &value).await.status, 200, "none of these requests used it up");
}

#[tokio::test]
async fn tokens_expire_at_the_end_of_their_lifetime() {
    let app = TestApp::spawn().await;
    app.add_user(EMAIL, None).await;
    let login = log_in(&app, EMAIL, PASSWORD).await;
    let (token, (value, _)) = (access_token(&login), cookie(&login));
    app.clock.advance(time::Duration::minutes(15) - time::Duration::seconds(10));
    assert!(is_accepted(&app, token).await);
    app.clock.advance(time::Duration::seconds(45)); // includes the leeway for clock skew
    let answer = app.bearer(token).get("/api/tenant/mine").await;
    assert_eq!(answer.refusal(401), "Unauthorized: the token has expired");

    app.clock.advance(time::Duration::days(7) - time::Duration::minutes(16));
    let answer = refresh(&app, &value).await;
    assert_eq!(answer.status, 200);
    let (value, _) = cookie(&answer);
    app.clock.advance(time::Duration::days(7) + time::Duration::seconds(1));
    refresh(&app, &value).await.refusal(401);
    // A login deletes expired sessions.
    log_in(&app, EMAIL, PASSWORD).await;
    let after = Snapshot::of(&app).await;
    assert_eq!((after.count("sessions"), after.count("refresh_tokens")), (1, 1));
}

#[tokio::test]
async fn a_removed_user_and_a_changed_role_take_effect_at_once() {
    let app = TestApp::spawn().await;
    let tenant = app.set_up("acme").await;
    let login = log_in(&app, &tenant.admin_email, PASSWORD).await;
    let (token, (value, _)) = (access_token(&login), cookie(&login));
    let admin = app.bearer(token);
    assert_eq!(admin.get("/api/tenant").await.status, 200);
    let sql = app.sql().await;
    sql.execute("UPDATE memberships SET role = 'VIEWER'", &[]).await.unwrap();
    assert_eq!(admin.get("/api/tenant").await.refusal(403), "Missing permission: VIEW_TENANTS");
    sql.execute("DELETE FROM users", &[]).await.unwrap();
    assert_eq!(admin.get("/api/tenant").await.refusal(401), "Unauthorized: the token is not valid");
    refresh(&app, &value).await.refusal(401);
    log_in(&app, &tenant.admin_email, PASSWORD).await.refusal(401);
}

#[tokio::test]
async fn the_admin_of_the_settings_can_log_in_and_has_every_permission() {
    let settings = [("admin_email", "boss@example.com"), ("admin_password", "FromSettings1")];
    let app = settings.iter().fold(TestApp::builder(), |app, (key, value)| app.with(key, *value));
    let app = app.spawn().await;
    let login = log_in(&app, "boss@example.com", "FromSettings1").await;
    let boss = app.bearer(access_token(&login));
    assert_eq!(boss.post("/api/tenant/setup", &TestApp::setup_body("acme")).await.status, 201);
    // Each start sets the admin to what the settings say.
    let changed = TestApp::builder().on(app.database.clone());
    let changed =
        changed.with("admin_email", "BOSS@example.com").with("admin_password", "Another-1");
    let second = changed.spawn().await;
    assert_eq!(log_in(&second, "boss@example.com", "Another-1").await.status, 200);
    log_in(&second, "boss@example.com", "FromSettings1").await.refusal(401);
    assert_eq!(Snapshot::of(&second).await.count("users"), 2);
}

#[tokio::test]
async fn servers_on_one_database_accept_each_others_tokens() {
    let one = TestApp::spawn().await;
    let two = TestApp::builder().on(one.database.clone()).spawn().await;
    one.add_user(EMAIL, None).await;
    let login = log_in(&one, EMAIL, PASSWORD).await;
    assert!(is_accepted(&two, access_token(&login)).await);
    let (value, _) = cookie(&login);
    assert_eq!(refresh(&two, &value).await.status, 200);
    let keys = "/.well-known/jwks.json";
    assert_eq!(one.anonymous().get(keys).await.body, two.anonymous().get(keys).await.body);
    assert_eq!(Snapshot::of(&one).await.count("signing_keys"), 1);
    // A session that one server ends is over on the other too.
    refresh(&one, &value).await.refusal(401);
    assert!(!is_accepted(&two, access_token(&login)).await);
}

#[tokio::test]
async fn the_published_keys_verify_an_access_token_and_hold_no_secret() {
    let app = TestApp::spawn().await;
    app.add_user(EMAIL, None).await;
    let login = log_in(&app, EMAIL, PASSWORD).await;
    let token = access_token(&login);
    let set = app.anonymous().get("/.well-known/jwks.json").await;
    assert_eq!(set.header("cache-control"), Some("public, max-age=300"));
    let key = &set.body["keys"][0];
    for (name, value) in [("kty", "OKP"), ("crv", "Ed25519"), ("use", "sig"), ("alg", "EdDSA")] {
        assert_eq!(key[name], value, "{key}");
    }
    assert_eq!(key.get("d"), None, "the private key is published");

    let (message, signature) = token.rsplit_once('.').expect("a token has three parts");
    let (header, claims) = message.split_once('.').expect("a token has three parts");
    let decode = |text: &str| URL_SAFE_NO_PAD.decode(text).expect("it is base64");
    let public = decode(key["x"].as_str().expect("the key has a public part"));
    let public = UnparsedPublicKey::new(&ED25519, public);
    public.verify(message.as_bytes(), &decode(signature)).expect("the published key verifies it");
    let header: Value = serde_json::from_slice(&decode(header)).unwrap();
    assert_eq!(header, json!({ "typ": "at+jwt", "alg": "EdDSA", "kid": key["kid"] }));
    let claims: Value = serde_json::from_slice(&decode(claims)).unwrap();
    let lifetime = claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap();
    assert_eq!((lifetime, claims["iss"].as_str()), (900, Some("rowhouse")));
    assert!(!claims.to_string().contains('@'), "the token contains an e-mail address: {claims}");
}

/// Decrypts a stored signing key with the secret key of the tests.
fn decrypted(kid: &str, wrapped: &[u8]) -> Ed25519KeyPair {
    let secret = SecretKey::parse(SECRET_KEY).expect("the secret key of the tests is long enough");
    let private = secret.unwrap(kid, wrapped).expect("the stored key can be decrypted");
    Ed25519KeyPair::from_pkcs8(private.expose_secret()).expect("the stored key can be read")
}

/// An attacker with the stolen signing key of a server and its secret key, or with another key.
struct Forger {
    key: Ed25519KeyPair,
    kid: String,
    user: Uuid,
    session: Uuid,
    now: i64,
}

impl Forger {
    /// Creates a forger with the server's key and the session of a user who is logged in.
    async fn of(app: &TestApp) -> Self {
        let user = app.add_user(EMAIL, None).await;
        log_in(app, EMAIL, PASSWORD).await;
        let sql = app.sql().await;
        let key = sql.query_one("SELECT kid, private_key FROM signing_keys", &[]).await;
        let session = sql.query_one("SELECT id FROM sessions", &[]).await;
        let (key, session) = (key.expect("there is a key"), session.expect("there is a session"));
        let kid: String = key.get(0);
        Self {
            key: decrypted(&kid, key.get(1)),
            kid,
            user,
            session: session.get(0),
            now: app.clock.now().unix_timestamp(),
        }
    }

    fn header(&self) -> Value {
        json!({ "typ": "at+jwt", "alg": "EdDSA", "kid": self.kid })
    }

    fn claims(&self) -> Value {
        let now = self.now;
        json!({
            "iss": "rowhouse", "aud": "rowhouse", "sub": self.user, "sid": self.session,
            "jti": Uuid::new_v4(), "iat": now, "nbf": now, "exp": now + 900,
        })
    }

    fn sign(&self, header: &Value, claims: &Value) -> String {
        assemble(header, claims, |message| self.key.sign(message).as_ref().to_vec())
    }

    fn with_claim(&self, name: &str, value: impl Into<Value>) -> String {
        let mut claims = self.claims();
        claims[name] = value.into();
        self.sign(&self.header(), &claims)
    }

    fn with_header(&self, name: &str, value: impl Into<Value>) -> String {
        let mut header = self.header();
        header[name] = value.into();
        self.sign(&header, &self.claims())
    }

    fn without_claim(&self, name: &str) -> String {
        let mut claims = self.claims();
        let members = claims.as_object_mut().expect("claims are an object");
        members.remove(name).expect("the claim exists");
        self.sign(&self.header(), &claims)
    }
}

fn assemble(header: &Value, claims: &Value, sign: impl Fn(&[u8]) -> Vec<u8>) -> String {
    let encode = |part: &Value| URL_SAFE_NO_PAD.encode(part.to_string());
    let message = format!("{}.{}", encode(header), encode(claims));
    let signature = URL_SAFE_NO_PAD.encode(sign(message.as_bytes()));
    format!("{message}.{signature}")
}

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "a flat table: one line a forgery")]
async fn no_forged_access_token_is_accepted() {
    let app = TestApp::spawn().await;
    let forger = Forger::of(&app).await;
    let control = forger.sign(&forger.header(), &forger.claims());
    assert!(
        is_accepted(&app, &control).await,
        "a token that the forger signs in the right form is accepted"
    );

    let (message, signature) = control.rsplit_once('.').expect("a token has three parts");
    let public = forger.key.public_key().as_ref();
    let x = URL_SAFE_NO_PAD.encode(public);
    let hs256 = |secret: &[u8]| {
        let mut header = forger.header();
        header["alg"] = "HS256".into();
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
        assemble(&header, &forger.claims(), |m| hmac::sign(&key, m).as_ref().to_vec())
    };
    let mut none = forger.header();
    none["alg"] = "none".into();
    let foreign = Forger {
        key: Ed25519KeyPair::from_pkcs8(
            Ed25519KeyPair::generate_pkcs8v1(&aws_lc_rs::rand::SystemRandom::new())
                .unwrap()
                .as_ref(),
        )
        .unwrap(),
        kid: forger.kid.clone(),
        ..Forger::of(&TestApp::spawn().await).await
    };
    let foreign = Forger { user: forger.user, session: forger.session, ..foreign };
    let mut own_key = foreign.header();
    own_key["jwk"] = json!({ "kty": "OKP", "crv": "Ed25519", "x": x });
    let (now, claims) = (forger.now, forger.claims());
    let tokens = [
        ("expired", forger.with_claim("exp", now - 31)),
        ("a longer life than an access token's", forger.with_claim("exp", now + 901)),
        ("ten years to live", forger.with_claim("exp", now + 315_360_000)),
        ("issued long ago, for long", forger.with_claim("iat", now - 315_360_000)),
        ("issued in the future", forger.with_claim("iat", now + 60)),
        ("no time of issue", forger.without_claim("iat")),
        ("not valid yet", forger.with_claim("nbf", now + 60)),
        ("another issuer", forger.with_claim("iss", "elsewhere")),
        ("another audience", forger.with_claim("aud", "elsewhere")),
        ("an unknown user", forger.with_claim("sub", Uuid::new_v4().to_string())),
        ("an unknown session", forger.with_claim("sid", Uuid::new_v4().to_string())),
        ("a user that is not a UUID", forger.with_claim("sub", "1' OR '1'='1")),
        ("an expiry that is not a number", forger.with_claim("exp", "never")),
        ("an expiry out of range", forger.with_claim("exp", i64::MAX)),
        ("no expiry", forger.without_claim("exp")),
        ("no user", forger.without_claim("sub")),
        ("no session", forger.without_claim("sid")),
        ("no issuer", forger.without_claim("iss")),
        ("no audience", forger.without_claim("aud")),
        ("another type", forger.with_header("typ", "JWT")),
        ("another key id", forger.with_header("kid", "../../etc/passwd")),
        ("extensions", forger.with_header("crit", json!(["exp"]))),
        ("no signature", format!("{message}.")),
        ("a signature cut short", format!("{message}.{}", &signature[..40])),
        ("alg none, unsigned", assemble(&none, &claims, |_| Vec::new())),
        ("alg none, signed", assemble(&none, &claims, |m| forger.key.sign(m).as_ref().to_vec())),
        ("HS256 with the public key", hs256(public)),
        ("HS256 with the public key as text", hs256(x.as_bytes())),
        ("another key under the server's key id", foreign.sign(&foreign.header(), &claims)),
        ("another key embedded in the header", foreign.sign(&own_key, &claims)),
        ("too long", forger.with_claim("x", "x".repeat(8192))),
    ];
    let before = Snapshot::of(&app).await;
    for (what, token) in &tokens {
        assert!(!is_accepted(&app, token).await, "{what} is accepted");
        let setup = app.bearer(token).post("/api/tenant/setup", &TestApp::setup_body("acme")).await;
        setup.refusal(401);
        let challenge = setup.header("www-authenticate").unwrap_or_default();
        assert!(challenge.contains("invalid_token"), "{what}: {challenge}");
    }
    assert_eq!(Snapshot::of(&app).await, before);
}

#[tokio::test]
async fn tokens_of_a_server_on_another_database_are_refused() {
    let (here, there) = (TestApp::spawn().await, TestApp::spawn().await);
    let id = here.add_user(EMAIL, Some("SUPER_ADMIN")).await;
    there.add_user(EMAIL, Some("SUPER_ADMIN")).await;
    // Even for the same e-mail address and the same session id.
    let login = log_in(&there, EMAIL, PASSWORD).await;
    let session: Uuid =
        there.sql().await.query_one("SELECT id FROM sessions", &[]).await.unwrap().get(0);
    let same = "INSERT INTO sessions (id, user_id, created_at) VALUES ($1, $2, now())";
    here.sql().await.execute(same, &[&session, &id]).await.unwrap();
    assert!(
        is_accepted(&there, access_token(&login)).await
            && !is_accepted(&here, access_token(&login)).await
    );
    assert!(!is_accepted(&here, &there.root_token).await);
}

#[tokio::test]
async fn a_malformed_credential_is_refused_and_not_ignored() {
    let app = TestApp::spawn().await;
    for value in [
        "",
        "Bearer",
        "Bearer ",
        "Bearer x",
        "Basic YWRtaW46YWRtaW4=",
        "Token abc",
        "Bearer ..",
        "Bearer 00000000-0000-0000-0000-000000000000",
    ] {
        for path in ["/api/tenant", "/api/tenant/mine"] {
            let request = app.anonymous().request(Method::GET, path).header("authorization", value);
            send(request).await.refusal(401);
        }
    }
    let value = reqwest::header::HeaderValue::from_bytes(b"Bearer \xff\xfe").unwrap();
    let request = app.anonymous().request(Method::GET, "/api/tenant");
    send(request.header("authorization", value)).await.refusal(401);
    // The scheme's name is case-insensitive (RFC 9110, 11.1).
    for scheme in ["bearer", "BEARER"] {
        let value = format!("{scheme} {}", app.root_token.to_uppercase());
        let request = app.anonymous().request(Method::GET, "/api/tenant");
        assert_eq!(send(request.header("authorization", value)).await.status, 200);
    }
}
