//! A base backup and the archived WAL bring a whole PostgreSQL server back to a moment: `docs/backup.md` has the steps.

use crate::postgres_programs::chown_to_server_user;
use crate::support::Program;
use crate::support::own_cluster::{self, Cluster};

fn slugs(program: &Program) -> Vec<String> {
    let listed = program.run(&["tenant", "list", "--json"]).expect(0).json();
    let rows = listed.as_array().expect("the list is an array");
    rows.iter().filter_map(|row| Some(row["slug"].as_str()?.to_owned())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_base_backup_and_the_archive_bring_tenants_and_their_roles_back_to_a_moment() {
    let folder = own_cluster::folder();
    let wal = folder.path().join("wal");
    std::fs::create_dir(&wal).expect("a folder can be made");
    chown_to_server_user(&wal);
    let archives = format!("-c archive_mode=on -c archive_command='cp %p {}/%f'", wal.display());
    let mut cluster = Cluster::at(folder.path(), "data", 5432).with(&archives);
    cluster.create();
    cluster.start();

    let program = Program::embedded().with("DATABASE_URL", &cluster.url());
    program.run(&["migrate", "--control-plane-only"]).expect(0);
    program.create_tenant("before-the-backup").expect(0);
    let mut restored = Cluster::at(folder.path(), "base", 5432).with(&archives);
    restored.create_from(&cluster, &["--wal-method", "none"]);
    program.create_tenant("before-the-moment").expect(0);
    let moment = cluster.sql("SELECT clock_timestamp()::text").await;
    program.create_tenant("after-the-moment").expect(0);
    assert_eq!(slugs(&program).len(), 3);
    cluster.sql("SELECT pg_switch_wal()::text").await;
    // A fast shutdown archives what is left.
    cluster.stop();

    let settings = format!(
        "restore_command = 'cp {}/%f %p'\nrecovery_target_time = '{moment}'\nrecovery_target_action = 'promote'",
        wal.display()
    );
    restored.recover(&settings, "recovery.signal");
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
