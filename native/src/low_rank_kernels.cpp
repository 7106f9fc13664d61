// Changes of low rank, compiled once for each instruction set: see vector.h.
//
// A number of A x is the sum of the lanes of one vector, to which the columns are added from left
// to right; a number of B's product is one lane, to which ranks are added from left to right. So
// each has one order of summation, whatever is computed beside it.
#include "low_rank_kernels.h"

#include "vector.h"

namespace receptance::RECEPTANCE_ISA {
namespace {

constexpr int64_t rows_together = 4;

// ROWS numbers of A x.
template <int64_t ROWS, typename Element>
RECEPTANCE_INLINE void meet_rows(const float* a, const Element* x, float* met, int64_t K) {
  Vector<float> sums[ROWS] = {};
  for_each_column<float>(
      K, [&](int64_t k, bool whole, int64_t count) __attribute__((always_inline)) {
        const Vector<float> here = load<float>(x + k, whole, count);
#pragma GCC unroll 4
        for (int64_t r = 0; r < ROWS; ++r) {
          sums[r] = fma<float>(load<float>(a + r * K + k, whole, count), here, sums[r]);
        }
      });
#pragma GCC unroll 4
  for (int64_t r = 0; r < ROWS; ++r) met[r] = sum_of_lanes<float>(sums[r]);
}

template <typename Element>
void meet(const LowRank& change, const Element* x, float* met, int64_t K, int64_t begin,
          int64_t end) {
  int64_t r = begin;
  for (; r + rows_together <= end; r += rows_together) {
    meet_rows<rows_together>(change.a + r * K, x, met + r, K);
  }
  for (; r < end; ++r) meet_rows<1>(change.a + r * K, x, met + r, K);
}

template <typename Element>
void add(const LowRank& change, const float* met, Element* y, int64_t begin, int64_t end) {
  constexpr int64_t width = lanes<float>, vectors = panel_rows / width;
  for (int64_t first = begin; first < end; first += panel_rows) {
    const float* panel = change.b + first * change.rank;
    Vector<float> sums[vectors] = {};
    for (int64_t r = 0; r < change.rank; ++r) {
      const Vector<float> factor = broadcast<float>(met[r]);
#pragma GCC unroll 8
      for (int64_t v = 0; v < vectors; ++v) {
        const float* from = panel + r * panel_rows + v * width;
        sums[v] = fma<float>(load<float>(from, true, width), factor, sums[v]);
      }
    }
#pragma GCC unroll 8
    for (int64_t v = 0; v < vectors; ++v) {
      const int64_t n = first + v * width, count = smaller(width, end - n);
      if (count <= 0) break;
      const Vector<float> product = load<float>(y + n, count == width, count);
      store<float>(y + n, product + sums[v], count == width, count);
    }
  }
}

}  // namespace

extern const LowRankTable low_rank_kernels;
const LowRankTable low_rank_kernels = {{meet<float>, add<float>}, {meet<bfloat16>, add<bfloat16>}};

}  // namespace receptance::RECEPTANCE_ISA
