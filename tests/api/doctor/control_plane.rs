//! Each change of the control plane's own tables, made by hand, is found; what an application has in `public` is not.

use super::Fixture;
use crate::support::{Completed, Program, TestDatabase};

/// A change of `public`, and what is found; all of it is a finding about the control plane.
const CHANGES: &[(&str, &[&str])] = &[
    ("DROP INDEX tenants_status_idx", &["table tenants: index tenants_status_idx is missing"]),
    (
        "ALTER TABLE sessions ALTER COLUMN user_id DROP NOT NULL",
        &["table sessions: column user_id: nullability is NULL, should be NOT NULL"],
    ),
    ("ALTER TABLE tenants DROP COLUMN org", &["table tenants: column org is missing"]),
    (
        "ALTER TABLE tenants ALTER COLUMN number DROP DEFAULT",
        &[
            "table tenants: column number: default is none, should be nextval('public.tenant_numbers'::regclass)",
        ],
    ),
    (
        "ALTER TABLE memberships DROP CONSTRAINT memberships_role_check",
        &["table memberships: constraint memberships_role_check is missing"],
    ),
    (
        "ALTER TABLE users ADD COLUMN nickname text",
        &["table users: column nickname is there, and no migration makes it"],
    ),
    (
        "CREATE INDEX extra ON audit_events (details)",
        &["table audit_events: index extra is there, and no migration makes it"],
    ),
    (
        "CREATE FUNCTION spy() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$;
         CREATE TRIGGER spy AFTER INSERT ON users FOR EACH ROW EXECUTE FUNCTION spy()",
        &["table users: trigger spy is there, and no migration makes it"],
    ),
    (
        "ALTER TABLE locks ENABLE ROW LEVEL SECURITY",
        &["table locks: row security is on, should be off"],
    ),
    ("DROP TABLE unlocks", &["table unlocks is missing"]),
    (
        "ALTER SEQUENCE tenant_numbers CACHE 9",
        &["sequence tenant_numbers: definition is bigint start 2 increment 1 minimum 1 maximum \
           9223372036854775807 cache 9, should be bigint start 2 increment 1 minimum 1 maximum \
           9223372036854775807 cache 1"],
    ),
];

/// The sentences about the control plane in the output of a whole examination.
fn about_control_plane(ran: &Completed) -> Vec<String> {
    let report = ran.json();
    let findings = report["findings"].as_array().expect("a report has findings");
    let what = findings.iter().filter_map(|finding| finding["what"].as_str());
    let ours = what.filter_map(|what| what.strip_prefix("the control plane: "));
    ours.map(str::to_owned).collect()
}

#[tokio::test]
async fn a_change_of_the_control_plane_is_found_and_the_exit_code_says_so() {
    for (change, found) in CHANGES {
        let fixture = Fixture::open().await;
        let program = super::command::program(&fixture);
        let before = program.run(&["doctor", "--json"]).expect(0);
        assert_eq!(about_control_plane(&before), Vec::<String>::new());
        fixture.run(change).await;
        let ran = program.run(&["doctor", "--json"]).expect(1);
        let about: Vec<String> = about_control_plane(&ran);
        assert_eq!(about, *found, "{change}: {ran:?}");
    }
}

#[tokio::test]
async fn a_table_that_was_replaced_is_found_although_the_rest_cannot_be_examined() {
    let fixture = Fixture::open().await;
    let program = super::command::program(&fixture);
    fixture
        .run(
            "DROP TABLE users CASCADE;
             CREATE TABLE users (id uuid NOT NULL CONSTRAINT users_pkey PRIMARY KEY, email text NOT NULL)",
        )
        .await;
    let ran = program.run(&["doctor"]).expect(1);
    for words in [
        "the control plane: table users: column password_hash is missing",
        "the control plane: table users: constraint users_email_key is missing",
        "the control plane: table tokens: constraint tokens_user_id_fkey is missing",
        "does not make it again",
    ] {
        assert!(ran.stdout.contains(words), "{words}: {ran:?}");
    }
    fixture.run("DROP TABLE tokens CASCADE").await;
    let ran = program.run(&["doctor"]).expect(1);
    assert!(ran.stdout.contains("the control plane: table tokens is missing"), "{ran:?}");
    assert!(ran.stdout.contains("the rest could not be examined"), "{ran:?}");
}

#[tokio::test]
async fn a_right_and_an_owner_in_the_control_plane_are_found_with_the_statement_that_mends_them() {
    let fixture = Fixture::open().await;
    let program = super::command::program(&fixture);
    let role = format!("reporting_{}", fixture.acme.id.simple());
    fixture.run(&format!("CREATE ROLE {role}")).await;
    for (change, what, mends) in [
        (
            format!("GRANT SELECT ON users TO {role}"),
            format!("table users: {role} has SELECT, and should have no rights"),
            format!("REVOKE ALL ON public.users FROM {role}"),
        ),
        (
            format!("GRANT UPDATE (email) ON users TO {role}"),
            format!("table users: {role} has UPDATE (email), and should have no rights"),
            format!("REVOKE ALL ON public.users FROM {role}"),
        ),
        (
            format!("GRANT USAGE ON SEQUENCE tenant_numbers TO {role}"),
            format!("sequence tenant_numbers: {role} has USAGE, and should have no rights"),
            format!("REVOKE ALL ON SEQUENCE public.tenant_numbers FROM {role}"),
        ),
        (
            format!("ALTER TABLE unlocks OWNER TO {role}"),
            format!("table unlocks: owner is {role}, should be the login of the control plane"),
            "ALTER TABLE public.unlocks OWNER TO ".to_owned(),
        ),
    ] {
        fixture.run(&change).await;
        let ran = program.run(&["doctor", "--json"]).expect(1);
        assert_eq!(about_control_plane(&ran), [what], "{change}: {ran:?}");
        let report = ran.json();
        let findings = report["findings"].as_array().expect("a report has findings");
        let of_it = |it: &&serde_json::Value| it["gravity"] == "wrong" && it["area"] == "rights";
        let next = findings.iter().find(of_it).and_then(|it| it["next"].as_str());
        let statement = next.and_then(|next| next.split_once(": ")).map(|(_, sql)| sql);
        let statement = statement.filter(|sql| sql.starts_with(&mends));
        fixture.run(statement.unwrap_or_else(|| panic!("{mends}: {report}"))).await;
        assert_eq!(about_control_plane(&program.run(&["doctor", "--json"]).expect(0)), [""; 0]);
    }
    fixture.run(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).await;
}

#[tokio::test]
async fn what_an_application_has_in_public_is_not_found() {
    let fixture = Fixture::open().await;
    fixture
        .run(
            "CREATE TABLE plans (id uuid PRIMARY KEY, tenant uuid REFERENCES tenants (id));
             CREATE INDEX plans_tenant_idx ON plans (tenant);
             CREATE VIEW tenant_names AS SELECT name FROM tenants;
             CREATE FUNCTION three() RETURNS int LANGUAGE sql AS 'SELECT 3';
             REVOKE ALL ON FUNCTION three() FROM PUBLIC",
        )
        .await;
    let ran = super::command::program(&fixture).run(&["doctor", "--json"]).expect(0);
    assert_eq!(about_control_plane(&ran), [""; 0], "{ran:?}");
}

/// The case of a baseline that names `public`: whatever lets it through, `doctor` says it.
#[tokio::test]
async fn a_control_plane_that_was_just_made_has_no_findings() {
    let database = TestDatabase::create().await;
    let program = Program::on(&database);
    program.run(&["migrate"]).expect(0);
    assert_eq!(about_control_plane(&program.run(&["doctor", "--json"]).expect(0)), [""; 0]);
}
