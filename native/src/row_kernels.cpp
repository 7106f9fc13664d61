// What is done with whole rows beside the products, compiled once for each instruction set: see
// vector.h.
#include "moments.h"
#include "products_kernels.h"
#include "vector.h"

namespace receptance::RECEPTANCE_ISA {
namespace {

void layer_norm(const LayerNorm& arrays, int64_t begin, int64_t end) {
  for (int64_t m = begin; m < end; ++m) {
    const float* x = arrays.x + m * arrays.C;
    float* y = arrays.y + m * arrays.C;
    const Moments<float> of_x = moments<float>(x, arrays.C, arrays.eps);
    for_each_column<float>(
        arrays.C, [&](int64_t channel, bool whole, int64_t count) __attribute__((always_inline)) {
          const Vector<float> h = (load<float>(x + channel, whole, count) - of_x.mean) * of_x.rstd;
          const Vector<float> weight = load<float>(arrays.weight + channel, whole, count);
          const Vector<float> bias = load<float>(arrays.bias + channel, whole, count);
          store<float>(y + channel, fma<float>(h, weight, bias), whole, count);
        });
  }
}

uint64_t read_all(const uint8_t* bytes, int64_t n) {
  constexpr int64_t width = sizeof(Integers<double>);
  Integers<double> all[4] = {};
  int64_t i = 0;
  for (; i + 4 * width <= n; i += 4 * width) {
#pragma GCC unroll 4
    for (int64_t j = 0; j < 4; ++j) {
      all[j] ^= load_packed<Integers<double>>(bytes + i + j * width, true, width);
    }
  }
  for (; i < n; i += 8) all[0] ^= load_packed<Integers<double>>(bytes + i, false, 8);
  all[0] ^= all[1] ^ all[2] ^ all[3];
  uint64_t total = 0;
  for (int64_t lane = 0; lane < width / 8; ++lane) total ^= all[0][lane];
  return total;
}

}  // namespace

extern const RowTable row_kernels;
const RowTable row_kernels = {layer_norm, read_all};

}  // namespace receptance::RECEPTANCE_ISA
