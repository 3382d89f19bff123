/* Coverage of C code for libFuzzer. GCC calls a function at each branch; libFuzzer's own of that name refuses to work, so
 * the linker is told to call this one (--wrap). It counts in the section that libFuzzer looks at beside its own counters. */

#include <stdint.h>

/* Where the program begins: addresses relative to it are the same in each run. */
extern char __executable_start;

/* A power of two well above the number of branches of the grammar that inputs reach; some of them share a counter. */
static uint8_t counters[1 << 16] __attribute__((section("__libfuzzer_extra_counters"), used));

__attribute__((no_sanitize_coverage)) void __wrap___sanitizer_cov_trace_pc(void) {
    uintptr_t place = (uintptr_t)__builtin_return_address(0) - (uintptr_t)&__executable_start;
    /* Fibonacci hashing: the upper bits of the product are well mixed. */
    uint8_t *counter = &counters[(place * 0x9E3779B97F4A7C15ull) >> 48];
    *counter += *counter != UINT8_MAX;
}
