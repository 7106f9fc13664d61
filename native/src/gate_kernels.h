// What one thread does of the gates and of the squared ReLU: the numbers [begin, end). Internal.
#pragma once

#include <cstdint>

#include "receptance/kernels.h"

namespace receptance {

template <typename Real, typename Element>
struct GateKernels {
  void (*gate)(const GateForward<Real, Element>& arrays, int64_t begin, int64_t end);
  void (*gate_back)(const GateBackward<Real, Element>& arrays, int64_t begin, int64_t end);
  void (*gated_add)(const GatedAddForward<Real, Element>& arrays, int64_t begin, int64_t end);
  void (*gated_add_back)(const GatedAddBackward<Real, Element>& arrays, int64_t begin, int64_t end);
  void (*squared_relu)(const SquaredReluForward<Real, Element>& arrays, int64_t begin, int64_t end);
  void (*squared_relu_back)(const SquaredReluBackward<Real, Element>& arrays, int64_t begin,
                            int64_t end);
};

// What one instruction set offers; defined in its own namespace by gate_kernels.cpp.
struct GateTable {
  GateKernels<float, float> f32;
  GateKernels<float, bfloat16> bf16;
  GateKernels<double, double> f64;
};

}  // namespace receptance
