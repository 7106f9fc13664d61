// The kernels as PyTorch ops, through PyTorch's stable ABI: one library for every version from 2.10
// on and for every Python. Only this folder knows PyTorch.
#include <torch/csrc/stable/library.h>

#include <cstdint>
#include <optional>
#include <string>
#include <tuple>

#include "tensors.h"

namespace {

using namespace receptance::bindings;
using receptance::Form;
using receptance::InstructionSet;

// The inputs of wkv4 both ways, checked, and what follows from them.
struct Wkv4Tensors {
  int64_t B, T, C;
  ScalarType element, real;
  Tensor log_w, u, k, v;
  std::optional<Tensor> resets;
  Form form;
  InstructionSet instruction_set;

  Wkv4Tensors(const Tensor& given_log_w, const Tensor& given_u, const Tensor& given_k,
              const Tensor& given_v, const std::optional<Tensor>& given_resets, int64_t given_form,
              int64_t given_instruction_set) {
    STD_TORCH_CHECK(given_k.dim() == 3, "`k` must have the shape [B, T, C], got ",
                    shown(given_k.sizes()));
    B = given_k.size(0), T = given_k.size(1), C = given_k.size(2);
    element = given_k.scalar_type();
    real = checked_real("k", element);
    log_w = checked("log_w", given_log_w, real, {C});
    u = checked("u", given_u, real, {C});
    k = checked("k", given_k, element, {B, T, C});
    v = checked("v", given_v, element, {B, T, C});
    if (given_resets) resets = checked("resets", *given_resets, ScalarType::Bool, {B, T});
    STD_TORCH_CHECK(given_form >= 0 && given_form <= 2,
                    "`form` must be 0 (automatic), 1 (serial) or 2 (parallel), got ", given_form);
    form = static_cast<Form>(given_form);
    instruction_set = checked_instruction_set(given_instruction_set);
  }

  template <typename Real, typename Element>
  receptance::Wkv4Inputs<Real, Element> arrays() const {
    const uint8_t* flags = resets ? input<uint8_t>(*resets) : nullptr;
    return {
        input<Real>(log_w), input<Real>(u), input<Element>(k), input<Element>(v), flags, B, T, C};
  }

  Tensor new_state() const { return torch::stable::new_empty(log_w, {B, C}); }
  Tensor scratch(int64_t size) const { return torch::stable::new_empty(log_w, {size}); }
};

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> wkv4(
    const Tensor& log_w, const Tensor& u, const Tensor& k, const Tensor& v, const Tensor& given_num,
    const Tensor& given_den, const Tensor& given_log_scale, const std::optional<Tensor>& resets,
    int64_t given_form, int64_t instruction_set) {
  const Wkv4Tensors in(log_w, u, k, v, resets, given_form, instruction_set);
  const Tensor num = checked("num", given_num, in.real, {in.B, in.C});
  const Tensor den = checked("den", given_den, in.real, {in.B, in.C});
  const Tensor log_scale = checked("log_scale", given_log_scale, in.real, {in.B, in.C});
  const Tensor y = torch::stable::empty_like(in.k);
  const Tensor num_out = in.new_state(), den_out = in.new_state(), log_scale_out = in.new_state();
  const Tensor borders =
      torch::stable::new_empty(num, {3, in.B, receptance::wkv4_n_chunks(in.T), in.C});
  const receptance::Threads threads = torch_threads();
  const Form form = receptance::wkv4_forward_form(in.form, in.B, in.T, in.C, threads.count);
  const Tensor scratch = in.scratch(receptance::wkv4_forward_scratch(form, in.B, in.T, in.C));
  with_types(in.element, [&]<typename Real, typename Element>(Real, Element) {
    const receptance::Wkv4Forward<Real, Element> arrays{
        in.arrays<Real, Element>(), input<Real>(num),
        input<Real>(den),           input<Real>(log_scale),
        output<Element>(y),         output<Real>(num_out),
        output<Real>(den_out),      output<Real>(log_scale_out),
        output<Real>(borders),      output<Real>(scratch)};
    receptance::wkv4_forward(arrays, form, in.instruction_set, threads);
  });
  return {y, num_out, den_out, log_scale_out, borders};
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor> wkv4_backward(
    const Tensor& log_w, const Tensor& u, const Tensor& k, const Tensor& v,
    const std::optional<Tensor>& resets, const Tensor& given_borders, const Tensor& given_grad_y,
    const Tensor& given_grad_num, const Tensor& given_grad_den, int64_t given_form,
    int64_t instruction_set) {
  const Wkv4Tensors in(log_w, u, k, v, resets, given_form, instruction_set);
  const Tensor borders =
      checked("borders", given_borders, in.real, {3, in.B, receptance::wkv4_n_chunks(in.T), in.C});
  const Tensor grad_y = checked("grad_y", given_grad_y, in.element, {in.B, in.T, in.C});
  const Tensor grad_num_out = checked("grad_num", given_grad_num, in.real, {in.B, in.C});
  const Tensor grad_den_out = checked("grad_den", given_grad_den, in.real, {in.B, in.C});
  const Tensor grad_log_w = torch::stable::empty_like(in.log_w);
  const Tensor grad_u = torch::stable::empty_like(in.u);
  const Tensor grad_k = torch::stable::empty_like(in.k);
  const Tensor grad_v = torch::stable::empty_like(in.v);
  const Tensor grad_num = in.new_state(), grad_den = in.new_state();
  const receptance::Threads threads = torch_threads();
  const Form form = receptance::wkv4_backward_form(in.form, in.B, in.T, in.C, threads.count);
  const Tensor scratch = in.scratch(receptance::wkv4_backward_scratch(form, in.B, in.T, in.C));
  with_types(in.element, [&]<typename Real, typename Element>(Real, Element) {
    const receptance::Wkv4Backward<Real, Element> arrays{
        in.arrays<Real, Element>(), input<Real>(borders),      input<Element>(grad_y),
        input<Real>(grad_num_out),  input<Real>(grad_den_out), output<Real>(grad_log_w),
        output<Real>(grad_u),       output<Element>(grad_k),   output<Element>(grad_v),
        output<Real>(grad_num),     output<Real>(grad_den),    output<Real>(scratch)};
    receptance::wkv4_backward(arrays, form, in.instruction_set, threads);
  });
  return {grad_log_w, grad_u, grad_k, grad_v, grad_num, grad_den};
}

}  // namespace

STABLE_TORCH_LIBRARY(receptance, m) {
  m.def("instruction_sets() -> str");
  m.def(
      "wkv4(Tensor log_w, Tensor u, Tensor k, Tensor v, Tensor num, Tensor den, Tensor log_scale,"
      " Tensor? resets, int form=0, int instruction_set=0)"
      " -> (Tensor y, Tensor num, Tensor den, Tensor log_scale, Tensor borders)");
  m.def(
      "wkv4_backward(Tensor log_w, Tensor u, Tensor k, Tensor v, Tensor? resets, Tensor borders,"
      " Tensor grad_y, Tensor grad_num, Tensor grad_den,"
      " int form=0, int instruction_set=0)"
      " -> (Tensor log_w, Tensor u, Tensor k, Tensor v, Tensor num, Tensor den)");
}

STABLE_TORCH_LIBRARY_IMPL(receptance, CPU, m) {
  m.impl("wkv4", TORCH_BOX(&wkv4));
  m.impl("wkv4_backward", TORCH_BOX(&wkv4_backward));
}

STABLE_TORCH_LIBRARY_IMPL(receptance, CompositeExplicitAutograd, m) {
  m.impl("instruction_sets", TORCH_BOX(&available_instruction_sets));
}
