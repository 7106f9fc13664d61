// Random changes of low rank for the tests of the step, as the kernels take them and in double.
#pragma once

#include <cmath>
#include <cstdint>
#include <deque>
#include <vector>

#include "guarded.h"
#include "receptance/rwkv4_step.h"

namespace receptance::tests {

using Doubles = std::vector<double>;
using ChangedMatrix = LowRank Rwkv4LayerChanges::*;

class RandomChanges {
 public:
  // Of most matrices of the layers, with ranks from `rank` to four more.
  RandomChanges(int64_t n_layer, int64_t C, int64_t rank) : C_(C), layers_(n_layer) {
    constexpr ChangedMatrix matrices[] = {
        &Rwkv4LayerChanges::key,           &Rwkv4LayerChanges::value,
        &Rwkv4LayerChanges::receptance,    &Rwkv4LayerChanges::output,
        &Rwkv4LayerChanges::channel_key,   &Rwkv4LayerChanges::channel_receptance,
        &Rwkv4LayerChanges::channel_value,
    };
    int64_t count = 0;
    for (Rwkv4LayerChanges& layer : layers_) {
      for (const ChangedMatrix matrix : matrices) {
        layer.*matrix = {nullptr, nullptr, 0};
        if (++count % 4 == rank % 4) continue;
        const int64_t here = rank + count % 5;
        layer.*matrix = change(n_rows(matrix), n_columns(matrix), here);
        if (here > most_rank_) most_rank_ = here;
      }
    }
  }
  // The changes point into these.
  RandomChanges(const RandomChanges&) = delete;

  Rwkv4Changes changes() const {
    return {C_, static_cast<int64_t>(layers_.size()), most_rank_, layers_.data()};
  }

  // Adds B (A x) to y.
  void add(size_t layer, ChangedMatrix matrix, const Doubles& x, Doubles& y) const {
    const LowRank& change = layers_[layer].*matrix;
    const int64_t K = static_cast<int64_t>(x.size()), N = static_cast<int64_t>(y.size());
    for (int64_t r = 0; r < change.rank; ++r) {
      double met = 0;
      for (int64_t k = 0; k < K; ++k) met += change.a[r * K + k] * x[k];
      for (int64_t n = 0; n < N; ++n) y[n] += change.b[at(change.rank, n, r)] * met;
    }
  }

 private:
  static int64_t at(int64_t rank, int64_t n, int64_t r) {
    return (n / panel_rows * rank + r) * panel_rows + n % panel_rows;
  }

  int64_t n_rows(ChangedMatrix matrix) const {
    return matrix == &Rwkv4LayerChanges::channel_key ? 4 * C_ : C_;
  }

  int64_t n_columns(ChangedMatrix matrix) const {
    return matrix == &Rwkv4LayerChanges::channel_value ? 4 * C_ : C_;
  }

  // With it, A x and B's product with it are about as large as x.
  LowRank change(int64_t N, int64_t K, int64_t rank) {
    const int64_t panels = (N + panel_rows - 1) / panel_rows;
    std::vector<float>& a = numbers_.emplace_back(rank * K + panel_rows, NAN);
    std::vector<float>& b = numbers_.emplace_back(panels * rank * panel_rows + panel_rows, NAN);
    const double scale = 1.7 / std::sqrt(static_cast<double>(K));
    for (int64_t i = 0; i < rank * K; ++i) put(a[i], scale * random_());
    for (int64_t i = 0; i < panels * rank * panel_rows; ++i) b[i] = 0;
    for (int64_t n = 0; n < N; ++n) {
      for (int64_t r = 0; r < rank; ++r) {
        put(b[at(rank, n, r)], random_() / std::sqrt(static_cast<double>(rank)));
      }
    }
    return {a.data(), b.data(), rank};
  }

  int64_t C_, most_rank_ = 0;
  Random random_;
  std::deque<std::vector<float>> numbers_;  // each followed by NaN, which no kernel may add up
  std::vector<Rwkv4LayerChanges> layers_;
};

}  // namespace receptance::tests
