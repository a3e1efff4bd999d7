// A test that cannot run here says so: CTest counts it as skipped (SKIP_REGULAR_EXPRESSION),
// and scripts/test lists the reasons.
#pragma once

#include <cstdio>

// Ends the test case. `reason`: what the machine or the user lacks.
#define SKIP_TEST(reason)       \
  do {                          \
    std::puts("SKIP: " reason); \
    return;                     \
  } while (false)
