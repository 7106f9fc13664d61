// Tests of cross_entropy without PyTorch: what it writes, and that it writes nothing else. That its
// numbers are right, tests/ops/linear_cross_entropy shows. Prints what failed, returns how much.
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <vector>

#include "guarded.h"
#include "receptance/kernels.h"

namespace {

using namespace receptance::tests;
using receptance::InstructionSet;

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
  receptance::cross_entropy(arrays, instruction_set, one_by_one);

  expect(logits.is_intact() && targets.is_intact() && cost.is_intact() && largest.is_intact(),
         "nothing is written outside of the arrays", instruction_set, static_cast<double>(V));
  const bool is_unchanged =
      std::memcmp(before.data(), logits.data(), before.size() * sizeof(Element)) == 0;
  expect(wants_gradient != is_unchanged, "logits are changed where the gradient is wanted",
         instruction_set, static_cast<double>(V));
  for (int64_t n = 0; n < N; ++n) {
    expect(std::isfinite(cost.data()[n]) && largest.data()[n] >= 0, "every row has its cost",
           instruction_set, static_cast<double>(V));
  }
}

}  // namespace

int main() {
  for (const InstructionSet each : receptance::all_instruction_sets) {
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
