// Words of 4 bytes of a matrix, and their products. Compiled once for each instruction set: see
// vector.h.
#pragma once

#include <cstdint>

#include "vector.h"

namespace receptance::RECEPTANCE_ISA {

// A word is one number of float32, or two neighbours of bfloat16.
template <typename Element>
inline constexpr int64_t per_word = 4 / sizeof(Element);

// Adds to each lane the products of a word of W with one of x, those of both numbers of bfloat16.
RECEPTANCE_INLINE Vector<float> add_products(float, Words w, Words x, Vector<float> sum) {
  return fma<float>((Vector<float>)w, (Vector<float>)x, sum);
}

RECEPTANCE_INLINE Vector<float> add_products(bfloat16, Words w, Words x, Vector<float> sum) {
#if defined(__AVX512BF16__)
  return _mm512_dpbf16_ps(sum, (__m512bh)w, (__m512bh)x);
#else
  const Words high_half = Words{} + 0xffff0000u;
  sum = fma<float>((Vector<float>)(w << 16), (Vector<float>)(x << 16), sum);
  return fma<float>((Vector<float>)(w & high_half), (Vector<float>)(x & high_half), sum);
#endif
}

}  // namespace receptance::RECEPTANCE_ISA
