//! Memory, counted: what one input may take at most, and that it gives everything back.
//!
//! Counts what Rust allocates. What C allocates is bounded by the fuzzer's limit on the whole process.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// What may stay behind over a whole run: what is made once, at first use. A leak of one byte in each of ten million
/// inputs is far above.
const KEPT_BYTES_MAX: usize = 1 << 20;

static LIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

#[global_allocator]
static MEMORY: Counted = Counted;

/// The system's allocator, with a count of the bytes that are in use.
struct Counted;

// SAFETY: everything is the system allocator's; counting allocates nothing.
unsafe impl GlobalAlloc for Counted {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        grow(layout.size());
        // SAFETY: the caller's promise, passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Relaxed);
        // SAFETY: the caller's promise, passed on.
        unsafe { System.dealloc(place, layout) }
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        grow(size);
        LIVE.fetch_sub(layout.size(), Relaxed);
        // SAFETY: the caller's promise, passed on.
        unsafe { System.realloc(place, layout, size) }
    }
}

fn grow(size: usize) {
    let live = LIVE.fetch_add(size, Relaxed) + size;
    PEAK.fetch_max(live, Relaxed);
}

/// Runs a check that may use up to `bytes_max` at once and must give all of it back.
pub fn bounded(bytes_max: usize, check: impl FnOnce()) {
    let before = LIVE.load(Relaxed);
    PEAK.store(before, Relaxed);
    check();
    let peak = PEAK.load(Relaxed) - before;
    assert!(peak <= bytes_max, "{peak} bytes in use at once are more than {bytes_max}");
    let kept = LIVE.load(Relaxed);
    assert!(kept <= KEPT_BYTES_MAX, "{kept} bytes stay in use between inputs");
}
