// norm_shift_mix as PyTorch ops.
#include <torch/csrc/stable/library.h>

#include <cstdint>
#include <optional>
#include <tuple>
#include <vector>

#include "tensors.h"

namespace {

using namespace receptance::bindings;
using receptance::InstructionSet;

// The inputs of both ops, checked, and what follows from them.
struct Inputs {
  int64_t B, T, C;
  ScalarType real, element;
  Tensor x, weight, bias, x_last;
  std::vector<Tensor> mixes;
  std::optional<Tensor> resets;
  InstructionSet instruction_set;

  Inputs(const Tensor& given_x, const Tensor& given_weight, const Tensor& given_bias,
         const std::vector<Tensor>& given_mixes, const Tensor& given_x_last,
         const std::optional<Tensor>& given_resets, ScalarType dtype, int64_t given_instruction_set)
      : element(dtype) {
    STD_TORCH_CHECK(given_x.dim() == 3, "`x` must have the shape [B, T, C], got ",
                    shown(given_x.sizes()));
    B = given_x.size(0), T = given_x.size(1), C = given_x.size(2);
    STD_TORCH_CHECK(given_mixes.size() == 2 || given_mixes.size() == 3,
                    "`mixes` must hold 2 or 3 tensors, got ", given_mixes.size());
    real = checked_real("dtype", element);
    x = checked("x", given_x, real, {B, T, C});
    weight = checked("weight", given_weight, real, {C});
    bias = checked("bias", given_bias, real, {C});
    for (const Tensor& mix : given_mixes) mixes.push_back(checked("mixes", mix, real, {C}));
    x_last = checked("x_last", given_x_last, real, {B, C});
    if (given_resets) resets = checked("resets", *given_resets, ScalarType::Bool, {B, T});
    instruction_set = checked_instruction_set(given_instruction_set);
  }

  template <typename Real>
  receptance::NormShiftMixInputs<Real> arrays() const {
    receptance::NormShiftMixInputs<Real> arrays{input<Real>(x),
                                                input<Real>(weight),
                                                input<Real>(bias),
                                                {},
                                                input<Real>(x_last),
                                                resets ? input<uint8_t>(*resets) : nullptr,
                                                n_mixes(),
                                                B,
                                                T,
                                                C};
    for (int64_t m = 0; m < n_mixes(); ++m) arrays.mixes[m] = input<Real>(mixes[m]);
    return arrays;
  }

  int64_t n_mixes() const { return static_cast<int64_t>(mixes.size()); }
};

std::tuple<std::vector<Tensor>, Tensor, Tensor, Tensor> norm_shift_mix(
    const Tensor& x, const Tensor& weight, const Tensor& bias, const std::vector<Tensor>& mixes,
    const Tensor& x_last, const std::optional<Tensor>& resets, double eps, ScalarType dtype,
    int64_t instruction_set) {
  const Inputs in(x, weight, bias, mixes, x_last, resets, dtype, instruction_set);
  std::vector<Tensor> mixed;
  for (int64_t m = 0; m < in.n_mixes(); ++m) {
    mixed.push_back(torch::stable::new_empty(in.x, {in.B, in.T, in.C}, dtype));
  }
  const Tensor last = torch::stable::empty_like(in.x_last);
  const Tensor mean = torch::stable::new_empty(in.x, {in.B, in.T});
  const Tensor rstd = torch::stable::new_empty(in.x, {in.B, in.T});
  with_types(in.element, [&]<typename Real, typename Element>(Real, Element) {
    receptance::NormShiftMixForward<Real, Element> arrays{
        in.arrays<Real>(),  static_cast<Real>(eps), {},
        output<Real>(last), output<Real>(mean),     output<Real>(rstd),
    };
    for (int64_t m = 0; m < in.n_mixes(); ++m) arrays.mixed[m] = output<Element>(mixed[m]);
    receptance::norm_shift_mix_forward(arrays, in.instruction_set, torch_threads());
  });
  return {mixed, last, mean, rstd};
}

std::tuple<Tensor, Tensor, Tensor, std::vector<Tensor>, Tensor> norm_shift_mix_backward(
    const Tensor& x, const Tensor& weight, const Tensor& bias, const std::vector<Tensor>& mixes,
    const Tensor& x_last, const std::optional<Tensor>& resets, const Tensor& given_mean,
    const Tensor& given_rstd, const std::vector<Tensor>& given_grad_mixed,
    const std::optional<Tensor>& given_grad_last, int64_t instruction_set) {
  STD_TORCH_CHECK(given_grad_mixed.size() == mixes.size(), "`grad_mixed` must hold ", mixes.size(),
                  " tensors, as `mixes` does, got ", given_grad_mixed.size());
  STD_TORCH_CHECK(!mixes.empty(), "`mixes` must hold 2 or 3 tensors, got 0");
  const Inputs in(x, weight, bias, mixes, x_last, resets, given_grad_mixed[0].scalar_type(),
                  instruction_set);
  const Tensor mean = checked("mean", given_mean, in.real, {in.B, in.T});
  const Tensor rstd = checked("rstd", given_rstd, in.real, {in.B, in.T});
  std::vector<Tensor> grad_mixed, grad_mixes;
  for (const Tensor& grad : given_grad_mixed) {
    grad_mixed.push_back(checked("grad_mixed", grad, in.element, {in.B, in.T, in.C}));
    grad_mixes.push_back(torch::stable::empty_like(in.weight));
  }
  std::optional<Tensor> grad_last;
  if (given_grad_last) grad_last = checked("grad_last", *given_grad_last, in.real, {in.B, in.C});
  const Tensor grad_x = torch::stable::empty_like(in.x);
  const Tensor grad_weight = torch::stable::empty_like(in.weight);
  const Tensor grad_bias = torch::stable::empty_like(in.bias);
  const Tensor grad_x_last = torch::stable::empty_like(in.x_last);
  const Tensor scratch = torch::stable::new_empty(
      in.x, {receptance::norm_shift_mix_backward_scratch(in.n_mixes(), in.B, in.T, in.C)});
  with_types(in.element, [&]<typename Real, typename Element>(Real, Element) {
    receptance::NormShiftMixBackward<Real, Element> arrays{
        in.arrays<Real>(),
        input<Real>(mean),
        input<Real>(rstd),
        {},
        grad_last ? input<Real>(*grad_last) : nullptr,
        output<Real>(grad_x),
        output<Real>(grad_weight),
        output<Real>(grad_bias),
        {},
        output<Real>(grad_x_last),
        output<Real>(scratch)};
    for (int64_t m = 0; m < in.n_mixes(); ++m) {
      arrays.grad_mixed[m] = input<Element>(grad_mixed[m]);
      arrays.grad_mixes[m] = output<Real>(grad_mixes[m]);
    }
    receptance::norm_shift_mix_backward(arrays, in.instruction_set, torch_threads());
  });
  return {grad_x, grad_weight, grad_bias, grad_mixes, grad_x_last};
}

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(receptance, m) {
  m.def(
      "norm_shift_mix(Tensor x, Tensor weight, Tensor bias, Tensor[] mixes, Tensor x_last,"
      " Tensor? resets, float eps, ScalarType dtype, int instruction_set)"
      " -> (Tensor[] mixed, Tensor last, Tensor mean, Tensor rstd)");
  m.def(
      "norm_shift_mix_backward(Tensor x, Tensor weight, Tensor bias, Tensor[] mixes,"
      " Tensor x_last, Tensor? resets, Tensor mean, Tensor rstd, Tensor[] grad_mixed,"
      " Tensor? grad_last, int instruction_set)"
      " -> (Tensor x, Tensor weight, Tensor bias, Tensor[] mixes, Tensor x_last)");
}

STABLE_TORCH_LIBRARY_IMPL(receptance, CPU, m) {
  m.impl("norm_shift_mix", TORCH_BOX(&norm_shift_mix));
  m.impl("norm_shift_mix_backward", TORCH_BOX(&norm_shift_mix_backward));
}
