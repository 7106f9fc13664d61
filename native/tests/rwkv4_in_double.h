// A small RWKV-4 of random weights for the tests of the step: as the kernels take it, and its step
// in double, as the paper has it (Peng et al. 2023, arXiv:2305.13048).
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <deque>
#include <map>
#include <vector>

#include "guarded.h"
#include "quantized_matrix.h"
#include "receptance/rwkv4_step.h"
#include "rwkv4_changes.h"

namespace receptance::tests {

inline double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

class RandomRwkv4 {
 public:
  RandomRwkv4(int64_t n_layer, int64_t C, int64_t V, Format format,
              Quantization quantization = {8, 32, false}, bool by_columns = false)
      : C_(C), V_(V), format_(format), quantization_(quantization) {
    embedding_ = matrix(V, C, 1, true);
    head_ = matrix(V, C, 3);
    ln0_ = norm(), ln_out_ = norm();
    for (int64_t i = 0; i < n_layer; ++i) {
      layers_.push_back({norm(), norm(), vector(-0.5, 0.4), vector(0, 1), vector(0.5, 0.5),
                         vector(0.5, 0.5), vector(0.5, 0.5), vector(0.5, 0.5), vector(0.5, 0.5),
                         matrix(C, C), matrix(C, C), matrix(C, C), matrix(C, C), matrix(4 * C, C),
                         matrix(C, C), matrix(C, 4 * C)});
      if (by_columns) lay_by_columns(layers_.back().channel_value);
    }
  }
  // The model points into itself.
  RandomRwkv4(const RandomRwkv4&) = delete;

  Rwkv4Model model() const {
    Rwkv4Model model{C_,
                     V_,
                     static_cast<int64_t>(layers_.size()),
                     eps,
                     quantization_,
                     {},
                     {},
                     {},
                     {},
                     layers_.data()};
    model.embedding = embedding_;
    model.head = head_;
    model.ln0 = ln0_;
    model.ln_out = ln_out_;
    return model;
  }

  // The logits after one token. state: [5, n_layer, C], as in a Rwkv4Pool; it goes on. changes: of
  // the matrices, or null.
  Doubles step_in_double(int64_t token, Doubles& state, const RandomChanges* changes) const {
    Doubles x;
    for (int64_t c = 0; c < C_; ++c) x.push_back(value(embedding_, token, c));
    x = normalised(x, ln0_);
    const int64_t of_tensor = static_cast<int64_t>(layers_.size()) * C_;
    for (size_t i = 0; i < layers_.size(); ++i) {
      double* rows[5];
      for (int64_t j = 0; j < 5; ++j) {
        rows[j] = state.data() + j * of_tensor + static_cast<int64_t>(i) * C_;
      }
      time_mix({*this, i, changes}, rows, x);
      channel_mix({*this, i, changes}, rows[1], x);
    }
    return product(head_, normalised(x, ln_out_));
  }

 private:
  static constexpr float eps = 1e-5f;

  // A layer, whose matrices may be changed.
  struct Layer {
    const RandomRwkv4& model;
    size_t i;
    const RandomChanges* changes;
    const Rwkv4Layer& weights = model.layers_[i];

    Doubles product(Matrix Rwkv4Layer::* matrix, ChangedMatrix changed, const Doubles& x) const {
      Doubles y = model.product(weights.*matrix, x);
      if (changes != nullptr) changes->add(i, changed, x, y);
      return y;
    }
  };

  void time_mix(const Layer& all, double* const (&rows)[5], Doubles& x) const {
    using W = Rwkv4Layer;
    using D = Rwkv4LayerChanges;
    const Rwkv4Layer& layer = all.weights;
    const Doubles now = normalised(x, layer.ln1);
    const Doubles k = all.product(&W::key, &D::key, mixed(now, rows[0], layer.mix_k));
    const Doubles v = all.product(&W::value, &D::value, mixed(now, rows[0], layer.mix_v));
    const Doubles r = all.product(&W::receptance, &D::receptance, mixed(now, rows[0], layer.mix_r));
    Doubles gated(C_);
    for (int64_t c = 0; c < C_; ++c) {
      double &a = rows[2][c], &b = rows[3][c], &p = rows[4][c];
      const double here = std::exp(layer.u[c] + k[c] - p);
      gated[c] = sigmoid(r[c]) * (a + here * v[c]) / (b + here);
      const double next = std::fmax(p + layer.log_w[c], k[c]);
      const double kept = std::exp(p + layer.log_w[c] - next), added = std::exp(k[c] - next);
      a = kept * a + added * v[c];
      b = kept * b + added;
      p = next;
      rows[0][c] = now[c];
    }
    const Doubles y = all.product(&W::output, &D::output, gated);
    for (int64_t c = 0; c < C_; ++c) x[c] += y[c];
  }

  void channel_mix(const Layer& all, double* last, Doubles& x) const {
    using W = Rwkv4Layer;
    using D = Rwkv4LayerChanges;
    const Rwkv4Layer& layer = all.weights;
    const Doubles now = normalised(x, layer.ln2);
    Doubles k =
        all.product(&W::channel_key, &D::channel_key, mixed(now, last, layer.channel_mix_k));
    const Doubles r = all.product(&W::channel_receptance, &D::channel_receptance,
                                  mixed(now, last, layer.channel_mix_r));
    for (double& each : k) each = std::pow(std::fmax(each, 0), 2);
    const Doubles y = all.product(&W::channel_value, &D::channel_value, k);
    for (int64_t c = 0; c < C_; ++c) {
      x[c] += sigmoid(r[c]) * y[c];
      last[c] = now[c];
    }
  }

  static Doubles mixed(const Doubles& now, const double* last, const float* mix) {
    Doubles y(now.size());
    for (size_t c = 0; c < y.size(); ++c) y[c] = mix[c] * now[c] + (1 - mix[c]) * last[c];
    return y;
  }

  static Doubles normalised(const Doubles& x, const Norm& norm) {
    const double C = static_cast<double>(x.size());
    double mean = 0, variance = 0;
    for (const double each : x) mean += each / C;
    for (const double each : x) variance += std::pow(each - mean, 2) / C;
    Doubles y;
    for (size_t c = 0; c < x.size(); ++c) {
      y.push_back((x[c] - mean) / std::sqrt(variance + eps) * norm.weight[c] + norm.bias[c]);
    }
    return y;
  }

  Doubles product(const Matrix& w, const Doubles& x) const {
    const Doubles input = w.format == Format::quantized ? in_int8(x) : x;
    Doubles y(w.N, 0);
    for (int64_t n = 0; n < w.N; ++n) {
      for (int64_t k = 0; k < w.K; ++k) y[n] += value(w, n, k) * input[k];
    }
    return y;
  }

  static Doubles in_int8(Doubles x) {
    for (size_t first = 0; first < x.size(); first += block_columns) {
      const size_t last = std::min(x.size(), first + block_columns);
      double most = 0;
      for (size_t k = first; k < last; ++k) most = std::fmax(most, std::fabs(x[k]));
      for (size_t k = first; k < last && most > 0; ++k) {
        x[k] = std::nearbyint(x[k] / most * 127) * most / 127;
      }
    }
    return x;
  }

  double value(const Matrix& w, int64_t n, int64_t k) const {
    return values_.at(w.data)[n * w.K + k];
  }

  const float* vector(double centre, double scale) {
    std::vector<float>& numbers = vectors_.emplace_back();
    for (int64_t c = 0; c < C_; ++c) {
      numbers.push_back(static_cast<float>(centre + scale * random_()));
    }
    return numbers.data();
  }

  Norm norm() {
    const float* weight = vector(1, 0.3);
    return {weight, vector(0, 0.3)};
  }

  // [N, K], so that what leaves it is about `size` times what enters.
  Matrix matrix(int64_t N, int64_t K, double size = 1, bool is_embedding = false) {
    const double scale = size * 1.7 / std::sqrt(static_cast<double>(is_embedding ? 1 : K));
    Doubles values(N * K);
    std::vector<uint8_t>& bytes = bytes_.emplace_back();
    if (format_ == Format::quantized) {
      const RandomQuantized quantized(N, K, quantization_, random_,
                                      scale / (quantization_.bits == 4 ? 8 : 128));
      for (int64_t i = 0; i < N * K; ++i) values[i] = quantized.value(i / K, i % K);
      bytes = is_embedding ? quantized.rows() : quantized.matrix();
    } else if (format_ == Format::bfloat16) {
      fill_matrix<bfloat16>(bytes, values, scale);
    } else {
      fill_matrix<float>(bytes, values, scale);
    }
    values_[bytes.data()] = std::move(values);
    return {format_, bytes.data(), N, K, false};
  }

  // Words of 4 bytes, [N, words], become [words, N].
  void lay_by_columns(Matrix& w) {
    const int64_t n_words = w.K / (w.format == Format::float32 ? 1 : 2);
    std::vector<uint8_t>& bytes = bytes_.emplace_back(4 * w.N * n_words);
    for (int64_t i = 0; i < w.N * n_words; ++i) {
      std::memcpy(bytes.data() + 4 * (i % n_words * w.N + i / n_words),
                  static_cast<const uint8_t*>(w.data) + 4 * i, 4);
    }
    values_[bytes.data()] = values_.at(w.data);
    w = {w.format, bytes.data(), w.N, w.K, true};
  }

  template <typename Number>
  void fill_matrix(std::vector<uint8_t>& bytes, Doubles& values, double scale) {
    for (double& each : values) {
      Number stored;
      put(stored, scale * random_());
      each = number(stored);
      const uint8_t* from = reinterpret_cast<const uint8_t*>(&stored);
      bytes.insert(bytes.end(), from, from + sizeof(stored));
    }
  }

  int64_t C_, V_;
  Format format_;
  Quantization quantization_;
  Random random_;
  std::deque<std::vector<float>> vectors_;  // where the weights lie
  std::deque<std::vector<uint8_t>> bytes_;
  std::map<const void*, Doubles> values_;  // of each matrix, by where it lies
  Matrix embedding_, head_;
  Norm ln0_, ln_out_;
  std::vector<Rwkv4Layer> layers_;
};

}  // namespace receptance::tests
