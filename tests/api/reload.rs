//! SIGHUP: the log's filter and the limits are read again while the server runs, and what is not valid changes nothing.

use std::path::Path;

use reqwest::Method;
use serde_json::json;

use crate::support::{Caller, PASSWORD, Program, TestDatabase};

const ROOT_TOKEN: &str = "7f6f36c2-7a51-4d3a-8f0e-0a2b6f0b4c11";

fn write(folder: &Path, text: &str) {
    std::fs::write(folder.join("rowhouse.toml"), text).expect("a file can be written");
}

/// Returns how many of some log-ins with a wrong password are refused by a limit.
async fn limited(address: &str, account: &str) -> usize {
    let login = json!({ "identifier": account, "password": PASSWORD });
    let caller = Caller::new(address, None);
    let mut limited = 0;
    for _ in 0..4 {
        limited += usize::from(caller.post("/api/auth/login", &login).await.status == 429);
    }
    limited
}

#[tokio::test]
async fn a_hangup_reads_the_filter_and_the_limits_again_and_what_is_not_valid_changes_nothing() {
    let database = TestDatabase::create().await;
    let program = Program::on(&database).with("ROWHOUSE_ROOT_TOKEN", ROOT_TOKEN);
    let folder = program.folder().to_owned();
    write(
        &folder,
        "[limits]\nlogin_pair = \"1/1\"\nlogin_address = \"0\"\n[log]\nfilter = \"info\"\n",
    );
    let server = program.serve(&[]);
    assert_eq!(limited(&server.address, "one@example.com").await, 3);
    let root = Caller::new(&server.address, Some(ROOT_TOKEN));
    let ask = async |id: &str| {
        let request = root.request(Method::GET, "/api/tenant").header("x-request-id", id);
        let answer = request.send().await.expect("the server answers");
        assert_eq!(answer.status(), 200);
    };
    ask("before-the-hangup").await;

    write(
        &folder,
        "[limits]\nlogin_pair = \"0\"\nlogin_address = \"0\"\n[log]\nfilter = \"info,rowhouse=debug\"\n",
    );
    server.signal("HUP");
    server.stderr_with("read the settings again");
    assert_eq!(limited(&server.address, "one@example.com").await, 0);
    ask("after-the-hangup").await;
    let log = server.stderr_with("after-the-hangup");
    assert!(!log.contains("before-the-hangup"), "{log}");

    for (number, bad) in
        ["[limits]\nlogin_pair = \"many\"\n", "[log]\nfilter = \"rowhouse=loudest\"\n", "[limits\n"]
            .into_iter()
            .enumerate()
    {
        write(&folder, bad);
        server.signal("HUP");
        let mut log = server.stderr_with("the old ones stay in force");
        while log.matches("the old ones stay in force").count() <= number {
            std::thread::sleep(std::time::Duration::from_millis(20));
            log = server.stderr_with("the old ones stay in force");
        }
        assert_eq!(limited(&server.address, &format!("{number}@example.com")).await, 0, "{bad}");
    }
    ask("after-bad-settings").await;
    server.stderr_with("after-bad-settings");
    server.stop("TERM").expect(0);
}

#[tokio::test]
async fn a_limit_that_stays_the_same_keeps_what_it_has_counted() {
    let database = TestDatabase::create().await;
    let program = Program::on(&database);
    let folder = program.folder().to_owned();
    write(&folder, "[limits]\nlogin_pair = \"1/2\"\nlogin_address = \"0\"\n");
    let server = program.serve(&[]);
    assert_eq!(limited(&server.address, "one@example.com").await, 2);
    write(&folder, "[limits]\nlogin_pair = \"1/2\"\nlogin_address = \"1000/1000\"\n");
    server.signal("HUP");
    server.stderr_with("read the settings again");
    assert_eq!(limited(&server.address, "one@example.com").await, 4, "none was forgotten");
    server.stop("TERM").expect(0);
}
