// The product with a matrix that lies by columns, for inputs of which most are 0: what meets
// nothing but 0 is not read. Compiled once for each instruction set: see vector.h.
//
// A lane of a vector is a row of W; words of columns are added from left to right. A word that is
// left out would have added 0: so the sums are the same as with it, whatever else is multiplied.
#include "packed_tile.h"
#include "products_kernels.h"
#include "vector.h"

namespace receptance::RECEPTANCE_ISA {
namespace {

// Rows of W whose sums are kept near while one row of x meets them: long stretches of each word.
constexpr int64_t rows_at_once = 1024;

// Words that are added to a sum before it is stored again.
constexpr int64_t words_together = 4;

// Words that are copied for several rows of x, and how many of those are brought near ahead.
constexpr int64_t words_at_once = 256;
constexpr int64_t ahead = 12;

// Rows of x that pass the copied words, so that their sums find room.
constexpr int64_t tokens_at_once = 64;

// COUNT words of each row, from the i-th used one on, are added to the sums of n_rows rows.
template <int64_t COUNT, typename Element>
RECEPTANCE_INLINE void add_words(const ColumnProduct<Element>& arrays, int64_t i, int64_t row,
                                 int64_t n_rows, float* sums) {
  const uint32_t* words[COUNT];
  const uint32_t* coming[COUNT];
  Words factors[COUNT];
#pragma GCC unroll 4
  for (int64_t j = 0; j < COUNT; ++j) {
    const int64_t later = smaller(i + j + COUNT, arrays.n_used - 1);
    words[j] = arrays.w + arrays.used[i + j] * arrays.N + row;
    coming[j] = arrays.w + arrays.used[later] * arrays.N + row;
    factors[j] = Words{} + arrays.x[i + j];
  }
  for_each_column<float>(n_rows,
                         [&](int64_t r, bool whole, int64_t count) __attribute__((always_inline)) {
                           Vector<float> sum = load<float>(sums + r, whole, count);
#pragma GCC unroll 4
                           for (int64_t j = 0; j < COUNT; ++j) {
                             prefetch(coming[j] + r, 0);
                             const Words w = load_packed<Words>(words[j] + r, whole, count);
                             sum = add_products(Element{}, w, factors[j], sum);
                           }
                           store<float>(sums + r, sum, whole, count);
                         });
}

template <typename Element>
void store_sums(const float* sums, Element* y, int64_t n_rows) {
  for_each_column<float>(n_rows,
                         [&](int64_t r, bool whole, int64_t count) __attribute__((always_inline)) {
                           store<float>(y + r, load<float>(sums + r, whole, count), whole, count);
                         });
}

// The rows of W from `row` on, at most rows_at_once, by the only row of x.
template <typename Element>
void meet_one(const ColumnProduct<Element>& arrays, int64_t row, int64_t n_rows) {
  alignas(64) float sums[rows_at_once];
  for (int64_t r = 0; r < n_rows; ++r) sums[r] = 0;
  int64_t i = 0;
  for (; i + words_together <= arrays.n_used; i += words_together) {
    add_words<words_together>(arrays, i, row, n_rows, sums);
  }
  for (; i < arrays.n_used; ++i) add_words<1>(arrays, i, row, n_rows, sums);
  store_sums(sums, arrays.y + row, n_rows);
}

// What a thread keeps near of several rows of x: some words of W, and sums.
struct Near {
  Words w[words_at_once * tile_vectors];
  alignas(64) float sums[tokens_at_once * tile_rows];
};

// At most tile_rows rows of W from `row` on, by the rows [first, last) of x.
template <typename Element>
void meet_several(const ColumnProduct<Element>& arrays, int64_t row, int64_t n_rows, int64_t first,
                  int64_t last, Near& near) {
  const uint32_t* w = arrays.w + row;
  int64_t begin = 0;
  do {  // once where no word is used: then all sums are 0
    const int64_t n = smaller(words_at_once, arrays.n_used - begin);
    for (int64_t i = 0; i < n; ++i) {
      const int64_t later = smaller(begin + i + ahead, arrays.n_used - 1);
      const uint32_t* coming = w + arrays.used[later] * arrays.N;
#pragma GCC unroll 4
      for (int64_t v = 0; v < tile_vectors; ++v) prefetch(coming + v * lanes<float>, 0);
      copy_rows(w + arrays.used[begin + i] * arrays.N, n_rows, near.w + i * tile_vectors);
    }
    for (int64_t m = first; m < last; m += tile_tokens) {
      const uint32_t* x = arrays.x + m * arrays.words + begin;
      tile_of<Element, tile_tokens>(smaller(tile_tokens, last - m), near.w, n * per_word<Element>,
                                    reinterpret_cast<const Element*>(x),
                                    arrays.words * per_word<Element>,
                                    near.sums + (m - first) * tile_rows, begin == 0);
    }
    begin += words_at_once;
  } while (begin < arrays.n_used);
  for (int64_t m = first; m < last; ++m) {
    store_sums(near.sums + (m - first) * tile_rows, arrays.y + m * arrays.N + row, n_rows);
  }
}

template <typename Element>
void product(const ColumnProduct<Element>& arrays, int64_t begin, int64_t end) {
  if (arrays.M == 1) {
    for (int64_t row = begin; row < end; row += rows_at_once) {
      meet_one(arrays, row, smaller(rows_at_once, end - row));
    }
    return;
  }
  Near near;
  for (int64_t row = begin; row < end; row += tile_rows) {
    const int64_t n_rows = smaller(tile_rows, end - row);
    for (int64_t m = 0; m < arrays.M; m += tokens_at_once) {
      meet_several(arrays, row, n_rows, m, smaller(m + tokens_at_once, arrays.M), near);
    }
  }
}

}  // namespace

extern const ColumnProductTable column_product_kernels;
const ColumnProductTable column_product_kernels = {product<float>, product<bfloat16>};

}  // namespace receptance::RECEPTANCE_ISA
