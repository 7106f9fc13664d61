// The gates and the squared ReLU as PyTorch ops.
#include <torch/csrc/stable/library.h>

#include <cstdint>
#include <optional>
#include <tuple>

#include "tensors.h"

namespace {

using namespace receptance::bindings;
using receptance::InstructionSet;

int64_t size_of(const Tensor& tensor) { return static_cast<int64_t>(tensor.numel()); }

Tensor gate(const Tensor& given_r, const Tensor& given_y, int64_t instruction_set) {
  const ScalarType element = given_r.scalar_type();
  checked_real("r", element);
  const Tensor r = torch::stable::contiguous(given_r);
  const Tensor y = checked("y", given_y, element, r.sizes());
  const Tensor out = torch::stable::empty_like(y);
  with_types(element, [&]<typename Real, typename Element>(Real, Element) {
    const receptance::GateForward<Real, Element> arrays{input<Element>(r), input<Element>(y),
                                                        output<Element>(out), size_of(y)};
    gate_forward(arrays, checked_instruction_set(instruction_set), torch_threads());
  });
  return out;
}

std::tuple<Tensor, Tensor> gate_backward(const Tensor& given_r, const Tensor& given_y,
                                         const Tensor& given_grad, int64_t instruction_set) {
  const ScalarType element = given_r.scalar_type();
  checked_real("r", element);
  const Tensor r = torch::stable::contiguous(given_r);
  const Tensor y = checked("y", given_y, element, r.sizes());
  const Tensor grad = checked("grad", given_grad, element, r.sizes());
  const Tensor grad_r = torch::stable::empty_like(r);
  const Tensor grad_y = torch::stable::empty_like(y);
  with_types(element, [&]<typename Real, typename Element>(Real, Element) {
    const receptance::GateBackward<Real, Element> arrays{
        input<Element>(r),       input<Element>(y),       input<Element>(grad),
        output<Element>(grad_r), output<Element>(grad_y), size_of(y)};
    gate_backward(arrays, checked_instruction_set(instruction_set), torch_threads());
  });
  return {grad_r, grad_y};
}

Tensor gated_add(const Tensor& given_x, const Tensor& given_y, const std::optional<Tensor>& given_r,
                 int64_t instruction_set) {
  const ScalarType element = given_y.scalar_type();
  const Tensor x = checked("x", given_x, checked_real("y", element), given_y.sizes());
  const Tensor y = torch::stable::contiguous(given_y);
  std::optional<Tensor> r;
  if (given_r) r = checked("r", *given_r, element, y.sizes());
  const Tensor out = torch::stable::empty_like(x);
  with_types(element, [&]<typename Real, typename Element>(Real, Element) {
    const receptance::GatedAddForward<Real, Element> arrays{
        input<Real>(x), r ? input<Element>(*r) : nullptr, input<Element>(y), output<Real>(out),
        size_of(y)};
    gated_add_forward(arrays, checked_instruction_set(instruction_set), torch_threads());
  });
  return out;
}

std::tuple<Tensor, Tensor> gated_add_backward(const Tensor& given_y, const Tensor& given_r,
                                              const Tensor& given_grad, int64_t instruction_set) {
  const ScalarType element = given_y.scalar_type();
  const Tensor y = torch::stable::contiguous(given_y);
  const Tensor r = checked("r", given_r, element, y.sizes());
  const Tensor grad = checked("grad", given_grad, checked_real("y", element), y.sizes());
  const Tensor grad_y = torch::stable::empty_like(y);
  const Tensor grad_r = torch::stable::empty_like(r);
  with_types(element, [&]<typename Real, typename Element>(Real, Element) {
    const receptance::GatedAddBackward<Real, Element> arrays{
        input<Element>(r),       input<Element>(y),       input<Real>(grad),
        output<Element>(grad_r), output<Element>(grad_y), size_of(y)};
    gated_add_backward(arrays, checked_instruction_set(instruction_set), torch_threads());
  });
  return {grad_y, grad_r};
}

Tensor squared_relu(const Tensor& given_k, int64_t instruction_set) {
  const ScalarType element = given_k.scalar_type();
  checked_real("k", element);
  const Tensor k = torch::stable::contiguous(given_k);
  const Tensor out = torch::stable::empty_like(k);
  with_types(element, [&]<typename Real, typename Element>(Real, Element) {
    const receptance::SquaredReluForward<Real, Element> arrays{input<Element>(k),
                                                               output<Element>(out), size_of(k)};
    squared_relu_forward(arrays, checked_instruction_set(instruction_set), torch_threads());
  });
  return out;
}

void squared_relu_backward(const Tensor& grad, const Tensor& given_k, int64_t instruction_set) {
  const ScalarType element = given_k.scalar_type();
  checked_real("k", element);
  const Tensor k = torch::stable::contiguous(given_k);
  checked("grad", grad, element, k.sizes());
  STD_TORCH_CHECK(grad.is_contiguous(), "`grad` must be contiguous, since it is changed in place");
  with_types(element, [&]<typename Real, typename Element>(Real, Element) {
    const receptance::SquaredReluBackward<Real, Element> arrays{input<Element>(k),
                                                                output<Element>(grad), size_of(k)};
    squared_relu_backward(arrays, checked_instruction_set(instruction_set), torch_threads());
  });
}

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(receptance, m) {
  m.def("gate(Tensor r, Tensor y, int instruction_set=0) -> Tensor");
  m.def(
      "gate_backward(Tensor r, Tensor y, Tensor grad, int instruction_set=0)"
      " -> (Tensor r, Tensor y)");
  m.def("gated_add(Tensor x, Tensor y, Tensor? r, int instruction_set=0) -> Tensor");
  m.def(
      "gated_add_backward(Tensor y, Tensor r, Tensor grad, int instruction_set=0)"
      " -> (Tensor y, Tensor r)");
  m.def("squared_relu(Tensor k, int instruction_set=0) -> Tensor");
  m.def("squared_relu_backward_(Tensor(a!) grad, Tensor k, int instruction_set=0) -> ()");
}

STABLE_TORCH_LIBRARY_IMPL(receptance, CPU, m) {
  m.impl("gate", TORCH_BOX(&gate));
  m.impl("gate_backward", TORCH_BOX(&gate_backward));
  m.impl("gated_add", TORCH_BOX(&gated_add));
  m.impl("gated_add_backward", TORCH_BOX(&gated_add_backward));
  m.impl("squared_relu", TORCH_BOX(&squared_relu));
  m.impl("squared_relu_backward_", TORCH_BOX(&squared_relu_backward));
}
