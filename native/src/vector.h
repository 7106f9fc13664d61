// Vectors of numbers as wide as the instruction set's registers, and what the kernels do with them.
//
// This file is compiled once for each instruction set. Everything in it lies in that set's own
// namespace and is inlined, so that no function made of one set's instructions can be linked where
// another's is meant. For the same reason it uses no function of the standard library.
#pragma once

#include <cstdint>

#include "receptance/kernels.h"

#if defined(__AVX2__)
#include <immintrin.h>
#elif defined(RECEPTANCE_NEON)
#include <arm_neon.h>
#endif

#define RECEPTANCE_INLINE [[gnu::always_inline]] inline

namespace receptance::RECEPTANCE_ISA {

#if defined(__AVX512F__)
#define RECEPTANCE_VECTOR_BYTES 64
#elif defined(__AVX2__)
#define RECEPTANCE_VECTOR_BYTES 32
#else
#define RECEPTANCE_VECTOR_BYTES 16
#endif

// The constants of exp: e^x = 2^n e^f with n = round(x / ln 2), f = x - n ln 2 in two steps, and
// e^f = 1 + f + f^2 (c_0 + c_1 f + ...). Polynomials: SLEEF 3.6, xexpf and xexp (Boost license).
template <typename Real>
struct Numbers;

template <>
struct Numbers<float> {
  typedef float Vector __attribute__((vector_size(RECEPTANCE_VECTOR_BYTES)));
  typedef uint32_t Integers __attribute__((vector_size(RECEPTANCE_VECTOR_BYTES)));
  static constexpr float log2_e = 1.4426950408889634f;
  static constexpr float ln2_high = 0.693145751953125f;
  static constexpr float ln2_low = 1.428606765330187045e-06f;
  static constexpr float lowest = -87.33654f;  // e^lowest is the smallest normal number
  static constexpr float round = 12582912.0f;  // x + round has integer steps: 1.5 * 2^23
  static constexpr int mantissa_bits = 23;
  static constexpr float coefficients[] = {0.5f,
                                           0.166666671633720397949219f,
                                           0.0416664853692054748535156f,
                                           0.00833336077630519866943359f,
                                           0.00139304355252534151077271f,
                                           0.000198527617612853646278381f};
};

template <>
struct Numbers<double> {
  typedef double Vector __attribute__((vector_size(RECEPTANCE_VECTOR_BYTES)));
  typedef uint64_t Integers __attribute__((vector_size(RECEPTANCE_VECTOR_BYTES)));
  static constexpr double log2_e = 1.442695040888963407359924681001892137;
  static constexpr double ln2_high = 0.69314718055966295651160180568695068359375;
  static constexpr double ln2_low = 0.28235290563031577122588448175013436025525412068e-12;
  static constexpr double lowest = -708.39641853226408;
  static constexpr double round = 6755399441055744.0;  // 1.5 * 2^52
  static constexpr int mantissa_bits = 52;
  static constexpr double coefficients[] = {0.5,
                                            0.1666666666666669072e+0,
                                            0.4166666666666602598e-1,
                                            0.8333333333314938210e-2,
                                            0.1388888888914497797e-2,
                                            0.1984126989855865850e-3,
                                            0.2480158687479686264e-4,
                                            0.2755723402025388239e-5,
                                            0.2755762628169491192e-6,
                                            0.2511210703042288022e-7,
                                            0.2081276378237164457e-8};
};

template <typename Real>
using Vector = typename Numbers<Real>::Vector;
template <typename Real>
using Integers = typename Numbers<Real>::Integers;

// Numbers in a vector.
template <typename Real>
inline constexpr int64_t lanes = RECEPTANCE_VECTOR_BYTES / sizeof(Real);

template <typename Real>
RECEPTANCE_INLINE Vector<Real> broadcast(Real x) {
  return x - Vector<Real>{};  // x + 0 would turn -0.0 into 0.0
}

// a * b + c, rounded once where the instruction set can. Asked for by name, and the compiler is
// told not to fuse on its own: else the same formula could round differently in two places.
template <typename Real>
RECEPTANCE_INLINE Vector<Real> fma(Vector<Real> a, Vector<Real> b, Vector<Real> c);

#if defined(__AVX512F__)
template <>
RECEPTANCE_INLINE Vector<float> fma<float>(Vector<float> a, Vector<float> b, Vector<float> c) {
  return _mm512_fmadd_ps(a, b, c);
}
template <>
RECEPTANCE_INLINE Vector<double> fma<double>(Vector<double> a, Vector<double> b, Vector<double> c) {
  return _mm512_fmadd_pd(a, b, c);
}
#elif defined(__AVX2__)
template <>
RECEPTANCE_INLINE Vector<float> fma<float>(Vector<float> a, Vector<float> b, Vector<float> c) {
  return _mm256_fmadd_ps(a, b, c);
}
template <>
RECEPTANCE_INLINE Vector<double> fma<double>(Vector<double> a, Vector<double> b, Vector<double> c) {
  return _mm256_fmadd_pd(a, b, c);
}
#elif defined(RECEPTANCE_NEON)
template <>
RECEPTANCE_INLINE Vector<float> fma<float>(Vector<float> a, Vector<float> b, Vector<float> c) {
  return (Vector<float>)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b);
}
template <>
RECEPTANCE_INLINE Vector<double> fma<double>(Vector<double> a, Vector<double> b, Vector<double> c) {
  return (Vector<double>)vfmaq_f64((float64x2_t)c, (float64x2_t)a, (float64x2_t)b);
}
#else
template <typename Real>
RECEPTANCE_INLINE Vector<Real> fma(Vector<Real> a, Vector<Real> b, Vector<Real> c) {
  return a * b + c;
}
#endif

template <typename Real>
RECEPTANCE_INLINE Vector<Real> max(Vector<Real> a, Vector<Real> b) {
  return a > b ? a : b;
}

// -|x|
template <typename Real>
RECEPTANCE_INLINE Vector<Real> negative_abs(Vector<Real> x) {
  return (Vector<Real>)((Integers<Real>)x | (Integers<Real>)broadcast<Real>(-0.0));
}

// e^x for x <= 0; see exp_of_negatives.
template <typename Real>
RECEPTANCE_INLINE Vector<Real> exp(Vector<Real> x) {
  using N = Numbers<Real>;
  const Vector<Real> shifted = fma<Real>(x, broadcast<Real>(N::log2_e), broadcast<Real>(N::round));
  const Vector<Real> n = shifted - N::round;
  Vector<Real> f = fma<Real>(n, broadcast<Real>(-N::ln2_high), x);
  f = fma<Real>(n, broadcast<Real>(-N::ln2_low), f);
  constexpr int degree = sizeof(N::coefficients) / sizeof(Real) - 1;
  Vector<Real> sum = broadcast<Real>(N::coefficients[degree]);
#pragma GCC unroll 16
  for (int i = degree - 1; i >= 0; --i) {
    sum = fma<Real>(sum, f, broadcast<Real>(N::coefficients[i]));
  }
  sum = fma<Real>(f * f, sum, f) + Real(1);
  // The lowest bits of `shifted` are n: adding them to the exponent multiplies by 2^n.
  const Integers<Real> scaled = (Integers<Real>)sum + ((Integers<Real>)shifted << N::mantissa_bits);
  return x < N::lowest ? Vector<Real>{} : (Vector<Real>)scaled;
}

// e^{x - m}, e^{y - m} and m = max(x, y): one of the first two is 1, the other e^{-|x - y|}.
template <typename Real>
struct Shares {
  Vector<Real> x, y, log_scale;
};

template <typename Real>
RECEPTANCE_INLINE Shares<Real> shares(Vector<Real> x, Vector<Real> y) {
  const Vector<Real> difference = x - y;
  const Vector<Real> smaller = exp<Real>(negative_abs<Real>(difference));
  const Vector<Real> one = broadcast<Real>(1);
  const auto x_is_smaller = difference < 0;
  return {x_is_smaller ? smaller : one, x_is_smaller ? one : smaller, max<Real>(x, y)};
}

// 1 / (1 + e^{-x}) and what is left of 1, both to the last digits.
template <typename Real>
struct Logistic {
  Vector<Real> share, rest;
};

template <typename Real>
RECEPTANCE_INLINE Logistic<Real> logistic(Vector<Real> x) {
  const Vector<Real> e = exp<Real>(negative_abs<Real>(x));
  const Vector<Real> larger = Real(1) / (e + Real(1));
  const Vector<Real> smaller = e * larger;
  const auto is_negative = x < 0;
  return {is_negative ? smaller : larger, is_negative ? larger : smaller};
}

// The sum of all lanes, by halves.
template <typename Real>
RECEPTANCE_INLINE Real sum_of_lanes(Vector<Real> x) {
  Real lane[lanes<Real>];
  __builtin_memcpy(lane, &x, sizeof(x));
#pragma GCC unroll 4
  for (int64_t n = lanes<Real> / 2; n > 0; n /= 2) {
    for (int64_t i = 0; i < n; ++i) lane[i] += lane[i + n];
  }
  return lane[0];
}

// x with 0 in all lanes from `count` on.
template <typename Real>
RECEPTANCE_INLINE Vector<Real> first_lanes(Vector<Real> x, int64_t count) {
  Vector<Real> kept{};
  __builtin_memcpy(&kept, &x, count * sizeof(Real));
  return kept;
}

RECEPTANCE_INLINE constexpr int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

// Asks for the memory `bytes` further on to be brought near, which may lie outside of any array.
RECEPTANCE_INLINE void prefetch(const void* from, int64_t bytes) {
  __builtin_prefetch(reinterpret_cast<const void*>(reinterpret_cast<uintptr_t>(from) + bytes));
}

// The same, to be written.
RECEPTANCE_INLINE void prefetch_for_writing(void* to) { __builtin_prefetch(to, 1); }

// ---- Memory: `count` numbers of a vector's lanes, all of them if `whole`. The rest reads as 0. --

template <typename Packed, typename Element>
RECEPTANCE_INLINE Packed load_packed(const Element* from, bool whole, int64_t count) {
  Packed packed{};
  // Two calls, so that the first is one instruction even where `whole` is not known in advance.
  if (whole) {
    __builtin_memcpy(&packed, from, sizeof(Packed));
  } else {
    __builtin_memcpy(&packed, from, count * sizeof(Element));
  }
  return packed;
}

template <typename Packed, typename Element>
RECEPTANCE_INLINE void store_packed(Element* to, Packed packed, bool whole, int64_t count) {
  if (whole) {
    __builtin_memcpy(to, &packed, sizeof(Packed));
  } else {
    __builtin_memcpy(to, &packed, count * sizeof(Element));
  }
}

template <typename Real>
RECEPTANCE_INLINE Vector<Real> load(const Real* from, bool whole, int64_t count) {
  return load_packed<Vector<Real>>(from, whole, count);
}

template <typename Real>
RECEPTANCE_INLINE void store(Real* to, Vector<Real> x, bool whole, int64_t count) {
  store_packed(to, x, whole, count);
}

typedef uint16_t Halves __attribute__((vector_size(RECEPTANCE_VECTOR_BYTES / 2)));
typedef uint32_t Words __attribute__((vector_size(RECEPTANCE_VECTOR_BYTES)));

template <typename Real>
RECEPTANCE_INLINE Vector<Real> load(const bfloat16* from, bool whole, int64_t count) {
  const Halves halves = load_packed<Halves>(from, whole, count);
  return (Vector<float>)(__builtin_convertvector(halves, Words) << 16);
}

// Rounds to the nearest, halves to even.
template <typename Real>
RECEPTANCE_INLINE void store(bfloat16* to, Vector<float> x, bool whole, int64_t count) {
  const Words bits = (Words)x;
  const Words rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  const Words quiet_nan = Words{} + 0x7fc0u;
  const Words half = x == x ? rounded : quiet_nan;
  store_packed(to, __builtin_convertvector(half, Halves), whole, count);
}

// Calls body(channel, whole, count) for each column: the channels that fill one vector.
template <typename Real, typename Body>
RECEPTANCE_INLINE void for_each_column(int64_t C, const Body& body) {
  int64_t channel = 0;
  for (; channel + lanes<Real> <= C; channel += lanes<Real>) body(channel, true, lanes<Real>);
  if (channel < C) body(channel, false, C - channel);
}

}  // namespace receptance::RECEPTANCE_ISA
