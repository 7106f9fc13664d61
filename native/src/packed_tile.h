// A tile of a product whose part of W was transposed or copied: the innermost loop over many rows
// of x. Compiled once for each instruction set: see vector.h.
#pragma once

#include <cstdint>

#include "vector.h"
#include "words.h"

namespace receptance::RECEPTANCE_ISA {

// A tile is so many vectors of rows of W by so many rows of x: as many sums as registers hold.
inline constexpr int64_t tile_vectors = RECEPTANCE_VECTOR_BYTES == 64 ? 4 : 2;
inline constexpr int64_t tile_tokens = 6;
inline constexpr int64_t tile_rows = tile_vectors * lanes<float>;

// The same word of n_rows rows of W; 0 for other rows of the tile.
RECEPTANCE_INLINE void copy_rows(const uint32_t* from, int64_t n_rows, Words* to) {
#pragma GCC unroll 4
  for (int64_t v = 0; v < tile_vectors; ++v) {
    const int64_t at = v * lanes<float>, count = smaller(n_rows - at, lanes<float>);
    to[v] = count > 0 ? load_packed<Words>(from + at, count == lanes<float>, count) : Words{};
  }
}

// One word of a row of x, in all lanes. Behind the last column there is nothing to be read.
template <typename Element>
RECEPTANCE_INLINE Words word_of(const Element* x, int64_t count) {
  uint32_t word = 0;
  __builtin_memcpy(&word, x, count * sizeof(Element));
  return Words{} + word;
}

// Adds to `sums`, [TOKENS][tile_rows], the products of the packed words with those of TOKENS rows
// of x.
template <typename Element, int64_t TOKENS>
void tile(const Words* packed, int64_t columns, const Element* x, int64_t K, float* sums,
          bool is_first) {
  Vector<float> sum[TOKENS][tile_vectors];
#pragma GCC unroll 6
  for (int64_t m = 0; m < TOKENS; ++m) {
#pragma GCC unroll 4
    for (int64_t v = 0; v < tile_vectors; ++v) {
      sum[m][v] = is_first ? Vector<float>{}
                           : load<float>(sums + m * tile_rows + v * lanes<float>, true, 0);
    }
  }
  const auto add = [&](int64_t k, int64_t count) __attribute__((always_inline)) {
    Words w[tile_vectors];
#pragma GCC unroll 4
    for (int64_t v = 0; v < tile_vectors; ++v)
      w[v] = packed[k / per_word<Element> * tile_vectors + v];
#pragma GCC unroll 6
    for (int64_t m = 0; m < TOKENS; ++m) {
      const Words word = word_of(x + m * K + k, count);
#pragma GCC unroll 4
      for (int64_t v = 0; v < tile_vectors; ++v) {
        sum[m][v] = add_products(Element{}, w[v], word, sum[m][v]);
      }
    }
  };
  int64_t k = 0;
  for (; k + per_word<Element> <= columns; k += per_word<Element>) add(k, per_word<Element>);
  if (k < columns) add(k, columns - k);
#pragma GCC unroll 6
  for (int64_t m = 0; m < TOKENS; ++m) {
#pragma GCC unroll 4
    for (int64_t v = 0; v < tile_vectors; ++v) {
      store<float>(sums + m * tile_rows + v * lanes<float>, sum[m][v], true, 0);
    }
  }
}

template <typename Element, int64_t TOKENS>
RECEPTANCE_INLINE void tile_of(int64_t n, const Words* packed, int64_t columns, const Element* x,
                               int64_t K, float* sums, bool is_first) {
  if constexpr (TOKENS > 1) {
    if (n < TOKENS) return tile_of<Element, TOKENS - 1>(n, packed, columns, x, K, sums, is_first);
  }
  tile<Element, TOKENS>(packed, columns, x, K, sums, is_first);
}

}  // namespace receptance::RECEPTANCE_ISA
