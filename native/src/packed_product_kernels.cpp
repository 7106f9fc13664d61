// The product of many rows with a matrix of float32 or bfloat16, compiled once for each instruction
// set: see vector.h.
//
// A lane of a vector is a row of W. So that it can be, some rows and columns of W at a time are
// transposed into scratch, where they stay near while all of x passes: one shuffle or two for the
// hundreds of products that each number enters. Columns are added from left to right: a number of y
// has one order of summation, whatever the tile that it is computed in.
#include "packed_tile.h"
#include "products_kernels.h"
#include "vector.h"

namespace receptance::RECEPTANCE_ISA {
namespace {

// Rows of x that pass a part of W before the next one is transposed.
constexpr int64_t tokens_at_once = 512;

// Words of 4 bytes of a row of W that are transposed at once: 128 KiB for 64 rows.
constexpr int64_t words_at_once = 512;

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

// How far ahead in its row a number of W is brought near.
constexpr int64_t bytes_ahead = 1024;

// The next words of the rows of one vector, of which there are n_rows: all of them and all their
// columns if `whole`, which is known when this is compiled. Those that are not there are 0.
template <typename Element>
RECEPTANCE_INLINE void pack_square(const Element* w, bool whole, int64_t n_rows, int64_t K,
                                   int64_t columns, int64_t words, Words* packed) {
  Words rows[lanes<float>] = {};
#pragma GCC unroll 16
  for (int64_t r = 0; r < lanes<float>; ++r) {
    if (!whole && r >= n_rows) continue;
    prefetch(w + r * K, bytes_ahead);
    rows[r] = load_packed<Words>(w + r * K, whole, columns);
  }
  transpose(rows);
#pragma GCC unroll 16
  for (int64_t j = 0; j < lanes<float>; ++j) {
    if (whole || j < words) packed[j * tile_vectors] = rows[j];
  }
}

// Writes `columns` columns of `n_rows` rows of W, from `w` on, as [word][tile_rows]; 0 for other
// rows and behind the last column.
template <typename Element>
void pack(const Element* w, int64_t n_rows, int64_t K, int64_t columns, Words* packed) {
  constexpr int64_t full = lanes<float> * per_word<Element>;
  const int64_t words = (columns + per_word<Element> - 1) / per_word<Element>;
  for (int64_t vector = 0; vector < tile_vectors; ++vector) {
    const Element* rows = w + vector * lanes<float> * K;
    const int64_t left = n_rows - vector * lanes<float>;
    for (int64_t word = 0; word < words; word += lanes<float>) {
      const int64_t at = word * per_word<Element>, here = smaller(columns - at, full);
      Words* to = packed + word * tile_vectors + vector;
      if (left >= lanes<float> && here == full) {
        pack_square(rows + at, true, left, K, full, lanes<float>, to);
      } else {
        pack_square(rows + at, false, left, K, here, words - word, to);
      }
    }
  }
}

// The same of a matrix that lies by columns, [words, N]: from `w` on, rows of a word are together.
inline void copy_words(const uint32_t* w, int64_t n_rows, int64_t N, int64_t words, Words* packed) {
  for (int64_t word = 0; word < words; ++word)
    copy_rows(w + word * N, n_rows, packed + word * tile_vectors);
}

// The rows of W from `row` on, at most tile_rows, by the rows [first, last) of x.
template <typename Element>
void part(const Product<Element>& arrays, int64_t row, int64_t first, int64_t last,
          const ProductScratch& scratch) {
  const int64_t N = arrays.N, K = arrays.K, n_rows = smaller(tile_rows, N - row);
  Words* packed = static_cast<Words*>(scratch.packed);
  constexpr int64_t columns_at_once = words_at_once * per_word<Element>;
  int64_t k = 0;
  do {  // once even without columns: the sums are then 0
    const int64_t columns = smaller(columns_at_once, K - k);
    const int64_t words = (columns + per_word<Element> - 1) / per_word<Element>;
    if (arrays.by_columns) {
      const uint32_t* w = reinterpret_cast<const uint32_t*>(arrays.w);
      copy_words(w + k / per_word<Element> * N + row, n_rows, N, words, packed);
    } else {
      pack(arrays.w + row * K + k, n_rows, K, columns, packed);
    }
    for (int64_t m = first; m < last; m += tile_tokens) {
      tile_of<Element, tile_tokens>(smaller(tile_tokens, last - m), packed, columns,
                                    arrays.x + m * K + k, K, scratch.sums + (m - first) * tile_rows,
                                    k == 0);
    }
    k += columns_at_once;
  } while (k < K);
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
