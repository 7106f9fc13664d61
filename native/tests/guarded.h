// What the kernels' tests are made of: arrays that notice a kernel's slip, and numbers for them.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <thread>
#include <vector>

#include "receptance/kernels.h"

namespace receptance::tests {

inline int n_failures = 0;

inline void expect(bool condition, const char* what, InstructionSet instruction_set, double value) {
  if (condition) return;
  ++n_failures;
  std::printf("FAILED: %s (%s, got %.9g)\n", what, instruction_set_name(instruction_set), value);
}

// An array of NaN between two guard bands, which no kernel may touch.
template <typename Number>
class Guarded {
 public:
  explicit Guarded(int64_t n) : bytes_(side, guard) {
    const unsigned char all_ones = 0xff;  // a NaN in every type
    for (int64_t i = 0; i < n * static_cast<int64_t>(sizeof(Number)); ++i) {
      bytes_.push_back(all_ones);
    }
    bytes_.insert(bytes_.end(), side, guard);
  }

  Number* data() { return reinterpret_cast<Number*>(bytes_.data()) + band; }

  bool is_intact() const {
    for (int64_t i = 0; i < side; ++i) {
      if (bytes_[i] != guard || bytes_[bytes_.size() - 1 - i] != guard) return false;
    }
    return true;
  }

 private:
  static constexpr int64_t band = 64;
  static constexpr int64_t side = band * sizeof(Number);
  static constexpr unsigned char guard = 0xa5;
  std::vector<unsigned char> bytes_;
};

// Scratch of n bytes, aligned to 64 as kernels want it, between two guard bands.
class GuardedScratch {
 public:
  explicit GuardedScratch(int64_t n) : lines_((n + 63) / 64 + 2 * band) {
    std::memset(lines_.data(), guard, lines_.size() * sizeof(Line));
    std::memset(data(), 0xff, n);
  }

  uint8_t* data() { return lines_[band].bytes; }

  bool is_intact() const {
    for (size_t i = 0; i < band; ++i) {
      for (const Line& line : {lines_[i], lines_[lines_.size() - 1 - i]}) {
        for (const uint8_t each : line.bytes) {
          if (each != guard) return false;
        }
      }
    }
    return true;
  }

 private:
  struct alignas(64) Line {
    uint8_t bytes[64];
  };
  static constexpr size_t band = 4;
  static constexpr uint8_t guard = 0xa5;
  std::vector<Line> lines_;
};

inline double number(float x) { return x; }
inline double number(double x) { return x; }
inline double number(bfloat16 x) {
  const uint32_t bits = static_cast<uint32_t>(x.bits) << 16;
  float value;
  std::memcpy(&value, &bits, sizeof(value));
  return value;
}

inline void put(float& to, double x) { to = static_cast<float>(x); }
inline void put(double& to, double x) { to = x; }
inline void put(bfloat16& to, double x) {
  const float value = static_cast<float>(x);
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof(bits));
  to.bits = static_cast<uint16_t>(bits >> 16);
}

// Runs the pieces one by one, the last first: as threads may.
inline void backward_one_by_one(int64_t begin, int64_t end, int64_t, Task task, void* context) {
  for (int64_t i = end; i-- > begin;) task(i, i + 1, context);
}

inline constexpr Threads one_by_one{backward_one_by_one, 4};

// Runs the pieces at the same time, as what waits for its companions needs.
inline void all_at_the_same_time(int64_t begin, int64_t end, int64_t, Task task, void* context) {
  std::vector<std::thread> threads;
  for (int64_t i = begin; i < end; ++i) threads.emplace_back(task, i, i + 1, context);
  for (std::thread& each : threads) each.join();
}

inline constexpr Threads concurrent{all_at_the_same_time, 3};

// Hands out the work as a whole, however many threads were promised.
inline void all_at_once(int64_t begin, int64_t end, int64_t, Task task, void* context) {
  if (begin < end) task(begin, end, context);
}

inline constexpr Threads whole{all_at_once, 3};

// Uniform in [-1, 1), the same each time.
class Random {
 public:
  double operator()() {
    seed_ = seed_ * 1664525u + 1013904223u;
    return (seed_ >> 8) / static_cast<double>(1 << 23) - 1;
  }

 private:
  uint32_t seed_ = 1;
};

// Numbers of which products and sums of a thousand are exact in float32, whatever their order; and
// which every type can hold.
template <typename Number>
void fill_exactly(Guarded<Number>& array, int64_t n, Random& random) {
  for (int64_t i = 0; i < n; ++i) put(array.data()[i], std::round(128 * random()) / 64);
}

// Numbers whose sums are rounded.
template <typename Number>
void fill(Guarded<Number>& array, int64_t n, Random& random, double scale = 1, double centre = 0) {
  for (int64_t i = 0; i < n; ++i) put(array.data()[i], centre + scale * random());
}

template <typename Number>
bool same_bits(const Number* a, const Number* b, int64_t n) {
  return n == 0 || std::memcmp(a, b, n * sizeof(Number)) == 0;
}

// The largest difference of a from b, over the largest of b or 1; NaN if there is one in a.
template <typename Number>
double error(Guarded<Number>& a, Guarded<double>& b, int64_t n) {
  double difference = 0, size = 1;
  for (int64_t i = 0; i < n; ++i) {
    const double here = std::fabs(number(a.data()[i]) - b.data()[i]);
    if (std::isnan(here)) return here;
    difference = std::fmax(difference, here);
    size = std::fmax(size, std::fabs(b.data()[i]));
  }
  return difference / size;
}

}  // namespace receptance::tests
