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
};

// For few rows of x that are mostly 0, with W by columns.
template <typename Element>
struct ColumnProduct {
  const uint32_t*
      x;  // [M, words] words of x, of which the first n_used of a row are those of `used`
  const int32_t* used;  // the words of W that meet one other than 0, ascending
  int64_t n_used;
  const uint32_t* w;  // [words, N]
  Element* y;
  int64_t M, N, words;
};

struct ColumnProductTable {
  // The columns [begin, end) of y, which are rows of W.
  void (*f32)(const ColumnProduct<float>& arrays, int64_t begin, int64_t end);
  void (*bf16)(const ColumnProduct<bfloat16>& arrays, int64_t begin, int64_t end);
};

struct RowTable {
  void (*layer_norm)(const LayerNorm& arrays, int64_t begin, int64_t end);  // rows
  uint64_t (*read_all)(const uint8_t* bytes, int64_t n);
};

struct QuantizedProductTable {
  // The columns of y that belong to the panels [begin, end) of W.
  void (*product)(const QuantizedProduct& arrays, int64_t begin, int64_t end);

  // The blocks [begin, end) of one row of x; numbers from `K` on count as 0.
  void (*quantize)(const float* x, QuantizedBlock* row, int64_t begin, int64_t end, int64_t K);
};

}  // namespace receptance
