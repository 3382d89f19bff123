#include <stdint.h>
extern char __executable_start;
static uint8_t counters[1 << 16] __attribute__((section("__libfuzzer_extra_counters"), used));
__attribute__((no_sanitize_coverage))
void __wrap___sanitizer_cov_trace_pc(void) {
    uintptr_t at = (uintptr_t)__builtin_return_address(0) - (uintptr_t)&__executable_start;
    uint8_t *c = &counters[((at * 0x9E3779B97F4A7C15ull) >> 48)];
    *c += *c != 255;
}
