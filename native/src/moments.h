// The mean and spread of a row, for LayerNorm. Compiled once for each instruction set: see
// vector.h.
#pragma once

#include <cstdint>

#include "vector.h"

namespace receptance::RECEPTANCE_ISA {

// Sums f(channel, whole, count), a vector, over all columns and lanes: in four sums, for one would
// wait for itself.
template <typename Real, typename F>
RECEPTANCE_INLINE Real sum_over(int64_t C, const F& f) {
  Vector<Real> sums[4] = {};
  int64_t channel = 0;
  for (; channel + 4 * lanes<Real> <= C; channel += 4 * lanes<Real>) {
#pragma GCC unroll 4
    for (int64_t i = 0; i < 4; ++i) {
      sums[i] = sums[i] + f(channel + i * lanes<Real>, true, lanes<Real>);
    }
  }
  for (; channel + lanes<Real> <= C; channel += lanes<Real>) {
    sums[0] = sums[0] + f(channel, true, lanes<Real>);
  }
  if (channel < C)
    sums[0] = sums[0] + first_lanes<Real>(f(channel, false, C - channel), C - channel);
  return sum_of_lanes<Real>((sums[0] + sums[1]) + (sums[2] + sums[3]));
}

RECEPTANCE_INLINE float square_root(float x) { return __builtin_sqrtf(x); }
RECEPTANCE_INLINE double square_root(double x) { return __builtin_sqrt(x); }

template <typename Real>
struct Moments {
  Real mean, rstd;
};

// In two passes over the row, which is near after the first: one pass would subtract large squares.
template <typename Real>
RECEPTANCE_INLINE Moments<Real> moments(const Real* x, int64_t C, Real eps) {
  const Real mean =
      sum_over<Real>(C, [&](int64_t channel, bool whole, int64_t count) __attribute__((
                            always_inline)) { return load<Real>(x + channel, whole, count); }) /
      static_cast<Real>(C);
  const Real squares = sum_over<Real>(
      C, [&](int64_t channel, bool whole, int64_t count) __attribute__((always_inline)) {
        const Vector<Real> difference = load<Real>(x + channel, whole, count) - mean;
        return difference * difference;
      });
  return {mean, Real(1) / square_root(squares / static_cast<Real>(C) + eps)};
}

}  // namespace receptance::RECEPTANCE_ISA
