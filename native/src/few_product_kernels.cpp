// The product of few rows with a matrix of float32 or bfloat16, compiled once for each instruction
// set: see vector.h.
//
// A number of y is the sum of the lanes of one vector, to which the columns are added from left to
// right: so it has one order of summation, whatever the tile that it is computed in. The matrix is
// read as it lies in its file.
#include "products_kernels.h"
#include "vector.h"
#include "words.h"

namespace receptance::RECEPTANCE_ISA {
namespace {

// A tile is so many rows of W by at most so many rows of x: as many sums as there are registers.
constexpr int64_t tile_rows = 4;
constexpr int64_t tile_tokens = RECEPTANCE_VECTOR_BYTES == 64 ? 6 : 2;

// Up to so many rows of x, a tile's rows of W meet all of x before the next ones are read: they
// come from memory in one stream. More rows of x are worth keeping more of W near: `kept_bytes`.
constexpr int64_t few_tokens = 24;
constexpr int64_t kept_bytes = 1 << 17;

// How far ahead of itself W is brought near where it is read once.
constexpr int64_t bytes_ahead = 8192;

// Numbers in the vector that is loaded at once.
template <typename Element>
constexpr int64_t step = RECEPTANCE_VECTOR_BYTES / sizeof(Element);

typedef float Quad __attribute__((vector_size(16)));

// The sums of the lanes of four vectors; each by halves, as sum_of_lanes has it.
RECEPTANCE_INLINE Quad sums_of_lanes(Vector<float> a, Vector<float> b, Vector<float> c,
                                     Vector<float> d) {
#if RECEPTANCE_VECTOR_BYTES == 64
  const Vector<float> ab =
      __builtin_shufflevector(a, b, 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23) +
      __builtin_shufflevector(a, b, 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31);
  const Vector<float> cd =
      __builtin_shufflevector(c, d, 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23) +
      __builtin_shufflevector(c, d, 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31);
  Vector<float> all =
      __builtin_shufflevector(ab, cd, 0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27) +
      __builtin_shufflevector(ab, cd, 4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23, 28, 29, 30, 31);
  all =
      all + __builtin_shufflevector(all, all, 2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13);
  all =
      all + __builtin_shufflevector(all, all, 1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 13, 12, 15, 14);
  return __builtin_shufflevector(all, all, 0, 4, 8, 12);
#else
  return Quad{sum_of_lanes<float>(a), sum_of_lanes<float>(b), sum_of_lanes<float>(c),
              sum_of_lanes<float>(d)};
#endif
}

// ROWS rows of W from `w` on, by TOKENS rows of x from `x` on. What is brought near meanwhile lies
// `ahead` bytes behind each number of W; it may lie outside of W.
template <int64_t ROWS, int64_t TOKENS, typename Element>
RECEPTANCE_INLINE void tile(const Element* w, const Element* x, Element* y, int64_t N, int64_t K,
                            int64_t ahead) {
  Vector<float> sums[TOKENS][ROWS] = {};
  const auto add = [&](int64_t k, bool whole, int64_t count) __attribute__((always_inline)) {
    Words rows[ROWS];
#pragma GCC unroll 4
    for (int64_t r = 0; r < ROWS; ++r) {
      prefetch(w + r * K + k, ahead);
      rows[r] = load_packed<Words>(w + r * K + k, whole, count);
    }
#pragma GCC unroll 6
    for (int64_t m = 0; m < TOKENS; ++m) {
      const Words token = load_packed<Words>(x + m * K + k, whole, count);
#pragma GCC unroll 4
      for (int64_t r = 0; r < ROWS; ++r)
        sums[m][r] = add_products(Element{}, rows[r], token, sums[m][r]);
    }
  };
  int64_t k = 0;
  for (; k + step<Element> <= K; k += step<Element>) add(k, true, step<Element>);
  if (k < K) add(k, false, K - k);
#pragma GCC unroll 6
  for (int64_t m = 0; m < TOKENS; ++m) {
    Vector<float> row{};
    if constexpr (ROWS == tile_rows) {
      const Quad quad = sums_of_lanes(sums[m][0], sums[m][1], sums[m][2], sums[m][3]);
      __builtin_memcpy(&row, &quad, sizeof(quad));
    } else {
      row[0] = sum_of_lanes<float>(sums[m][0]);
    }
    store<float>(y + m * N, row, false, ROWS);
  }
}

// The same for `n` rows of x, fewer than or as many as a tile has.
template <int64_t ROWS, int64_t TOKENS, typename Element>
RECEPTANCE_INLINE void tile_of(int64_t n, const Element* w, const Element* x, Element* y, int64_t N,
                               int64_t K, int64_t ahead) {
  if constexpr (TOKENS > 1) {
    if (n < TOKENS) return tile_of<ROWS, TOKENS - 1>(n, w, x, y, N, K, ahead);
  }
  tile<ROWS, TOKENS>(w, x, y, N, K, ahead);
}

// The rows [begin, end) of W by all rows of x.
template <typename Element>
void block(const Product<Element>& arrays, int64_t begin, int64_t end) {
  const int64_t N = arrays.N, K = arrays.K;
  const int64_t ahead = tile_rows * K * static_cast<int64_t>(sizeof(Element));  // the next tile
  for (int64_t m = 0; m < arrays.M; m += tile_tokens) {
    const Element* x = arrays.x + m * K;
    const int64_t n = smaller(tile_tokens, arrays.M - m);
    int64_t row = begin;
    for (; row + tile_rows <= end; row += tile_rows) {
      tile_of<tile_rows, tile_tokens>(n, arrays.w + row * K, x, arrays.y + m * N + row, N, K,
                                      ahead);
    }
    for (; row < end; ++row) {
      tile_of<1, tile_tokens>(n, arrays.w + row * K, x, arrays.y + m * N + row, N, K, ahead);
    }
  }
}

template <typename Element>
void product(const Product<Element>& arrays, int64_t begin, int64_t end) {
  const int64_t N = arrays.N, K = arrays.K;
  if (arrays.M == 1) {
    // One row of W after the other, as they lie: nothing is read faster.
    for (int64_t row = begin; row < end; ++row) {
      tile<1, 1>(arrays.w + row * K, arrays.x, arrays.y + row, N, K, bytes_ahead);
    }
    return;
  }
  const int64_t row_bytes = K * static_cast<int64_t>(sizeof(Element));
  const int64_t kept = arrays.M <= few_tokens
                           ? tile_rows
                           : tile_rows * (1 + kept_bytes / (tile_rows * row_bytes + 1));
  for (int64_t row = begin; row < end; row += kept) {
    block(arrays, row, smaller(row + kept, end));
  }
}

}  // namespace

extern const FewProductTable few_product_kernels;
const FewProductTable few_product_kernels = {product<float>, product<bfloat16>};

}  // namespace receptance::RECEPTANCE_ISA
