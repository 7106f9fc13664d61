// Products with the weights' matrices, for inference: y_m = W x_m for each of M rows x_m.
//
// A row of the results depends on its own row of x alone: not on the other rows, nor on how many
// there are, nor on the number of threads. So a sequence gives the same bits in any company, and a
// prompt the same however it is cut. (The stock products choose their order of summation by shape.)
//
// As in receptance/kernels.h, arrays are dense and row-major, and kernels never allocate nor throw.
#pragma once

#include <cstdint>

#include "receptance/kernels.h"

namespace receptance {

// ---- Matrices of float32 and bfloat16 ----------------------------------------------------------

// x: [M, K]. w: [N, K]. y: [M, N]. Sums are float32; y is rounded once. Served: float, bfloat16.
// Where W lies by columns, w is [words, N, numbers of a word]: a word is 4 bytes of a row, one
// number or two, and K a multiple of these. The results have the same bits. scratch:
// product_scratch(...) bytes, aligned to 64, any content.
template <typename Element>
struct Product {
  const Element* x;
  const Element* w;
  Element* y;
  int64_t M, N, K;
  bool by_columns;
  uint8_t* scratch;
};

int64_t product_scratch(InstructionSet instruction_set, int64_t n_threads);

template <typename Element>
void product(const Product<Element>& arrays, InstructionSet instruction_set,
             const Threads& threads);

// ---- Matrices of int8 and int4 -----------------------------------------------------------------

// Numbers that share a scale in a row of x.
inline constexpr int64_t block_columns = 32;

// Rows of W that lie interleaved.
inline constexpr int64_t panel_rows = 32;

// How a matrix is quantized: w = scale (q - zero) + offset, with scale and offset for each row and
// group of columns. q is in [0, 15] with zero = 8 for 4 bits, in [1, 255] with zero = 128 for 8.
// `group` is a multiple of block_columns.
struct Quantization {
  int64_t bits, group;
  bool has_offset;  // else offsets are 0
};

// A quantized matrix [N, K]: for each panel of rows and each group of columns one block of bytes:
// the panel's scales, its offsets (if it has any), both bfloat16, and its levels q. Eight bits:
// [quad of columns][row][column of quad]. Four bits: [pair of quads][row][4], the low half of a
// byte being a level of the first quad, the high half that of the second. What lies beyond N or K
// has scale and offset 0.
struct QuantizedMatrix {
  const uint8_t* blocks;
  Quantization quantization;
  int64_t N, K;
};

constexpr int64_t n_groups(const QuantizedMatrix& w) {
  return (w.K + w.quantization.group - 1) / w.quantization.group;
}

constexpr int64_t block_bytes(const Quantization& quantization) {
  const int64_t scales = panel_rows * sizeof(bfloat16) * (quantization.has_offset ? 2 : 1);
  return scales + panel_rows * quantization.group * quantization.bits / 8;
}

// A block of columns of a row of x in int8: x = scale level.
struct QuantizedBlock {
  int8_t levels[block_columns];
  float scale;
  int32_t start;  // -8 times the sum of the levels: what sums of 4-bit q times levels begin with
};

// The scale of a block is max |x| / 127, or 0 if that is below the smallest normal number; its
// levels are x (1 / scale), rounded to the nearest, halves to even. Where x is not finite, the
// scale is NaN and the levels are 0. x: [M, K], padded with 0 to n_blocks blocks. blocks: [M,
// n_blocks].
void quantize_rows(const float* x, QuantizedBlock* blocks, int64_t M, int64_t K, int64_t n_blocks,
                   InstructionSet instruction_set, const Threads& threads);

// y = x W^T, y: [M, N] in float32, x: [M, n_blocks] with n_blocks = n_groups(w) * group /
// block_columns. In a block, products of levels are summed up exactly, in integers.
struct QuantizedProduct {
  const QuantizedBlock* x;
  QuantizedMatrix w;
  float* y;
  int64_t M;
};

void quantized_product(const QuantizedProduct& arrays, InstructionSet instruction_set,
                       const Threads& threads);

// ---- LayerNorm ---------------------------------------------------------------------------------

// y = (x - mean(x)) / sqrt(variance(x) + eps) weight + bias for each of M rows of C numbers.
struct LayerNorm {
  const float* x;
  const float* weight;
  const float* bias;
  float* y;
  int64_t M, C;
  float eps;
};

void layer_norm(const LayerNorm& arrays, InstructionSet instruction_set, const Threads& threads);

// ---- The memory's ceiling ----------------------------------------------------------------------

// Reads every byte once, on all threads, as fast as memory gives them; returns their exclusive or,
// by words of 8 bytes. n is a multiple of 8.
uint64_t read_all(const uint8_t* bytes, int64_t n, InstructionSet instruction_set,
                  const Threads& threads);

}  // namespace receptance
