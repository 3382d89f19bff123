//! The binary `highwater`.

use std::process::ExitCode;

/// It gives back to the system what clients needed who are idle now, in a thread of its own (docs/performance.md); how soon,
/// `.cargo/config.toml` says.
#[cfg(feature = "jemalloc")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    highwater::cli::main()
}
