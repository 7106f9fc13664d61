// Products with the weights' matrices, for inference, as PyTorch ops.
#include "receptance/products.h"

#include <sys/mman.h>
#include <torch/csrc/stable/library.h>
#include <unistd.h>

#include <cstdint>
#include <vector>

#include "tensors.h"

namespace {

using namespace receptance::bindings;

// Rows of numbers: all axes but the last are one.
int64_t n_rows(const Tensor& x) {
  int64_t rows = 1;
  for (int64_t axis = 0; axis + 1 < x.dim(); ++axis) rows *= x.size(axis);
  return rows;
}

std::vector<int64_t> with_last(const Tensor& x, int64_t size) {
  std::vector<int64_t> shape;
  for (int64_t axis = 0; axis + 1 < x.dim(); ++axis) shape.push_back(x.size(axis));
  shape.push_back(size);
  return shape;
}

// W as [n_out, n_in], or by columns as [words, n_out, numbers of a word].
struct Weight {
  Tensor tensor;
  ScalarType element;
  int64_t N, K;
  bool by_columns;
};

Weight checked_weight(const Tensor& given) {
  const ScalarType element = given.scalar_type();
  STD_TORCH_CHECK(element == ScalarType::Float || element == ScalarType::BFloat16,
                  "`weight` must have the dtype Float or BFloat16, got ", element);
  const int64_t per_word = element == ScalarType::Float ? 1 : 2;
  STD_TORCH_CHECK(given.dim() == 2 || (given.dim() == 3 && given.size(2) == per_word),
                  "`weight` must have the shape [n_out, n_in] or [words, n_out, ", per_word,
                  "], got ", shown(given.sizes()));
  const Tensor w = checked("weight", given, element, given.sizes());
  if (given.dim() == 2) return {w, element, w.size(0), w.size(1), false};
  return {w, element, w.size(1), w.size(0) * per_word, true};
}

Tensor linear(const Tensor& given_x, const Tensor& given_w, int64_t given_instruction_set) {
  const Weight w = checked_weight(given_w);
  STD_TORCH_CHECK(given_x.dim() > 0, "`x` must have at least one axis");
  const int64_t M = n_rows(given_x);
  const Tensor x = checked("x", given_x, w.element, with_last(given_x, w.K));
  const receptance::InstructionSet instruction_set = checked_instruction_set(given_instruction_set);
  const receptance::Threads threads = torch_threads();
  const Tensor y = torch::stable::new_empty(x, with_last(x, w.N));
  const Aligned scratch = aligned(x, receptance::product_scratch(instruction_set, threads.count));
  const auto run = [&]<typename Element>(Element) {
    const receptance::Product<Element> arrays{
        input<Element>(x), input<Element>(w.tensor), output<Element>(y), M, w.N, w.K, w.by_columns,
        scratch.bytes};
    receptance::product(arrays, instruction_set, threads);
  };
  w.element == ScalarType::Float ? run(float{}) : run(receptance::bfloat16{});
  return y;
}

Tensor quantized_linear(const Tensor& given_x, const Tensor& given_blocks, int64_t N, int64_t bits,
                        int64_t group, bool has_offset, int64_t given_instruction_set) {
  STD_TORCH_CHECK(given_x.dim() > 0, "`x` must have at least one axis");
  const int64_t K = given_x.size(given_x.dim() - 1), M = n_rows(given_x);
  STD_TORCH_CHECK((bits == 4 || bits == 8) && group > 0 && group % receptance::block_columns == 0,
                  "`bits` must be 4 or 8 and `group` a multiple of 32, got ", bits, " and ", group);
  receptance::QuantizedMatrix w{nullptr, {bits, group, has_offset}, N, K};
  const int64_t panels = (N + receptance::panel_rows - 1) / receptance::panel_rows;
  const int64_t groups = n_groups(w), Kp = groups * group;
  const Tensor blocks = checked("weight", given_blocks, ScalarType::Byte,
                                {panels, groups, block_bytes(w.quantization)});
  const Tensor x = checked("x", given_x, ScalarType::Float, given_x.sizes());
  const receptance::InstructionSet instruction_set = checked_instruction_set(given_instruction_set);
  const receptance::Threads threads = torch_threads();
  const int64_t n_blocks = Kp / receptance::block_columns;
  const Aligned bytes = aligned(x, M * n_blocks * sizeof(receptance::QuantizedBlock));
  auto* rows = reinterpret_cast<receptance::QuantizedBlock*>(bytes.bytes);
  const Tensor y = torch::stable::new_empty(x, with_last(x, N));
  receptance::quantize_rows(input<float>(x), rows, M, K, n_blocks, instruction_set, threads);
  w.blocks = input<uint8_t>(blocks);
  receptance::quantized_product({rows, w, output<float>(y), M}, instruction_set, threads);
  return y;
}

Tensor layer_norm(const Tensor& given_x, const Tensor& given_weight, const Tensor& given_bias,
                  double eps, int64_t instruction_set) {
  STD_TORCH_CHECK(given_x.dim() > 0, "`x` must have at least one axis");
  const int64_t C = given_x.size(given_x.dim() - 1);
  const Tensor x = checked("x", given_x, ScalarType::Float, given_x.sizes());
  const Tensor weight = checked("weight", given_weight, ScalarType::Float, {C});
  const Tensor bias = checked("bias", given_bias, ScalarType::Float, {C});
  const Tensor y = torch::stable::empty_like(x);
  receptance::layer_norm({input<float>(x), input<float>(weight), input<float>(bias),
                          output<float>(y), n_rows(x), C, static_cast<float>(eps)},
                         checked_instruction_set(instruction_set), torch_threads());
  return y;
}

int64_t read_all(const Tensor& given_bytes, int64_t instruction_set) {
  STD_TORCH_CHECK(given_bytes.dim() == 1 && given_bytes.size(0) % 8 == 0,
                  "`bytes` must be one axis of a multiple of 8, got ", shown(given_bytes.sizes()));
  const Tensor bytes = checked("bytes", given_bytes, ScalarType::Byte, given_bytes.sizes());
  return static_cast<int64_t>(receptance::read_all(input<uint8_t>(bytes), bytes.size(0),
                                                   checked_instruction_set(instruction_set),
                                                   torch_threads()));
}

// Asks the system to take back the whole pages of a tensor; what is mapped from a file is dropped.
void page_out(const Tensor& tensor) {
  STD_TORCH_CHECK(tensor.is_cpu() && tensor.is_contiguous(),
                  "`tensor` must be contiguous and on the cpu");
#if defined(MADV_PAGEOUT)
  const uintptr_t page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
  const uintptr_t start = reinterpret_cast<uintptr_t>(tensor.const_data_ptr());
  const uintptr_t end = start + tensor.numel() * tensor.element_size();
  const uintptr_t first = (start + page - 1) / page * page, last = end / page * page;
  // An older system does not know how: then the pages stay.
  if (first < last) madvise(reinterpret_cast<void*>(first), last - first, MADV_PAGEOUT);
#endif
}

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(receptance, m) {
  m.def("linear(Tensor x, Tensor weight, int instruction_set=0) -> Tensor");
  m.def(
      "quantized_linear(Tensor x, Tensor weight, int n_out, int bits, int group, bool has_offset,"
      " int instruction_set=0) -> Tensor");
  m.def(
      "layer_norm(Tensor x, Tensor weight, Tensor bias, float eps, int instruction_set=0)"
      " -> Tensor");
  m.def("read_all(Tensor bytes, int instruction_set=0) -> int");
  m.def("page_out(Tensor tensor) -> ()");
}

STABLE_TORCH_LIBRARY_IMPL(receptance, CPU, m) {
  m.impl("linear", TORCH_BOX(&linear));
  m.impl("quantized_linear", TORCH_BOX(&quantized_linear));
  m.impl("layer_norm", TORCH_BOX(&layer_norm));
  m.impl("read_all", TORCH_BOX(&read_all));
  m.impl("page_out", TORCH_BOX(&page_out));
}
