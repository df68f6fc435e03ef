//! Rebuilds the program when a migration is added; Cargo does not track the folders that a macro reads.

fn main() {
    println!("cargo::rerun-if-changed=tenant_migrations");
    println!("cargo::rerun-if-changed=public_migrations");
}
