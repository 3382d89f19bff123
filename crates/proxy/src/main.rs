//! The binary `highwater`.

use std::process::ExitCode;

/// It gives back what clients needed who are idle now; the system's own keeps it, scattered among what is still in use
/// (docs/performance.md).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    highwater::cli::main()
}
