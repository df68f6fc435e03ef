//! Makes a new migration file a reason to build again; Cargo does not see what a macro has read.

fn main() {
    println!("cargo::rerun-if-changed=public_migrations");
    println!("cargo::rerun-if-changed=tenant_migrations");
}
