// What one thread does of cross_entropy: one row of logits. Internal.
#pragma once

#include <cstdint>

#include "receptance/kernels.h"

namespace receptance {

template <typename Real>
struct LargestLogit {
  Real value;
  int64_t index;  // the first of equal ones
};

template <typename Real, typename Element>
struct CrossEntropyKernels {
  // The largest of V > 0 logits; any of them if one is NaN.
  LargestLogit<Real> (*largest)(const Element* logits, int64_t V);

  // The sum of e^{l - largest} over V logits; NaN if one is NaN.
  Real (*sum_of_exp)(const Element* logits, Real largest, int64_t V);

  // Replaces each of V logits by factor e^{l - largest}.
  void (*scaled_exp)(Element* logits, Real largest, Real factor, int64_t V);
};

// What one instruction set offers; defined in its own namespace by cross_entropy_kernels.cpp.
struct CrossEntropyTable {
  CrossEntropyKernels<float, float> f32;
  CrossEntropyKernels<float, bfloat16> bf16;
  CrossEntropyKernels<double, double> f64;
};

}  // namespace receptance
