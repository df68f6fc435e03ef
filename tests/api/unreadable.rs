//! Files and folders that the program may not read: it says that, and not that there is nothing.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Output;

use crate::support::Program;

/// The account without rights on most systems.
const UNPRIVILEGED: u32 = 65_534;

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).expect("the mode can be changed");
}

/// Runs the program as an account without rights if this test is run by root, whom no mode stops.
fn run(program: &Program, binary: &Path, arguments: &[&str]) -> Output {
    let mut command = program.command(&binary.display().to_string(), arguments);
    let whoami = fs::metadata("/proc/self").expect("there is a process");
    if std::os::unix::fs::MetadataExt::uid(&whoami) == 0 {
        command.uid(UNPRIVILEGED).gid(UNPRIVILEGED);
    }
    command.output().expect("the program starts")
}

#[test]
fn the_program_says_which_file_or_folder_it_may_not_read() {
    let program = Program::embedded().with_traversable_folder();
    let folder = program.folder().to_owned();
    // In a place that every account can reach.
    let binary = folder.join("rowhouse");
    fs::copy(env!("CARGO_BIN_EXE_rowhouse"), &binary).expect("the program can be copied");
    set_mode(&binary, 0o755);
    let (data, set) = (folder.join("data"), folder.join("migrations"));
    fs::create_dir_all(data.join("postgres")).unwrap();
    fs::write(data.join("postgres/PG_VERSION"), "17").unwrap();
    fs::create_dir_all(set.join("old")).unwrap();
    let text = |output: &Output| String::from_utf8_lossy(&output.stderr).into_owned();

    set_mode(&data, 0o000);
    let data_dir = data.display().to_string();
    let listed = run(&program, &binary, &["tenant", "list", "--data-dir", &data_dir]);
    let stderr = text(&listed);
    assert_eq!(listed.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("Permission denied") && stderr.contains(&data_dir), "{stderr}");
    assert!(!stderr.contains("there is no database"), "{stderr}");
    set_mode(&data, 0o755);

    let lint = ["migrate", "--lint", "--tenant-migrations", "migrations"];
    set_mode(&set.join("old"), 0o000);
    let stderr = text(&run(&program, &binary, &lint));
    assert!(stderr.contains("old: ") && stderr.contains("Permission denied"), "{stderr}");
    set_mode(&set.join("old"), 0o755);
    set_mode(&set, 0o000);
    let stderr = text(&run(&program, &binary, &lint));
    assert!(stderr.contains("migrations") && stderr.contains("Permission denied"), "{stderr}");
    set_mode(&set, 0o755);

    let settings = folder.join("rowhouse.toml");
    fs::write(&settings, "[tenants]\nvacancies = 3\n").unwrap();
    set_mode(&settings, 0o000);
    let refused = run(&program, &binary, &["tenant", "list"]);
    let stderr = text(&refused);
    assert_eq!(refused.status.code(), Some(2), "{stderr}");
    assert!(stderr.contains("rowhouse.toml") && stderr.contains("Permission denied"), "{stderr}");
    set_mode(&settings, 0o644);
}
