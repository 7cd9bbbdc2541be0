//! How the library is linked.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // Its threads run for as long as the VM does: purging the Erlang module must not unmap what they execute.
    if std::env::var("CARGO_CFG_TARGET_OS").is_ok_and(|system| system == "linux") {
        println!("cargo::rustc-cdylib-link-arg=-Wl,-z,nodelete");
    }
}
