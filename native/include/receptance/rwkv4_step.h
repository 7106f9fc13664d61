// One token of RWKV-4 for each of B sequences, through all layers: what decoding repeats.
//
// The same numbers as the model's own forward, from the same kernels; only the matrices of float32
// and bfloat16 are summed up in another order. A sequence's results depend on nothing else in the
// batch. As in receptance/kernels.h, nothing is allocated and nothing throws.
#pragma once

#include <cstdint>

#include "receptance/kernels.h"
#include "receptance/products.h"

namespace receptance {

enum class Format : int64_t { float32, bfloat16, quantized };

// [N, K], as receptance/products.h has it.
struct Matrix {
  Format format;
  const void* data;
  int64_t N, K;
  bool by_columns;
};

struct Norm {
  const float* weight;
  const float* bias;
};

// Vectors are [C]. key to output: [C, C]; channel_key: [4 C, C]; channel_value: [C, 4 C].
struct Rwkv4Layer {
  Norm ln1, ln2;
  const float* log_w;
  const float* u;
  const float* mix_k;
  const float* mix_v;
  const float* mix_r;
  const float* channel_mix_k;
  const float* channel_mix_r;
  Matrix key, value, receptance, output;
  Matrix channel_key, channel_receptance, channel_value;
};

// The matrices of the layers are all bfloat16, or each is float32 or quantized. channel_value may
// lie by columns: those that meet only 0, which the squared ReLU is for most, are then not read.
// embedding: [V, C]; quantized, its rows are for looking up: the scales of a row's groups, its
// offsets (if it has any), both bfloat16, and its levels; of four bits, two columns to a byte.
struct Rwkv4Model {
  int64_t C, V, n_layer;
  float eps;
  Quantization quantization;
  Matrix embedding, head;
  Norm ln0, ln_out;  // ln0 is null where the embedding is normalised already
  const Rwkv4Layer* layers;
};

// A change of a matrix [N, K], which is not merged: y = W x becomes W x + B (A x). a: [rank, K]. b:
// [panels of N, rank, panel_rows], what lies beyond N being 0. Not there where rank is 0.
struct LowRank {
  const float* a;
  const float* b;
  int64_t rank;
};

struct Rwkv4LayerChanges {
  LowRank key, value, receptance, output;
  LowRank channel_key, channel_receptance, channel_value;
};

// The changes of all layers, [n_layer], of which no rank is above `most_rank`.
struct Rwkv4Changes {
  int64_t C, n_layer, most_rank;
  const Rwkv4LayerChanges* layers;
};

// The state of n_slots sequences: five arrays of [n_layer, n_slots, C], as Wkv4Forward and
// NormShiftMixForward have them.
struct Rwkv4Pool {
  float* time_mix_x;
  float* channel_mix_x;
  float* num;
  float* den;
  float* log_scale;
  int64_t n_slots;
};

// tokens: [B], each in [0, V). slots: [B], each another one of [0, n_slots), whose rows of the pool
// go from the state before the token to the state after it. logits: [B, V].
// changes: [B], those of each sequence, or null where it has none; null itself where none has any.
// They are computed in float32, from the x that enters the matrix (before it is rounded to int8),
// and added to the product as it is rounded to y's type, which the sum is rounded to again.
// scratch: rwkv4_step_scratch(model, B, most_rank) bytes, aligned to 64, any content.
struct Rwkv4Step {
  const Rwkv4Model* model;
  Rwkv4Pool pool;
  const int64_t* tokens;
  const int64_t* slots;
  float* logits;
  int64_t B;
  uint8_t* scratch;
  const Rwkv4Changes* const* changes;
  int64_t most_rank;  // of all changes, or more; 0 where there are none
};

int64_t rwkv4_step_scratch(const Rwkv4Model& model, int64_t B, int64_t most_rank);

void rwkv4_step(const Rwkv4Step& step, InstructionSet instruction_set, const Threads& threads);

}  // namespace receptance
