// What one thread does of norm_shift_mix: some tokens of one sequence. Internal.
//
// The equations and letters are those of receptance/kernels.h.
#pragma once

#include <cstdint>

#include "receptance/kernels.h"

namespace receptance {

template <typename Real, typename Element>
struct NormShiftMixKernels {
  // Writes mixed, mean and rstd of the tokens [begin, end) of sequence b, and last with the last of
  // all tokens.
  void (*forward)(const NormShiftMixForward<Real, Element>& arrays, int64_t b, int64_t begin,
                  int64_t end);

  // Writes grad_x of these tokens, and grad_x_last with the first of all; adds to `sums` what they
  // contribute to grad_weight, grad_bias and each of grad_mixes: C numbers of each, in this order.
  void (*backward)(const NormShiftMixBackward<Real, Element>& arrays, int64_t b, int64_t begin,
                   int64_t end, Real* sums);
};

// What one instruction set offers; defined in its own namespace by norm_shift_mix_kernels.cpp.
struct NormShiftMixTable {
  NormShiftMixKernels<float, float> f32;
  NormShiftMixKernels<float, bfloat16> bf16;
  NormShiftMixKernels<double, double> f64;
};

}  // namespace receptance
