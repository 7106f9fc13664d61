// Sizes: what is done with them outside of the kernels of one instruction set. Internal.
#pragma once

#include <cstdint>

namespace receptance {

constexpr int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
constexpr int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
constexpr int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }

}  // namespace receptance
