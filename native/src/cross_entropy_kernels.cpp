// The kernels of cross_entropy, compiled once for each instruction set: see vector.h.
#include "cross_entropy_kernels.h"

#include "vector.h"

namespace receptance::RECEPTANCE_ISA {
namespace {

// 0, 1, 2, ... in the lanes.
template <typename Real>
RECEPTANCE_INLINE Integers<Real> lane_numbers() {
  Integers<Real> numbers{};
  for (int64_t i = 0; i < lanes<Real>; ++i) numbers[i] = static_cast<uint32_t>(i);
  return numbers;
}

// Lanes beyond `count` are minus infinity, which adds nothing to a maximum or a sum of exp.
template <typename Real, typename Element>
RECEPTANCE_INLINE Vector<Real> load_logits(const Element* from, bool whole, int64_t count) {
  const Vector<Real> x = load<Real>(from, whole, count);
  if (whole) return x;
  const Integers<Real> n = Integers<Real>{} + static_cast<uint32_t>(count);
  return lane_numbers<Real>() < n ? x : broadcast<Real>(-__builtin_inf());
}

template <typename Real, typename Element>
LargestLogit<Real> largest(const Element* logits, int64_t V) {
  Vector<Real> best = broadcast<Real>(-__builtin_inf());
  Integers<Real> best_at = lane_numbers<Real>();
  Integers<Real> at = best_at;
  for_each_column<Real>(V,
                        [&](int64_t i, bool whole, int64_t count) __attribute__((always_inline)) {
                          const Vector<Real> x = load_logits<Real>(logits + i, whole, count);
                          const auto is_larger = x > best;
                          best = is_larger ? x : best;
                          best_at = is_larger ? at : best_at;
                          at = at + static_cast<uint32_t>(lanes<Real>);
                        });
  int64_t lane = 0;
  for (int64_t i = 1; i < lanes<Real>; ++i) {
    const bool is_first = best[i] == best[lane] && best_at[i] < best_at[lane];
    if (best[i] > best[lane] || is_first) lane = i;
  }
  // Where every logit is NaN or minus infinity, the lanes still hold where they began.
  const int64_t index = static_cast<int64_t>(best_at[lane]);
  return {best[lane], index < V ? index : 0};
}

template <typename Real, typename Element>
Real sum_of_exp(const Element* logits, Real largest, int64_t V) {
  Vector<Real> sums{};
  for_each_column<Real>(
      V, [&](int64_t i, bool whole, int64_t count) __attribute__((always_inline)) {
        sums = sums + exp<Real>(load_logits<Real>(logits + i, whole, count) - largest);
      });
  return sum_of_lanes<Real>(sums);
}

template <typename Real, typename Element>
void scaled_exp(Element* logits, Real largest, Real factor, int64_t V) {
  for_each_column<Real>(V,
                        [&](int64_t i, bool whole, int64_t count) __attribute__((always_inline)) {
                          const Vector<Real> x = load<Real>(logits + i, whole, count);
                          store<Real>(logits + i, exp<Real>(x - largest) * factor, whole, count);
                        });
}

template <typename Real, typename Element>
constexpr CrossEntropyKernels<Real, Element> cross_entropy = {
    largest<Real, Element>, sum_of_exp<Real, Element>, scaled_exp<Real, Element>};

}  // namespace

extern const CrossEntropyTable cross_entropy_kernels;
const CrossEntropyTable cross_entropy_kernels = {
    cross_entropy<float, float>, cross_entropy<float, bfloat16>, cross_entropy<double, double>};

}  // namespace receptance::RECEPTANCE_ISA
