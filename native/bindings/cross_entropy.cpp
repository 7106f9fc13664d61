// cross_entropy as a PyTorch op: see torch.cpp.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>
#include <torch/headeronly/util/Exception.h>

#include <cstdint>
#include <tuple>

#include "receptance/kernels.h"

namespace {

using receptance::InstructionSet;
using torch::headeronly::ScalarType;
using torch::stable::Tensor;

void on_torch_threads(int64_t begin, int64_t end, int64_t grain, receptance::Task task,
                      void* context) {
  torch::stable::parallel_for(begin, end, grain, [&](int64_t piece_begin, int64_t piece_end) {
    task(piece_begin, piece_end, context);
  });
}

InstructionSet checked_instruction_set(int64_t number) {
  if (number == 0) return receptance::best_instruction_set();
  const InstructionSet instruction_set = static_cast<InstructionSet>(number);
  STD_TORCH_CHECK(number >= 1 && number <= 3 && receptance::has_instruction_set(instruction_set),
                  "`instruction_set` must be 0 (the widest) or one that is here, got ", number);
  return instruction_set;
}

void check_targets(const Tensor& targets, int64_t V) {
  const int64_t* data = static_cast<const int64_t*>(targets.const_data_ptr());
  for (int64_t n = 0; n < targets.size(0); ++n) {
    STD_TORCH_CHECK(data[n] >= 0 && data[n] < V, "`targets` must lie in [0, ", V, "), got ",
                    data[n]);
  }
}

template <typename Real, typename Element>
void run(const Tensor& logits, const Tensor& targets, const Tensor& cost, const Tensor& largest,
         double scale, double auxiliary, bool wants_gradient, InstructionSet instruction_set) {
  const receptance::CrossEntropy<Real, Element> arrays{
      static_cast<Element*>(logits.mutable_data_ptr()),
      static_cast<const int64_t*>(targets.const_data_ptr()),
      static_cast<Real*>(cost.mutable_data_ptr()),
      static_cast<Real*>(largest.mutable_data_ptr()),
      static_cast<Real>(scale),
      static_cast<Real>(auxiliary),
      wants_gradient,
      logits.size(0),
      logits.size(1)};
  const receptance::Threads threads{on_torch_threads,
                                    static_cast<int64_t>(torch::stable::get_num_threads())};
  receptance::cross_entropy(arrays, instruction_set, threads);
}

std::tuple<Tensor, Tensor> cross_entropy(const Tensor& logits, const Tensor& given_targets,
                                         double scale, double auxiliary, bool wants_gradient,
                                         int64_t given_instruction_set) {
  STD_TORCH_CHECK(logits.is_cpu() && given_targets.is_cpu(),
                  "`logits` and `targets` must be on the cpu");
  STD_TORCH_CHECK(logits.dim() == 2 && logits.size(1) > 0 && logits.is_contiguous(),
                  "`logits` must be contiguous and have the shape [N, V], with V above 0");
  STD_TORCH_CHECK(given_targets.scalar_type() == ScalarType::Long && given_targets.dim() == 1 &&
                      given_targets.size(0) == logits.size(0),
                  "`targets` must have the dtype Long and the shape [", logits.size(0), "]");
  const ScalarType element = logits.scalar_type();
  STD_TORCH_CHECK(element == ScalarType::Float || element == ScalarType::BFloat16 ||
                      element == ScalarType::Double,
                  "`logits` must have the dtype Float, BFloat16 or Double, got ", element);
  const Tensor targets = torch::stable::contiguous(given_targets);
  check_targets(targets, logits.size(1));
  const InstructionSet instruction_set = checked_instruction_set(given_instruction_set);

  const ScalarType real = element == ScalarType::Double ? ScalarType::Double : ScalarType::Float;
  const Tensor cost = torch::stable::new_empty(logits, {logits.size(0)}, real);
  const Tensor largest = torch::stable::empty_like(cost);
  const auto run_as = [&]<typename Real, typename Element>(Real, Element) {
    run<Real, Element>(logits, targets, cost, largest, scale, auxiliary, wants_gradient,
                       instruction_set);
  };
  if (element == ScalarType::Double) {
    run_as(double{}, double{});
  } else if (element == ScalarType::BFloat16) {
    run_as(float{}, receptance::bfloat16{});
  } else {
    run_as(float{}, float{});
  }
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
