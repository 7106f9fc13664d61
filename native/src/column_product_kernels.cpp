// The product with a matrix that lies by columns, for inputs of which most are 0: the columns that
// meet a 0 are not read. Compiled once for each instruction set: see vector.h.
//
// A lane of a vector is a row of W; columns are added from left to right. A column that is left out
// would have added 0: so the sums have the same bits as with it, whatever else is multiplied.
#include "packed_tile.h"
#include "products_kernels.h"
#include "vector.h"

namespace receptance::RECEPTANCE_ISA {
namespace {

// One row of x meets so many vectors of rows of W at once.
constexpr int64_t most_vectors = 8;

// Columns that are looked through at once, and how many of those used are brought near ahead.
constexpr int64_t columns_at_once = 256;
constexpr int64_t columns_of_one = 1024;
constexpr int64_t ahead = 12;

// Rows of x that pass the copied columns, so that their sums find room.
constexpr int64_t tokens_at_once = 64;

// Writes which of the columns [begin, end) are used, and a few behind them; returns how many.
RECEPTANCE_INLINE int64_t list_used(const uint32_t* is_used, int64_t begin, int64_t end,
                                    int32_t* columns) {
  int64_t n = 0;
  for (int64_t first = begin; first < end; first += 32) {
    for (uint32_t bits = is_used[first / 32]; bits != 0; bits &= bits - 1) {
      columns[n++] = static_cast<int32_t>(first + __builtin_ctz(bits));
    }
  }
  const int32_t last = n > 0 ? columns[n - 1] : static_cast<int32_t>(begin);
#pragma GCC unroll 16
  for (int64_t i = 0; i < ahead; ++i) columns[n + i] = last;
  return n;
}

RECEPTANCE_INLINE float number(float x) { return x; }
RECEPTANCE_INLINE float number(bfloat16 x) {
  const uint32_t bits = static_cast<uint32_t>(x.bits) << 16;
  float value;
  __builtin_memcpy(&value, &bits, sizeof(value));
  return value;
}

// VECTORS vectors of rows of W from `row` on, by the only row of x.
template <int64_t VECTORS, typename Element>
void meet_one(const Product<Element>& arrays, const uint32_t* is_used, int64_t row,
              int64_t n_rows) {
  if constexpr (VECTORS > 1) {
    if (n_rows <= (VECTORS - 1) * lanes<float>) {
      return meet_one<VECTORS - 1>(arrays, is_used, row, n_rows);
    }
  }
  const int64_t N = arrays.N, K = arrays.K;
  const Element* w = arrays.w + row;
  const bool is_whole = n_rows == VECTORS * lanes<float>;
  Vector<float> sums[VECTORS] = {};
  int32_t columns[columns_of_one + ahead];
  for (int64_t first = 0; first < K; first += columns_of_one) {
    const int64_t n = list_used(is_used, first, smaller(first + columns_of_one, K), columns);
    for (int64_t i = 0; i < n; ++i) {
      const Vector<float> factor = broadcast<float>(number(arrays.x[columns[i]]));
      const Element* column = w + columns[i] * N;
      const Element* coming = w + columns[i + ahead] * N;
#pragma GCC unroll 8
      for (int64_t v = 0; v < VECTORS; ++v) {
        const int64_t at = v * lanes<float>;
        prefetch(coming + at, 0);
        const Vector<float> rows =
            load<float>(column + at, is_whole, smaller(n_rows - at, lanes<float>));
        sums[v] = fma<float>(rows, factor, sums[v]);
      }
    }
  }
#pragma GCC unroll 8
  for (int64_t v = 0; v < VECTORS; ++v) {
    const int64_t at = v * lanes<float>;
    store<float>(arrays.y + row + at, sums[v], is_whole, smaller(n_rows - at, lanes<float>));
  }
}

// What a thread keeps near: some columns of W and the numbers of x that they meet.
struct Near {
  Words w[columns_at_once * tile_vectors];
  float x[tile_tokens * columns_at_once];
  float sums[tokens_at_once * tile_rows];
  int32_t columns[columns_at_once + ahead];
};

// At most tile_rows rows of W from `row` on, by the rows [first, last) of x.
template <typename Element>
void meet_several(const Product<Element>& arrays, const uint32_t* is_used, int64_t row,
                  int64_t n_rows, int64_t first, int64_t last, Near& near) {
  const int64_t N = arrays.N, K = arrays.K;
  const Element* w = arrays.w + row;
  const bool is_whole = n_rows == tile_rows;
  for (int64_t begin = 0; begin < K; begin += columns_at_once) {
    const int64_t end = smaller(begin + columns_at_once, K);
    const int64_t n = list_used(is_used, begin, end, near.columns);
    for (int64_t i = 0; i < n; ++i) {
      const Element* column = w + near.columns[i] * N;
      const Element* coming = w + near.columns[i + ahead] * N;
#pragma GCC unroll 4
      for (int64_t v = 0; v < tile_vectors; ++v) {
        const int64_t at = v * lanes<float>;
        prefetch(coming + at, 0);
        near.w[i * tile_vectors + v] =
            (Words)load<float>(column + at, is_whole, smaller(n_rows - at, lanes<float>));
      }
    }
    for (int64_t m = first; m < last; m += tile_tokens) {
      const int64_t tokens = smaller(tile_tokens, last - m);
      for (int64_t t = 0; t < tokens; ++t) {
        const Element* x = arrays.x + (m + t) * K;
        for (int64_t i = 0; i < n; ++i) near.x[t * columns_at_once + i] = number(x[near.columns[i]]);
      }
      tile_of<float, tile_tokens>(tokens, near.w, n, near.x, columns_at_once,
                                  near.sums + (m - first) * tile_rows, begin == 0);
    }
  }
  for (int64_t m = first; m < last; ++m) {
    const float* sums = near.sums + (m - first) * tile_rows;
    for_each_column<float>(
        n_rows, [&](int64_t r, bool whole, int64_t count) __attribute__((always_inline)) {
          store<float>(arrays.y + m * N + row + r, load<float>(sums + r, whole, count), whole,
                       count);
        });
  }
}

template <typename Element>
void product(const Product<Element>& arrays, const uint32_t* is_used, int64_t begin, int64_t end) {
  if (arrays.M == 1) {
    constexpr int64_t rows = most_vectors * lanes<float>;
    for (int64_t row = begin; row < end; row += rows) {
      meet_one<most_vectors>(arrays, is_used, row, smaller(rows, end - row));
    }
    return;
  }
  Near near;
  for (int64_t row = begin; row < end; row += tile_rows) {
    const int64_t n_rows = smaller(tile_rows, end - row);
    for (int64_t m = 0; m < arrays.M; m += tokens_at_once) {
      const int64_t last = smaller(m + tokens_at_once, arrays.M);
      meet_several(arrays, is_used, row, n_rows, m, last, near);
    }
  }
}

}  // namespace

extern const ColumnProductTable column_product_kernels;
const ColumnProductTable column_product_kernels = {product<float>, product<bfloat16>};

}  // namespace receptance::RECEPTANCE_ISA
