//! What depending on the crate does to a program: nothing but what it asks for. Cargo builds a dependency once for all that
//! need it, with the features of all of them, so a feature that we switch on is switched on for an application too.

use std::process::Command;

use serde_json::Value;

use crate::support::markdown::root;

/// The program of the fixture, which `make example` also builds by itself. These tests depend on the crate and on
/// `serde_json` as it does.
#[expect(clippy::unwrap_used, clippy::print_stdout, reason = "it is a whole program")]
mod program {
    include!("../fixtures/dependent/src/main.rs");

    pub fn run() {
        main();
    }
}

#[test]
fn floats_enums_and_the_order_of_keys_are_what_they_are_without_us() {
    program::run();
}

#[test]
fn no_feature_of_serde_json_is_switched_on_that_changes_what_an_application_reads() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let copy = |from: &str, to: &str, change: &dyn Fn(String) -> String| {
        let text = std::fs::read_to_string(root().join(from)).expect("it can be read");
        std::fs::write(folder.path().join(to), change(text)).expect("it can be written");
    };
    let root_path = format!("path = {:?}", root().display().to_string());
    copy("tests/fixtures/dependent/Cargo.toml", "Cargo.toml", &|text| {
        text.replace("path = \"../../..\"", &root_path)
    });
    copy("Cargo.lock", "Cargo.lock", &|text| text);
    std::fs::create_dir(folder.path().join("src")).expect("a folder can be made");
    copy("tests/fixtures/dependent/src/main.rs", "src/main.rs", &|text| text);
    let cargo = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--offline"])
        .current_dir(folder.path())
        .output()
        .expect("cargo can be run");
    assert!(cargo.status.success(), "{}", String::from_utf8_lossy(&cargo.stderr));
    let metadata: Value = serde_json::from_slice(&cargo.stdout).expect("it is JSON");
    let nodes = metadata["resolve"]["nodes"].as_array().expect("there are packages");
    let of = |name: &str| {
        let named = move |node: &&Value| {
            node["id"].as_str().is_some_and(|id| id.contains(&format!("#{name}@")))
        };
        let found: Vec<&Value> = nodes.iter().filter(named).collect();
        assert_eq!(found.len(), 1, "{name}");
        found[0]["features"].clone()
    };
    let harmless = ["alloc", "default", "raw_value", "std"];
    for feature in of("serde_json").as_array().expect("it has features") {
        assert!(harmless.contains(&feature.as_str().unwrap_or_default()), "{feature}");
    }
}
