// What one thread does of the products, of quantize_rows, layer_norm and read_all. Internal.
#pragma once

#include <cstdint>

#include "receptance/products.h"

namespace receptance {

// What one thread needs beside inputs and outputs: aligned to 64 bytes, any content.
struct ProductScratch {
  void* packed;
  float* sums;
};

// For many rows of x.
struct PackedProductTable {
  // The columns of y that belong to the tiles [begin, end) of W.
  void (*f32)(const Product<float>& arrays, int64_t begin, int64_t end,
              const ProductScratch& scratch);
  void (*bf16)(const Product<bfloat16>& arrays, int64_t begin, int64_t end,
               const ProductScratch& scratch);
  int64_t tile_rows;     // rows of W in a tile
  int64_t packed_words;  // of 4 bytes, in ProductScratch
  int64_t sums;          // floats in ProductScratch
};

// For few rows of x, as decoding has them.
struct FewProductTable {
  // The columns [begin, end) of y, which are rows of W.
  void (*f32)(const Product<float>& arrays, int64_t begin, int64_t end);
  void (*bf16)(const Product<bfloat16>& arrays, int64_t begin, int64_t end);

  void (*layer_norm)(const LayerNorm& arrays, int64_t begin, int64_t end);  // rows

  uint64_t (*read_all)(const uint8_t* bytes, int64_t n);
};

// For few rows of x, most of which are 0, with w as [K, N]: a matrix that lies by columns.
struct ColumnProductTable {
  // The columns [begin, end) of y, which are rows of W. Bit k % 32 of is_used[k / 32] is 0 where
  // the column k meets nothing but 0; bits from K on are 0.
  void (*f32)(const Product<float>& arrays, const uint32_t* is_used, int64_t begin, int64_t end);
  void (*bf16)(const Product<bfloat16>& arrays, const uint32_t* is_used, int64_t begin,
               int64_t end);
};

struct QuantizedProductTable {
  // The columns of y that belong to the panels [begin, end) of W.
  void (*product)(const QuantizedProduct& arrays, int64_t begin, int64_t end);

  // The blocks [begin, end) of one row of x; numbers from `K` on count as 0.
  void (*quantize)(const float* x, const QuantizedRows& row, int64_t begin, int64_t end, int64_t K);
};

}  // namespace receptance
