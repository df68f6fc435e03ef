//! A base backup and the archived WAL bring a whole PostgreSQL server back to a moment: `docs/backup.md` has the steps.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::postgres_programs::{as_server, binaries, chown_to_server_user};
use crate::support::Program;

/// A PostgreSQL cluster in a folder, reached by a socket there, that archives its WAL beside it.
struct Cluster {
    folder: PathBuf,
    data: PathBuf,
    is_running: bool,
}

impl Cluster {
    fn at(folder: &Path, name: &str) -> Self {
        Self { folder: folder.to_owned(), data: folder.join(name), is_running: false }
    }

    fn run(&self, program: &str, arguments: &[&str]) {
        let mut command: Command = as_server(&self.folder, &binaries().join(program));
        let output = command.args(arguments).output().expect("the program runs");
        assert!(output.status.success(), "{program} {arguments:?}: {output:?}");
    }

    fn start(&mut self) {
        let options = format!(
            "-c listen_addresses= -c unix_socket_directories={} -c fsync=off -c wal_level=replica -c archive_mode=on \
             -c archive_command='cp %p {}/%f'",
            self.folder.display(),
            self.wal().display()
        );
        let log = self.folder.join("log");
        let (data, log) = (self.data.display().to_string(), log.display().to_string());
        self.run("pg_ctl", &["-D", &data, "-l", &log, "-o", &options, "-w", "-t", "60", "start"]);
        self.is_running = true;
    }

    fn stop(&mut self) {
        let data = self.data.display().to_string();
        self.run("pg_ctl", &["-D", &data, "-m", "fast", "-w", "stop"]);
        self.is_running = false;
    }

    fn wal(&self) -> PathBuf {
        self.folder.join("wal")
    }

    fn url(&self) -> String {
        let socket = self.folder.display().to_string().replace('/', "%2F");
        format!("postgres://owner@{socket}/postgres")
    }

    async fn sql(&self, sql: &str) -> String {
        let client = crate::support::postgres::connect(&self.url()).await;
        client.query_one(sql, &[]).await.expect("the statement runs").get(0)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if self.is_running {
            let data = self.data.display().to_string();
            let mut command = as_server(&self.folder, &binaries().join("pg_ctl"));
            let _ = command.args(["-D", &data, "-m", "immediate", "stop"]).status();
        }
    }
}

fn slugs(program: &Program) -> Vec<String> {
    let listed = program.run(&["tenant", "list", "--json"]).expect(0).json();
    let rows = listed.as_array().expect("the list is an array");
    rows.iter().filter_map(|row| Some(row["slug"].as_str()?.to_owned())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_base_backup_and_the_archive_bring_tenants_and_their_roles_back_to_a_moment() {
    let folder: TempDir = tempfile::Builder::new()
        .prefix("rh-pitr-")
        .tempdir_in("/tmp")
        .expect("a folder can be made");
    chown_to_server_user(folder.path());
    let mut cluster = Cluster::at(folder.path(), "data");
    let (data, base) =
        (cluster.data.display().to_string(), folder.path().join("base").display().to_string());
    cluster.run("initdb", &["-D", &data, "-U", "owner", "-A", "trust", "-E", "UTF8", "--no-sync"]);
    std::fs::create_dir(cluster.wal()).expect("a folder can be made");
    chown_to_server_user(&cluster.wal());
    cluster.start();

    let program = Program::embedded().with("DATABASE_URL", &cluster.url());
    program.run(&["migrate", "--control-plane-only"]).expect(0);
    program.create_tenant("before-the-backup").expect(0);
    let socket = folder.path().display().to_string();
    cluster.run(
        "pg_basebackup",
        &[
            "-h",
            &socket,
            "-U",
            "owner",
            "-D",
            &base,
            "--checkpoint",
            "fast",
            "--wal-method",
            "none",
            "--no-sync",
        ],
    );
    program.create_tenant("before-the-moment").expect(0);
    let moment = cluster.sql("SELECT clock_timestamp()::text").await;
    program.create_tenant("after-the-moment").expect(0);
    assert_eq!(slugs(&program).len(), 3);
    cluster.sql("SELECT pg_switch_wal()::text").await;
    // A fast shutdown archives what is left.
    cluster.stop();

    let mut restored = Cluster::at(folder.path(), "base");
    let settings = format!(
        "restore_command = 'cp {}/%f %p'\nrecovery_target_time = '{moment}'\nrecovery_target_action = 'promote'\n",
        restored.wal().display()
    );
    let auto = restored.data.join("postgresql.auto.conf");
    let before = std::fs::read_to_string(&auto).expect("the base backup has it");
    std::fs::write(&auto, before + &settings).expect("a file can be written");
    let signal = restored.data.join("recovery.signal");
    std::fs::write(&signal, "").expect("a file can be written");
    chown_to_server_user(&signal);
    restored.start();
    // It accepts reads before it has come to the moment, and writes only then.
    for attempt in 0.. {
        assert!(attempt < 600, "the recovery does not end");
        if restored.sql("SELECT pg_is_in_recovery()::text").await == "false" {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    assert_eq!(slugs(&program), ["before-the-backup", "before-the-moment"]);
    program.run(&["doctor"]).expect(0);
    program.run(&["audit", "verify"]).expect(0);
    program.create_tenant("after-the-restore").expect(0);
}
