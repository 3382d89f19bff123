fn main() {
    println!("cargo:rerun-if-changed=src/coverage.c");
    cc::Build::new().file("src/coverage.c").flag("-fno-sanitize-coverage=trace-pc").compile("coverage");
}
