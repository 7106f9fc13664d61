// The kernels of norm_shift_mix, compiled once for each instruction set: see vector.h.
#include "norm_shift_mix_kernels.h"

#include "moments.h"
#include "vector.h"

namespace receptance::RECEPTANCE_ISA {
namespace {

// What stands where a token looks for the one before it.
enum class Before { token, x_last, nothing };

template <typename Real>
RECEPTANCE_INLINE Before before(const NormShiftMixInputs<Real>& arrays, int64_t b, int64_t t) {
  if (arrays.resets != nullptr && arrays.resets[b * arrays.T + t] != 0) return Before::nothing;
  return t == 0 ? Before::x_last : Before::token;
}

// A row of x, to be normalised.
template <typename Real>
struct Row {
  const Real* x;
  Moments<Real> moments;

  // h: normalised, without scale and bias.
  RECEPTANCE_INLINE Vector<Real> h(int64_t channel, bool whole, int64_t count) const {
    return (load<Real>(x + channel, whole, count) - moments.mean) * moments.rstd;
  }
};

// p of the token whose predecessor is `row`.
template <typename Real>
RECEPTANCE_INLINE Vector<Real> previous(Before kind, const Row<Real>& row, const Real* x_last,
                                        Vector<Real> weight, Vector<Real> bias, int64_t channel,
                                        bool whole, int64_t count) {
  if (kind == Before::nothing) return Vector<Real>{};
  if (kind == Before::x_last) return load<Real>(x_last + channel, whole, count);
  return fma<Real>(row.h(channel, whole, count), weight, bias);
}

template <int64_t M, typename Real, typename Element>
RECEPTANCE_INLINE void mix_row(const NormShiftMixForward<Real, Element>& arrays, int64_t b,
                               int64_t t, const Row<Real>& row, const Row<Real>& row_before) {
  const Before kind = before(arrays, b, t);
  const int64_t at = (b * arrays.T + t) * arrays.C;
  const bool is_last = t == arrays.T - 1;
  for_each_column<Real>(
      arrays.C, [&](int64_t channel, bool whole, int64_t count) __attribute__((always_inline)) {
        const Vector<Real> weight = load<Real>(arrays.weight + channel, whole, count);
        const Vector<Real> bias = load<Real>(arrays.bias + channel, whole, count);
        const Vector<Real> n = fma<Real>(row.h(channel, whole, count), weight, bias);
        const Vector<Real> p = previous<Real>(kind, row_before, arrays.x_last + b * arrays.C,
                                              weight, bias, channel, whole, count);
#pragma GCC unroll 4
        for (int64_t m = 0; m < M; ++m) {
          const Vector<Real> mix = load<Real>(arrays.mixes[m] + channel, whole, count);
          store<Real>(arrays.mixed[m] + at + channel, fma<Real>(mix, n - p, p), whole, count);
        }
        if (is_last) store<Real>(arrays.last + b * arrays.C + channel, n, whole, count);
      });
}

template <int64_t M, typename Real, typename Element>
void forward_of(const NormShiftMixForward<Real, Element>& arrays, int64_t b, int64_t begin,
                int64_t end) {
  const int64_t first = b * arrays.T;
  Row<Real> row{}, row_before{};
  if (begin > 0) {
    row.x = arrays.x + (first + begin - 1) * arrays.C;
    row.moments = moments<Real>(row.x, arrays.C, arrays.eps);
  }
  for (int64_t t = begin; t < end; ++t) {
    row_before = row;
    row.x = arrays.x + (first + t) * arrays.C;
    row.moments = moments<Real>(row.x, arrays.C, arrays.eps);
    arrays.mean[first + t] = row.moments.mean;
    arrays.rstd[first + t] = row.moments.rstd;
    mix_row<M>(arrays, b, t, row, row_before);
  }
}

// The row of token t, by what forward found for it.
template <typename Real, typename Element>
RECEPTANCE_INLINE Row<Real> known_row(const NormShiftMixBackward<Real, Element>& arrays, int64_t b,
                                      int64_t t) {
  const int64_t token = b * arrays.T + t;
  return {arrays.x + token * arrays.C, {arrays.mean[token], arrays.rstd[token]}};
}

// sum_mixes (1 - mix) g, for the token at `at`.
template <int64_t M, typename Real, typename Element>
RECEPTANCE_INLINE Vector<Real> to_previous(const NormShiftMixBackward<Real, Element>& arrays,
                                           int64_t at, int64_t channel, bool whole, int64_t count) {
  Vector<Real> sum{};
#pragma GCC unroll 4
  for (int64_t m = 0; m < M; ++m) {
    const Vector<Real> mix = load<Real>(arrays.mixes[m] + channel, whole, count);
    const Vector<Real> g = load<Real>(arrays.grad_mixed[m] + at + channel, whole, count);
    sum = fma<Real>(Real(1) - mix, g, sum);
  }
  return sum;
}

template <typename Real>
RECEPTANCE_INLINE void add(Real* to, Vector<Real> x, bool whole, int64_t count) {
  store<Real>(to, load<Real>(to, whole, count) + x, whole, count);
}

template <int64_t M, typename Real, typename Element>
RECEPTANCE_INLINE void backward_row(const NormShiftMixBackward<Real, Element>& arrays, int64_t b,
                                    int64_t t, Real* sums) {
  const int64_t C = arrays.C, at = (b * arrays.T + t) * C;
  const Before kind = before(arrays, b, t);
  const Row<Real> row = known_row(arrays, b, t);
  const Row<Real> row_before = kind == Before::token ? known_row(arrays, b, t - 1) : row;
  const bool is_last = t == arrays.T - 1;
  const bool is_seen_by_next = !is_last && before(arrays, b, t + 1) == Before::token;
  const bool is_given = is_last && arrays.grad_last != nullptr;
  Real* grad_x = arrays.grad_x + at;  // holds grad_h until its means are known

  Vector<Real> sum_h{}, sum_hh{};
  for_each_column<Real>(
      C, [&](int64_t channel, bool whole, int64_t count) __attribute__((always_inline)) {
        const Vector<Real> weight = load<Real>(arrays.weight + channel, whole, count);
        const Vector<Real> bias = load<Real>(arrays.bias + channel, whole, count);
        const Vector<Real> h = row.h(channel, whole, count);
        const Vector<Real> p = previous<Real>(kind, row_before, arrays.x_last + b * C, weight, bias,
                                              channel, whole, count);
        const Vector<Real> difference = fma<Real>(h, weight, bias) - p;
        Vector<Real> grad_n{};
#pragma GCC unroll 4
        for (int64_t m = 0; m < M; ++m) {
          const Vector<Real> mix = load<Real>(arrays.mixes[m] + channel, whole, count);
          const Vector<Real> g = load<Real>(arrays.grad_mixed[m] + at + channel, whole, count);
          grad_n = fma<Real>(mix, g, grad_n);
          add<Real>(sums + (2 + m) * C + channel, g * difference, whole, count);
        }
        if (is_seen_by_next)
          grad_n = grad_n + to_previous<M>(arrays, at + C, channel, whole, count);
        if (is_given)
          grad_n = grad_n + load<Real>(arrays.grad_last + b * C + channel, whole, count);
        add<Real>(sums + channel, grad_n * h, whole, count);
        add<Real>(sums + C + channel, grad_n, whole, count);
        // Beyond the last channel, weight and all gradients read as 0.
        const Vector<Real> grad_h = grad_n * weight;
        sum_h = sum_h + grad_h;
        sum_hh = fma<Real>(grad_h, h, sum_hh);
        store<Real>(grad_x + channel, grad_h, whole, count);
      });

  const Real mean_h = sum_of_lanes<Real>(sum_h) / static_cast<Real>(C);
  const Real mean_hh = sum_of_lanes<Real>(sum_hh) / static_cast<Real>(C);
  for_each_column<Real>(C, [&](int64_t channel, bool whole,
                               int64_t count) __attribute__((always_inline)) {
    const Vector<Real> grad_h = load<Real>(grad_x + channel, whole, count) - mean_h;
    const Vector<Real> h = row.h(channel, whole, count);
    store<Real>(grad_x + channel,
                row.moments.rstd * fma<Real>(h, broadcast<Real>(-mean_hh), grad_h), whole, count);
  });
}

template <int64_t M, typename Real, typename Element>
void backward_of(const NormShiftMixBackward<Real, Element>& arrays, int64_t b, int64_t begin,
                 int64_t end, Real* sums) {
  if (begin == 0 && begin < end) {
    const bool is_seen = before(arrays, b, 0) == Before::x_last;
    for_each_column<Real>(
        arrays.C, [&](int64_t channel, bool whole, int64_t count) __attribute__((always_inline)) {
          const int64_t at = b * arrays.T * arrays.C;
          store<Real>(arrays.grad_x_last + b * arrays.C + channel,
                      is_seen ? to_previous<M>(arrays, at, channel, whole, count) : Vector<Real>{},
                      whole, count);
        });
  }
  for (int64_t t = begin; t < end; ++t) backward_row<M>(arrays, b, t, sums);
}

template <typename Real, typename Element>
void forward(const NormShiftMixForward<Real, Element>& arrays, int64_t b, int64_t begin,
             int64_t end) {
  arrays.n_mixes == 2 ? forward_of<2>(arrays, b, begin, end) : forward_of<3>(arrays, b, begin, end);
}

template <typename Real, typename Element>
void backward(const NormShiftMixBackward<Real, Element>& arrays, int64_t b, int64_t begin,
              int64_t end, Real* sums) {
  arrays.n_mixes == 2 ? backward_of<2>(arrays, b, begin, end, sums)
                      : backward_of<3>(arrays, b, begin, end, sums);
}

template <typename Real, typename Element>
constexpr NormShiftMixKernels<Real, Element> kernels = {forward<Real, Element>,
                                                        backward<Real, Element>};

}  // namespace

extern const NormShiftMixTable norm_shift_mix_kernels;
const NormShiftMixTable norm_shift_mix_kernels = {kernels<float, float>, kernels<float, bfloat16>,
                                                  kernels<double, double>};

}  // namespace receptance::RECEPTANCE_ISA
