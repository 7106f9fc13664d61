// The product of many rows with a matrix of float32 or bfloat16, compiled once for each instruction
// set: see vector.h.
//
// A lane of a vector is a row of W. So that it can be, some rows and columns of W at a time are
// transposed into scratch, where they stay near while all of x passes: one shuffle or two for the
// hundreds of products that each number enters. Columns are added from left to right: a number of y
// has one order of summation, whatever the tile that it is computed in.
#include "products_kernels.h"
#include "vector.h"

namespace receptance::RECEPTANCE_ISA {
namespace {

// A tile is so many vectors of rows of W by so many rows of x: as many sums as registers hold.
constexpr int64_t tile_vectors = RECEPTANCE_VECTOR_BYTES == 64 ? 4 : 2;
constexpr int64_t tile_tokens = 6;
constexpr int64_t tile_rows = tile_vectors * lanes<float>;

// Rows of x that pass a part of W before the next one is transposed.
constexpr int64_t tokens_at_once = 512;

// Words of 4 bytes of a row of W that are transposed at once: 128 KiB for 64 rows.
constexpr int64_t words_at_once = 512;

constexpr int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

// A word is one number of float32, or two neighbours of bfloat16.
template <typename Element>
constexpr int64_t per_word = 4 / sizeof(Element);

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

// Exchanges rows and lanes: lane j of row i goes to lane i of row j.
RECEPTANCE_INLINE void transpose(Words (&rows)[lanes<float>]) {
#pragma GCC unroll 4
  for (uint32_t distance = 1; distance < lanes<float>; distance *= 2) {
    Words from_low, from_high;  // which lanes of a pair of rows go where
#pragma GCC unroll 16
    for (uint32_t lane = 0; lane < lanes<float>; ++lane) {
      const bool is_high = lane & distance;
      const uint32_t other = lanes<float> - distance;
      from_low[lane] = is_high ? lane + other : lane;
      from_high[lane] = is_high ? lane + lanes<float> : lane + distance;
    }
#pragma GCC unroll 16
    for (uint32_t i = 0; i < lanes<float>; ++i) {
      if (i & distance) continue;
      const Words low = rows[i], high = rows[i + distance];
      rows[i] = __builtin_shuffle(low, high, from_low);
      rows[i + distance] = __builtin_shuffle(low, high, from_high);
    }
  }
}

// Writes `words` words of `n_rows` rows of W, from `w` on, as [word][tile_rows]; 0 for other rows
// and behind the last column, of which there are `columns` left.
template <typename Element>
void pack(const Element* w, int64_t n_rows, int64_t K, int64_t columns, int64_t words,
          Words* packed) {
  for (int64_t vector = 0; vector < tile_vectors; ++vector) {
    const int64_t first = vector * lanes<float>;
    for (int64_t word = 0; word < words; word += lanes<float>) {
      Words rows[lanes<float>] = {};
      const int64_t at = word * per_word<Element>;
      const int64_t left = columns - at, full = lanes<float> * per_word<Element>;
#pragma GCC unroll 16
      for (int64_t r = 0; r < lanes<float>; ++r) {
        if (first + r >= n_rows) continue;
        const Element* from = w + (first + r) * K + at;
        prefetch(from, tile_rows * K * static_cast<int64_t>(sizeof(Element)));  // the next tile's
        rows[r] = load_packed<Words>(from, left >= full, smaller(left, full));
      }
      transpose(rows);
#pragma GCC unroll 16
      for (int64_t j = 0; j < lanes<float>; ++j) {
        if (word + j < words) packed[(word + j) * tile_vectors + vector] = rows[j];
      }
    }
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

// The rows of W from `row` on, at most tile_rows, by the rows [first, last) of x.
template <typename Element>
void part(const Product<Element>& arrays, int64_t row, int64_t first, int64_t last,
          const ProductScratch& scratch) {
  const int64_t N = arrays.N, K = arrays.K, n_rows = smaller(tile_rows, N - row);
  Words* packed = static_cast<Words*>(scratch.packed);
  constexpr int64_t columns_at_once = words_at_once * per_word<Element>;
  for (int64_t k = 0; k < K; k += columns_at_once) {
    const int64_t columns = smaller(columns_at_once, K - k);
    const int64_t words = (columns + per_word<Element> - 1) / per_word<Element>;
    pack(arrays.w + row * K + k, n_rows, K, columns, words, packed);
    for (int64_t m = first; m < last; m += tile_tokens) {
      tile_of<Element, tile_tokens>(smaller(tile_tokens, last - m), packed, columns,
                                    arrays.x + m * K + k, K, scratch.sums + (m - first) * tile_rows,
                                    k == 0);
    }
  }
  for (int64_t m = first; m < last; ++m) {
    const float* sums = scratch.sums + (m - first) * tile_rows;
    Element* y = arrays.y + m * N + row;
    for_each_column<float>(
        n_rows, [&](int64_t r, bool whole, int64_t count) __attribute__((always_inline)) {
          store<float>(y + r, load<float>(sums + r, whole, count), whole, count);
        });
  }
}

template <typename Element>
void product(const Product<Element>& arrays, int64_t begin, int64_t end,
             const ProductScratch& scratch) {
  for (int64_t first = 0; first < arrays.M; first += tokens_at_once) {
    const int64_t last = smaller(first + tokens_at_once, arrays.M);
    for (int64_t tile = begin; tile < end; ++tile) {
      part(arrays, tile * tile_rows, first, last, scratch);
    }
  }
}

}  // namespace

extern const PackedProductTable packed_product_kernels;
const PackedProductTable packed_product_kernels = {product<float>, product<bfloat16>, tile_rows,
                                                   tile_rows * words_at_once,
                                                   tile_rows * tokens_at_once};

}  // namespace receptance::RECEPTANCE_ISA
