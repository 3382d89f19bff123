//! Builds what counts the coverage of C code; it must not count itself.

fn main() {
    println!("cargo:rerun-if-changed=src/coverage.c");
    cc::Build::new().file("src/coverage.c").flag("-fno-sanitize-coverage=trace-pc").flag("-O2").compile("coverage");
}
