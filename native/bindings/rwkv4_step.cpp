// The step of RWKV-4 as PyTorch ops: a plan is made once, of all weights, and then followed for
// every token.
#include "receptance/rwkv4_step.h"

#include <torch/csrc/stable/library.h>

#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "tensors.h"

namespace {

using namespace receptance::bindings;
using receptance::Format;
using receptance::LowRank;
using receptance::Matrix;
using receptance::Norm;
using receptance::Rwkv4Changes;
using receptance::Rwkv4Layer;
using receptance::Rwkv4LayerChanges;
using receptance::Rwkv4Model;

constexpr int64_t tensors_of_model = 6, tensors_of_layer = 18;

// The weights in the order in which they come: see receptance.ops.rwkv4_step.native.
class Weights {
 public:
  Weights(const std::vector<Tensor>& tensors, const receptance::Quantization& quantization)
      : tensors_(tensors), quantization_(quantization) {}

  const float* vector(int64_t n) {
    const Tensor& tensor = next(ScalarType::Float, {n});
    return input<float>(tensor);
  }

  Norm norm(int64_t n) {
    const float* weight = vector(n);
    return {weight, vector(n)};
  }

  // [N, K], quantized if it is of bytes: then as a matrix for products, or as rows for looking up.
  Matrix matrix(int64_t N, int64_t K, bool is_embedding = false) {
    const Tensor& tensor = tensors_[at_];
    if (tensor.scalar_type() != ScalarType::Byte) {
      const bool is_wide = tensor.scalar_type() == ScalarType::Float;
      next(is_wide ? ScalarType::Float : ScalarType::BFloat16, {N, K});
      return {is_wide ? Format::float32 : Format::bfloat16, tensor.const_data_ptr(), N, K, false};
    }
    const receptance::QuantizedMatrix w{nullptr, quantization_, N, K};
    const int64_t groups = n_groups(w);
    if (is_embedding) {
      const int64_t scales = groups * (quantization_.has_offset ? 4 : 2);
      next(ScalarType::Byte, {N, scales + groups * quantization_.group * quantization_.bits / 8});
    } else {
      const int64_t panels = (N + receptance::panel_rows - 1) / receptance::panel_rows;
      next(ScalarType::Byte, {panels, groups, block_bytes(quantization_)});
    }
    return {Format::quantized, tensor.const_data_ptr(), N, K, false};
  }

  // The same, or [words, N, numbers of a word].
  Matrix matrix_by_columns(int64_t N, int64_t K) {
    const Tensor& tensor = tensors_[at_];
    const ScalarType element = tensor.scalar_type();
    if (tensor.dim() != 3 || element == ScalarType::Byte) return matrix(N, K);
    const bool is_wide = element == ScalarType::Float;
    const int64_t per_word = is_wide ? 1 : 2;
    next(is_wide ? ScalarType::Float : ScalarType::BFloat16, {K / per_word, N, per_word});
    return {is_wide ? Format::float32 : Format::bfloat16, tensor.const_data_ptr(), N, K, true};
  }

 private:
  const Tensor& next(ScalarType dtype, std::initializer_list<int64_t> shape) {
    const std::string name = "weights[" + std::to_string(at_) + "]";
    const Tensor& tensor = tensors_[at_++];
    checked(name.c_str(), tensor, dtype, shape);
    STD_TORCH_CHECK(tensor.is_contiguous(), "`", name, "` must be contiguous");
    return tensor;
  }

  const std::vector<Tensor>& tensors_;
  const receptance::Quantization quantization_;
  int64_t at_ = 0;
};

Rwkv4Layer layer_of(Weights& weights, int64_t C) {
  Rwkv4Layer layer;
  layer.ln1 = weights.norm(C);
  layer.ln2 = weights.norm(C);
  for (const float** vector : {&layer.log_w, &layer.u, &layer.mix_k, &layer.mix_v, &layer.mix_r,
                               &layer.channel_mix_k, &layer.channel_mix_r}) {
    *vector = weights.vector(C);
  }
  for (Matrix* matrix : {&layer.key, &layer.value, &layer.receptance, &layer.output}) {
    *matrix = weights.matrix(C, C);
  }
  layer.channel_key = weights.matrix(4 * C, C);
  layer.channel_receptance = weights.matrix(C, C);
  layer.channel_value = weights.matrix_by_columns(C, 4 * C);
  return layer;
}

void check_formats(const Rwkv4Model& model, const Rwkv4Layer& layer) {
  const bool is_narrow = model.head.format == Format::bfloat16;
  for (const Matrix& matrix : {layer.key, layer.value, layer.receptance, layer.output,
                               layer.channel_key, layer.channel_receptance, layer.channel_value}) {
    STD_TORCH_CHECK((matrix.format == Format::bfloat16) == is_narrow,
                    "all matrices must be bfloat16, or none but the embedding");
  }
}

// The bytes of a Rwkv4Model and its layers, which point into the weights. Whoever keeps the plan
// keeps the weights.
Tensor rwkv4_plan(std::vector<Tensor> tensors, int64_t n_layer, int64_t n_embd, int64_t vocab_size,
                  double eps, int64_t bits, int64_t group, bool has_offset) {
  const int64_t expected = tensors_of_model + n_layer * tensors_of_layer;
  const bool has_ln0 = static_cast<int64_t>(tensors.size()) == expected;
  STD_TORCH_CHECK(n_layer > 0 && (has_ln0 || static_cast<int64_t>(tensors.size()) == expected - 2),
                  "`weights` must be ", expected, " tensors, or two less without ln0, got ",
                  tensors.size());
  STD_TORCH_CHECK((bits == 4 || bits == 8) && group > 0 && group % receptance::block_columns == 0,
                  "`bits` must be 4 or 8 and `group` a multiple of 32, got ", bits, " and ", group);
  const receptance::Quantization quantization{bits, group, has_offset};
  Weights weights(tensors, quantization);
  Rwkv4Model model{n_embd, vocab_size, n_layer, static_cast<float>(eps), quantization, {}, {},
                   {},     {},         nullptr};
  model.embedding = weights.matrix(vocab_size, n_embd, true);
  model.head = weights.matrix(vocab_size, n_embd);
  if (has_ln0) model.ln0 = weights.norm(n_embd);
  model.ln_out = weights.norm(n_embd);
  const int64_t size = sizeof(Rwkv4Model) + n_layer * sizeof(Rwkv4Layer);
  const Tensor plan = torch::stable::new_empty(tensors[0], {size}, ScalarType::Byte);
  uint8_t* bytes = output<uint8_t>(plan);
  for (int64_t i = 0; i < n_layer; ++i) {
    const Rwkv4Layer layer = layer_of(weights, n_embd);
    check_formats(model, layer);
    std::memcpy(bytes + sizeof(Rwkv4Model) + i * sizeof(Rwkv4Layer), &layer, sizeof(layer));
  }
  model.layers = reinterpret_cast<const Rwkv4Layer*>(bytes + sizeof(Rwkv4Model));
  std::memcpy(bytes, &model, sizeof(model));
  return plan;
}

const Rwkv4Model& model_of(const Tensor& plan) {
  STD_TORCH_CHECK(plan.is_cpu() && plan.scalar_type() == ScalarType::Byte && plan.dim() == 1 &&
                      plan.size(0) > static_cast<int64_t>(sizeof(Rwkv4Model)),
                  "`plan` must be what rwkv4_plan gave");
  return *reinterpret_cast<const Rwkv4Model*>(plan.const_data_ptr());
}

// The change of a matrix [N, K] with a: [rank, K], and b in panels of N.
LowRank change_of(int64_t at, const Tensor& a, const Tensor& b, int64_t N, int64_t K) {
  const int64_t rank = a.dim() == 2 ? a.size(0) : 0;
  const int64_t panels = (N + receptance::panel_rows - 1) / receptance::panel_rows;
  const auto name = [](int64_t i) { return "factors[" + std::to_string(i) + "]"; };
  checked(name(at).c_str(), a, ScalarType::Float, {rank, K});
  checked(name(at + 1).c_str(), b, ScalarType::Float, {panels, rank, receptance::panel_rows});
  STD_TORCH_CHECK(a.is_contiguous() && b.is_contiguous(), "`factors` must be contiguous");
  return {input<float>(a), input<float>(b), rank};
}

// The bytes of a Rwkv4Changes and its layers, which point into the factors: two for each of
// `matrices`, which counts seven to a layer in their order there. Whoever keeps the plan keeps the
// factors.
Tensor rwkv4_changes_plan(const Tensor& plan, std::vector<Tensor> factors,
                          std::vector<int64_t> matrices) {
  constexpr LowRank Rwkv4LayerChanges::* changed[] = {
      &Rwkv4LayerChanges::key,           &Rwkv4LayerChanges::value,
      &Rwkv4LayerChanges::receptance,    &Rwkv4LayerChanges::output,
      &Rwkv4LayerChanges::channel_key,   &Rwkv4LayerChanges::channel_receptance,
      &Rwkv4LayerChanges::channel_value,
  };
  constexpr int64_t n_changed = 7, key = 4, value = 6;
  const Rwkv4Model& model = model_of(plan);
  STD_TORCH_CHECK(factors.size() == 2 * matrices.size(), "`factors` must be two for each matrix");
  std::vector<Rwkv4LayerChanges> layers(model.n_layer);
  Rwkv4Changes changes{model.C, model.n_layer, 0, nullptr};
  for (size_t i = 0; i < matrices.size(); ++i) {
    const int64_t at = matrices[i], which = at % n_changed;
    STD_TORCH_CHECK(at >= 0 && at < n_changed * model.n_layer, "`matrices` must lie in 0 to ",
                    n_changed * model.n_layer - 1, ", got ", at);
    const int64_t N = model.C * (which == key ? 4 : 1), K = model.C * (which == value ? 4 : 1);
    const LowRank change = change_of(2 * i, factors[2 * i], factors[2 * i + 1], N, K);
    layers[at / n_changed].*changed[which] = change;
    if (change.rank > changes.most_rank) changes.most_rank = change.rank;
  }
  const int64_t layer_bytes = model.n_layer * sizeof(Rwkv4LayerChanges);
  const int64_t size = sizeof(changes) + layer_bytes;
  const Tensor result = torch::stable::new_empty(plan, {size}, ScalarType::Byte);
  uint8_t* bytes = output<uint8_t>(result);
  changes.layers = reinterpret_cast<const Rwkv4LayerChanges*>(bytes + sizeof(changes));
  std::memcpy(bytes, &changes, sizeof(changes));
  std::memcpy(bytes + sizeof(changes), layers.data(), layer_bytes);
  return result;
}

// What follows a plan of changes for each of B sequences; empty where there is none at all.
struct ChangesOfBatch {
  std::vector<const Rwkv4Changes*> of_row;
  int64_t most_rank = 0;

  ChangesOfBatch(const std::vector<Tensor>& plans, const Rwkv4Model& model, int64_t B) {
    STD_TORCH_CHECK(plans.empty() || static_cast<int64_t>(plans.size()) == B,
                    "`changes` must be one for each of ", B, " tokens, got ", plans.size());
    for (const Tensor& plan : plans) {
      STD_TORCH_CHECK(plan.is_cpu() && plan.scalar_type() == ScalarType::Byte && plan.dim() == 1,
                      "`changes` must be empty or what rwkv4_changes_plan gave");
      of_row.push_back(plan.size(0) == 0 ? nullptr : checked_changes(plan, model));
      if (of_row.back() != nullptr && of_row.back()->most_rank > most_rank) {
        most_rank = of_row.back()->most_rank;
      }
    }
  }

 private:
  static const Rwkv4Changes* checked_changes(const Tensor& plan, const Rwkv4Model& model) {
    const int64_t size = sizeof(Rwkv4Changes) + model.n_layer * sizeof(Rwkv4LayerChanges);
    const Rwkv4Changes* changes = static_cast<const Rwkv4Changes*>(plan.const_data_ptr());
    STD_TORCH_CHECK(plan.size(0) == size && changes->C == model.C,
                    "`changes` must be empty or what rwkv4_changes_plan gave for a model of ",
                    model.n_layer, " layers and ", model.C, " channels");
    return changes;
  }
};

float* state_of(const char* name, const Tensor& tensor, const Rwkv4Model& model, int64_t n_slots) {
  checked(name, tensor, ScalarType::Float, {model.n_layer, n_slots, model.C});
  STD_TORCH_CHECK(tensor.is_contiguous(), "`", name, "` must be contiguous, since it is changed");
  return output<float>(tensor);
}

void check_numbers(const char* name, const int64_t* numbers, int64_t B, int64_t end) {
  for (int64_t b = 0; b < B; ++b) {
    STD_TORCH_CHECK(numbers[b] >= 0 && numbers[b] < end, "`", name, "` must lie in 0 to ", end - 1,
                    ", got ", numbers[b]);
  }
}

Tensor rwkv4_step(const Tensor& plan, const Tensor& given_tokens, const Tensor& time_mix_x,
                  const Tensor& channel_mix_x, const Tensor& num, const Tensor& den,
                  const Tensor& log_scale, const Tensor& given_slots, std::vector<Tensor> plans,
                  int64_t instruction_set) {
  const Rwkv4Model& model = model_of(plan);
  STD_TORCH_CHECK(given_tokens.dim() == 1, "`tokens` must have the shape [B], got ",
                  shown(given_tokens.sizes()));
  const int64_t B = given_tokens.size(0), n_slots = num.dim() == 3 ? num.size(1) : 0;
  const Tensor tokens = checked("tokens", given_tokens, ScalarType::Long, {B});
  const Tensor slots = checked("slots", given_slots, ScalarType::Long, {B});
  check_numbers("tokens", input<int64_t>(tokens), B, model.V);
  check_numbers("slots", input<int64_t>(slots), B, n_slots);
  const receptance::Rwkv4Pool pool{state_of("time_mix_x", time_mix_x, model, n_slots),
                                   state_of("channel_mix_x", channel_mix_x, model, n_slots),
                                   state_of("num", num, model, n_slots),
                                   state_of("den", den, model, n_slots),
                                   state_of("log_scale", log_scale, model, n_slots),
                                   n_slots};
  const ChangesOfBatch changes(plans, model, B);
  const Tensor logits = torch::stable::new_empty(num, {B, model.V});
  const Aligned scratch = aligned(num, receptance::rwkv4_step_scratch(model, B, changes.most_rank));
  const receptance::Rwkv4Step step{
      &model, pool,          input<int64_t>(tokens), input<int64_t>(slots), output<float>(logits),
      B,      scratch.bytes, changes.of_row.data(),  changes.most_rank};
  receptance::rwkv4_step(step, checked_instruction_set(instruction_set), torch_threads());
  return logits;
}

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(receptance, m) {
  m.def(
      "rwkv4_plan(Tensor[] weights, int n_layer, int n_embd, int vocab_size, float eps, int bits,"
      " int group, bool has_offset) -> Tensor");
  m.def("rwkv4_changes_plan(Tensor plan, Tensor[] factors, int[] matrices) -> Tensor");
  m.def(
      "rwkv4_step(Tensor plan, Tensor tokens, Tensor(a!) time_mix_x, Tensor(b!) channel_mix_x,"
      " Tensor(c!) num, Tensor(d!) den, Tensor(e!) log_scale, Tensor slots, Tensor[] changes,"
      " int instruction_set=0) -> Tensor");
}

STABLE_TORCH_LIBRARY_IMPL(receptance, CPU, m) {
  m.impl("rwkv4_plan", TORCH_BOX(&rwkv4_plan));
  m.impl("rwkv4_changes_plan", TORCH_BOX(&rwkv4_changes_plan));
  m.impl("rwkv4_step", TORCH_BOX(&rwkv4_step));
}
