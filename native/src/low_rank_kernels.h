// What one thread does of a change of low rank, y += B (A x), for one x. Internal.
#pragma once

#include <cstdint>

#include "receptance/rwkv4_step.h"

namespace receptance {

template <typename Element>
struct LowRankKernels {
  // The numbers [begin, end) of A x.
  void (*meet)(const LowRank& change, const Element* x, float* met, int64_t K, int64_t begin,
               int64_t end);

  // Adds B's product with that to the numbers [begin, end) of y, whole panels or up to its last.
  void (*add)(const LowRank& change, const float* met, Element* y, int64_t begin, int64_t end);
};

// What one instruction set offers; defined in its own namespace by low_rank_kernels.cpp.
struct LowRankTable {
  LowRankKernels<float> f32;
  LowRankKernels<bfloat16> bf16;
};

}  // namespace receptance
