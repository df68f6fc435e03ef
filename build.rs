//! Builds anew when a migration file is added: the macro that embeds them does not notice by itself.

fn main() {
    println!("cargo::rerun-if-changed=public_migrations");
    println!("cargo::rerun-if-changed=tenant_migrations");
}
