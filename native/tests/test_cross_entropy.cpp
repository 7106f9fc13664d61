// Tests of cross_entropy without PyTorch: what it writes, and that it writes nothing else. That its
// numbers are right, tests/ops/linear_cross_entropy shows. Prints what failed, returns how much.
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <vector>

#include "receptance/kernels.h"

namespace {

using receptance::InstructionSet;

constexpr InstructionSet instruction_sets[] = {InstructionSet::portable, InstructionSet::avx2,
                                               InstructionSet::avx512};
constexpr unsigned char guard = 0xa5;
constexpr int64_t band = 128;
int n_failures = 0;

void expect(bool condition, const char* what, InstructionSet instruction_set, int64_t size) {
  if (condition) return;
  ++n_failures;
  std::printf("FAILED: %s (%s, V = %lld)\n", what, instruction_set_name(instruction_set),
              static_cast<long long>(size));
}

// An array between two guard bands, which no kernel may touch.
template <typename Number>
class Guarded {
 public:
  explicit Guarded(int64_t n) : bytes_(2 * band + n * sizeof(Number), guard) {}

  Number* data() { return reinterpret_cast<Number*>(bytes_.data() + band); }

  bool is_intact() const {
    for (int64_t i = 0; i < band; ++i) {
      if (bytes_[i] != guard || bytes_[bytes_.size() - 1 - i] != guard) return false;
    }
    return true;
  }

 private:
  std::vector<unsigned char> bytes_;
};

void put(float& to, float x) { to = x; }
void put(double& to, float x) { to = x; }
void put(receptance::bfloat16& to, float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, sizeof(bits));
  to.bits = static_cast<uint16_t>(bits >> 16);
}

// Runs the pieces one by one, the last first: as threads may.
void backward_one_by_one(int64_t begin, int64_t end, int64_t, receptance::Task task,
                         void* context) {
  for (int64_t i = end; i-- > begin;) task(i, i + 1, context);
}

template <typename Real, typename Element>
void test(int64_t V, bool wants_gradient, InstructionSet instruction_set) {
  constexpr int64_t N = 3;
  Guarded<Element> logits(N * V);
  Guarded<int64_t> targets(N);
  Guarded<Real> cost(N), largest(N);
  for (int64_t i = 0; i < N * V; ++i) put(logits.data()[i], static_cast<float>(i * 7 % 5));
  for (int64_t n = 0; n < N; ++n) targets.data()[n] = (n * V) / N;
  const std::vector<Element> before(logits.data(), logits.data() + N * V);

  const receptance::CrossEntropy<Real, Element> arrays{logits.data(),
                                                       targets.data(),
                                                       cost.data(),
                                                       largest.data(),
                                                       Real(1),
                                                       Real(0.5),
                                                       wants_gradient,
                                                       N,
                                                       V};
  receptance::cross_entropy(arrays, instruction_set, {backward_one_by_one, 4});

  expect(logits.is_intact() && targets.is_intact() && cost.is_intact() && largest.is_intact(),
         "nothing is written outside of the arrays", instruction_set, V);
  const bool is_unchanged =
      std::memcmp(before.data(), logits.data(), before.size() * sizeof(Element)) == 0;
  expect(wants_gradient != is_unchanged, "logits are changed where the gradient is wanted",
         instruction_set, V);
  for (int64_t n = 0; n < N; ++n) {
    expect(std::isfinite(cost.data()[n]) && largest.data()[n] >= 0, "every row has its cost",
           instruction_set, V);
  }
}

}  // namespace

int main() {
  for (const InstructionSet each : instruction_sets) {
    if (!has_instruction_set(each)) continue;
    for (const int64_t V : {1, 2, 3, 4, 7, 8, 15, 16, 17, 31, 32, 33, 1000}) {
      for (const bool wants_gradient : {false, true}) {
        test<float, float>(V, wants_gradient, each);
        test<float, receptance::bfloat16>(V, wants_gradient, each);
        test<double, double>(V, wants_gradient, each);
      }
    }
    std::printf("cross_entropy %s\n", instruction_set_name(each));
  }
  std::printf("%d failures\n", n_failures);
  return n_failures == 0 ? 0 : 1;
}
