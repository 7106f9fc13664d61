// cross_entropy as a PyTorch op.
#include <torch/csrc/stable/library.h>

#include <cstdint>
#include <tuple>

#include "tensors.h"

namespace {

using namespace receptance::bindings;

void check_targets(const Tensor& targets, int64_t V) {
  const int64_t* data = input<int64_t>(targets);
  for (int64_t n = 0; n < targets.size(0); ++n) {
    STD_TORCH_CHECK(data[n] >= 0 && data[n] < V, "`targets` must lie in [0, ", V, "), got ",
                    data[n]);
  }
}

std::tuple<Tensor, Tensor> cross_entropy(const Tensor& logits, const Tensor& given_targets,
                                         double scale, double auxiliary, bool wants_gradient,
                                         int64_t instruction_set) {
  STD_TORCH_CHECK(logits.is_cpu(), "`logits` must be on the cpu");
  STD_TORCH_CHECK(logits.dim() == 2 && logits.size(1) > 0 && logits.is_contiguous(),
                  "`logits` must be contiguous and have the shape [N, V], with V above 0");
  const int64_t N = logits.size(0), V = logits.size(1);
  const ScalarType element = logits.scalar_type();
  const ScalarType real = checked_real("logits", element);
  const Tensor targets = checked("targets", given_targets, ScalarType::Long, {N});
  check_targets(targets, V);
  const Tensor cost = torch::stable::new_empty(logits, {N}, real);
  const Tensor largest = torch::stable::empty_like(cost);
  with_types(element, [&]<typename Real, typename Element>(Real, Element) {
    const receptance::CrossEntropy<Real, Element> arrays{output<Element>(logits),
                                                         input<int64_t>(targets),
                                                         output<Real>(cost),
                                                         output<Real>(largest),
                                                         static_cast<Real>(scale),
                                                         static_cast<Real>(auxiliary),
                                                         wants_gradient,
                                                         N,
                                                         V};
    receptance::cross_entropy(arrays, checked_instruction_set(instruction_set), torch_threads());
  });
  return {cost, largest};
}

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(receptance, m) {
  m.def(
      "cross_entropy_(Tensor(a!) logits, Tensor targets, float scale, float auxiliary,"
      " bool wants_gradient, int instruction_set=0) -> (Tensor cost, Tensor largest)");
}

STABLE_TORCH_LIBRARY_IMPL(receptance, CPU, m) {
  m.impl("cross_entropy_", TORCH_BOX(&cross_entropy));
}
