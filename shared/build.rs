//! Builds again when a migration is added: the embedded set is read by a macro that cannot see new files.

fn main() {
    println!("cargo:rerun-if-changed=migrations");
    println!("cargo:rerun-if-changed=migrations/demo");
}
