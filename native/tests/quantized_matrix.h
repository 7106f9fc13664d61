// Quantized matrices for the kernels' tests: random levels, packed as receptance/products.h says.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#include "guarded.h"
#include "receptance/products.h"

namespace receptance::tests {

// N rows and K columns of which each is known: `value`.
class RandomQuantized {
 public:
  RandomQuantized(int64_t N, int64_t K, Quantization quantization, Random& random, double scale = 1)
      : N_(N), K_(K), quantization_(quantization), groups_((K + group() - 1) / group()) {
    const double most = quantization.bits == 4 ? 8 : 127;
    for (int64_t i = 0; i < N * K; ++i) {
      const double level = std::round(most * random());
      levels_.push_back(static_cast<int>(level == 8 ? 7 : level));
    }
    // Powers of two by `scale`: where that is one as well, products with them are exact.
    for (int64_t i = 0; i < N * groups_; ++i) {
      scales_.push_back(held(scale * std::exp2(std::round(random()))));
      offsets_.push_back(quantization.has_offset ? held(scale * std::round(3 * random())) : 0);
    }
  }

  double value(int64_t n, int64_t k) const {
    const int64_t at = n * groups_ + k / group();
    return scales_[at] * levels_[n * K_ + k] + offsets_[at];
  }

  // As a matrix for products.
  std::vector<uint8_t> matrix() const {
    const int64_t panels = (N_ + panel_rows - 1) / panel_rows;
    const int64_t bytes = block_bytes(quantization_);
    std::vector<uint8_t> packed(panels * groups_ * bytes);
    for (int64_t block = 0; block < panels * groups_; ++block) {
      const int64_t first = block / groups_ * panel_rows, g = block % groups_;
      uint8_t* to = packed.data() + block * bytes;
      for (int64_t r = 0; r < panel_rows; ++r) put_heads(to, r, panel_rows, first + r, g);
      to += heads() * panel_rows;
      for (int64_t r = 0; r < panel_rows; ++r) {
        for (int64_t k = 0; k < group(); ++k) {
          const uint8_t q = level(first + r, g * group() + k);
          if (quantization_.bits == 8) {
            to[(k / 4 * panel_rows + r) * 4 + k % 4] = q;
          } else {
            to[(k / 8 * panel_rows + r) * 4 + k % 4] |= q << (k % 8 / 4 * 4);
          }
        }
      }
    }
    return packed;
  }

  // As rows for looking up.
  std::vector<uint8_t> rows() const {
    const int64_t bytes = groups_ * (heads() + group() * quantization_.bits / 8);
    std::vector<uint8_t> packed(N_ * bytes);
    for (int64_t n = 0; n < N_; ++n) {
      uint8_t* to = packed.data() + n * bytes;
      for (int64_t g = 0; g < groups_; ++g) put_heads(to, g, groups_, n, g);
      to += heads() * groups_;
      for (int64_t k = 0; k < groups_ * group(); ++k) {
        const uint8_t q = level(n, k);
        if (quantization_.bits == 8) {
          to[k] = q;
        } else {
          to[k / 2] |= q << (k % 2 * 4);
        }
      }
    }
    return packed;
  }

 private:
  int64_t group() const { return quantization_.group; }
  int64_t heads() const { return quantization_.has_offset ? 4 : 2; }  // bytes of scale and offset

  // The level of a weight, or that of padding.
  uint8_t level(int64_t n, int64_t k) const {
    const int zero = quantization_.bits == 4 ? 8 : 128;
    return static_cast<uint8_t>(zero + (n < N_ && k < K_ ? levels_[n * K_ + k] : 0));
  }

  // The scale and the offset of a row's group: the number `at` among `count` of each.
  void put_heads(uint8_t* to, int64_t at, int64_t count, int64_t n, int64_t g) const {
    for (int64_t i = 0; i < heads() / 2; ++i) {
      bfloat16 number;
      put(number, n >= N_ ? 0 : (i == 0 ? scales_ : offsets_)[n * groups_ + g]);
      std::memcpy(to + (i * count + at) * sizeof(number), &number, sizeof(number));
    }
  }

  static double held(double x) {
    bfloat16 rounded;
    put(rounded, x);
    return number(rounded);
  }

  int64_t N_, K_;
  Quantization quantization_;
  int64_t groups_;
  std::vector<int> levels_;  // q - zero
  std::vector<double> scales_, offsets_;
};

}  // namespace receptance::tests
