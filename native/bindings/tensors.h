// What every binding does with tensors before their pointers go to a kernel.
#pragma once

#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>
#include <torch/headeronly/util/Exception.h>

#include <algorithm>
#include <cstdint>
#include <initializer_list>
#include <sstream>
#include <string>

#include "receptance/kernels.h"

namespace receptance::bindings {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

inline void on_torch_threads(int64_t begin, int64_t end, int64_t grain, Task task, void* context) {
  torch::stable::parallel_for(begin, end, grain, [&](int64_t piece_begin, int64_t piece_end) {
    task(piece_begin, piece_end, context);
  });
}

inline Threads torch_threads() {
  return {on_torch_threads, static_cast<int64_t>(torch::stable::get_num_threads())};
}

// What can run here, narrowest first: "portable=1 avx2=2".
inline std::string available_instruction_sets() {
  std::ostringstream text;
  for (const InstructionSet each : all_instruction_sets) {
    if (!has_instruction_set(each)) continue;
    text << (each == InstructionSet::portable ? "" : " ") << instruction_set_name(each) << '='
         << static_cast<int64_t>(each);
  }
  return text.str();
}

inline InstructionSet checked_instruction_set(int64_t number) {
  if (number == 0) return best_instruction_set();
  for (const InstructionSet each : all_instruction_sets) {
    if (static_cast<int64_t>(each) == number && has_instruction_set(each)) return each;
  }
  STD_TORCH_CHECK(false, "`instruction_set` must be 0 (the widest) or one of ",
                  available_instruction_sets(), ", got ", number);
}

inline std::string shown(torch::headeronly::IntHeaderOnlyArrayRef shape) {
  std::ostringstream text;
  text << '[';
  for (size_t i = 0; i < shape.size(); ++i) text << (i == 0 ? "" : ", ") << shape[i];
  text << ']';
  return text.str();
}

// The tensor, contiguous, if it is what the kernels may read through a pointer.
inline Tensor checked(const char* name, const Tensor& tensor, ScalarType dtype,
                      torch::headeronly::IntHeaderOnlyArrayRef shape) {
  STD_TORCH_CHECK(tensor.is_cpu(), "`", name, "` must be on the cpu");
  STD_TORCH_CHECK(tensor.scalar_type() == dtype, "`", name, "` must have the dtype ", dtype,
                  ", got ", tensor.scalar_type());
  const auto sizes = tensor.sizes();
  // The headers of PyTorch 2.11 have no == for shapes.
  const bool is_same = std::equal(sizes.begin(), sizes.end(), shape.begin(), shape.end());
  STD_TORCH_CHECK(is_same, "`", name, "` must have the shape ", shown(shape), ", got ",
                  shown(tensor.sizes()));
  return torch::stable::contiguous(tensor);
}

inline Tensor checked(const char* name, const Tensor& tensor, ScalarType dtype,
                      std::initializer_list<int64_t> shape) {
  return checked(name, tensor, dtype, torch::headeronly::IntHeaderOnlyArrayRef(shape));
}

// The dtype that kernels compute in where `element` goes in and out, if they serve it.
inline ScalarType checked_real(const char* name, ScalarType element) {
  STD_TORCH_CHECK(element == ScalarType::Float || element == ScalarType::BFloat16 ||
                      element == ScalarType::Double,
                  "`", name, "` must have the dtype Float, BFloat16 or Double, got ", element);
  return element == ScalarType::Double ? ScalarType::Double : ScalarType::Float;
}

// Calls run(Real{}, Element{}) with the types that the dtype of what goes in and out names.
template <typename Run>
void with_types(ScalarType element, const Run& run) {
  switch (element) {
    case ScalarType::Double:
      return run(double{}, double{});
    case ScalarType::BFloat16:
      return run(float{}, bfloat16{});
    default:
      return run(float{}, float{});
  }
}

template <typename Number>
const Number* input(const Tensor& tensor) {
  return static_cast<const Number*>(tensor.const_data_ptr());
}

template <typename Number>
Number* output(const Tensor& tensor) {
  return static_cast<Number*>(tensor.mutable_data_ptr());
}

// Bytes that begin a cache line, in a tensor that may begin before them.
struct Aligned {
  Tensor tensor;
  uint8_t* bytes;
};

inline Aligned aligned(const Tensor& like, int64_t n) {
  constexpr int64_t line = 64;
  const Tensor tensor = torch::stable::new_empty(like, {n + line}, ScalarType::Byte);
  const uintptr_t start = reinterpret_cast<uintptr_t>(tensor.mutable_data_ptr());
  return {tensor, reinterpret_cast<uint8_t*>((start + line - 1) / line * line)};
}

}  // namespace receptance::bindings
