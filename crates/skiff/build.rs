//! How the binary is linked.

/// Addresses are fixed when the binary is linked. A relocatable one rewrites two megabytes of tables when it starts, in
/// memory of its own: in every shim, and there is one in every pod.
fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-link-arg-bins=-no-pie");
}
