//! Rebuilds the crate when a migration file changes; Cargo does not track the files that a macro reads.

fn main() {
    println!("cargo::rerun-if-changed=public_migrations");
    println!("cargo::rerun-if-changed=tenant_migrations");
}
