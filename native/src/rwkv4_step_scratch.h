// What a step of RWKV-4 keeps between its phases. Internal.
#pragma once

#include <cstdint>
#include <type_traits>

#include "integers.h"
#include "receptance/rwkv4_step.h"

namespace receptance {

// Rows of a matrix that a thread takes at once: a panel, and a block of what follows.
constexpr int64_t unit = panel_rows;
static_assert(unit == block_columns);

// Hands out scratch in whole cache lines; with a null start it only counts.
class Arena {
 public:
  explicit Arena(uint8_t* start) : start_(reinterpret_cast<uintptr_t>(start)) {}

  template <typename Number>
  Number* take(int64_t n) {
    const uintptr_t here = start_ + size_;
    size_ += ceil_div(n * static_cast<int64_t>(sizeof(Number)), 64) * 64;
    return reinterpret_cast<Number*>(here);
  }

  int64_t size() const { return size_; }

 private:
  uintptr_t start_;
  int64_t size_ = 0;
};

// B vectors that enter a matrix: as they are, and in int8 where the matrix is quantized.
template <typename Element>
struct Inputs {
  Element* values;
  int64_t K, n_blocks;
  QuantizedBlock* blocks;

  Inputs(int64_t B, int64_t n, int64_t group, Arena& arena)
      : values(arena.take<Element>(B * n)),
        K(n),
        n_blocks(ceil_div(n, group) * group / block_columns),
        blocks(arena.take<QuantizedBlock>(B * n_blocks)) {}
};

// What is kept between the phases, of all sequences.
template <typename Element>
struct Scratch {
  float* x;  // the stream
  float* moments;
  float* normed;
  Inputs<Element> x_k, x_v, x_r, gated, squared, out;
  Element *k, *v, *r, *y, *channel_k;
  Element* logits;  // where they are to be widened

  // Of `squared`, where its matrix lies by columns: which words of a unit are not 0 in all rows,
  // and those words of each row.
  uint32_t* is_used;
  uint32_t* used_words;
  int32_t* used;
  int64_t* n_used;

  float* met;  // A x of the changes of up to three matrices

  Scratch(const Rwkv4Model& model, int64_t B, int64_t most_rank, Arena& arena)
      : x(arena.take<float>(B * model.C)),
        moments(arena.take<float>(2 * B)),
        normed(arena.take<float>(B * model.C)),
        x_k(B, model.C, model.quantization.group, arena),
        x_v(B, model.C, model.quantization.group, arena),
        x_r(B, model.C, model.quantization.group, arena),
        gated(B, model.C, model.quantization.group, arena),
        squared(B, 4 * model.C, model.quantization.group, arena),
        out(B, model.C, model.quantization.group, arena),
        k(arena.take<Element>(B * model.C)),
        v(arena.take<Element>(B * model.C)),
        r(arena.take<Element>(B * model.C)),
        y(arena.take<Element>(B * model.C)),
        channel_k(arena.take<Element>(B * 4 * model.C)),
        logits(arena.take<Element>(std::is_same_v<Element, float> ? 0 : B * model.V)),
        is_used(arena.take<uint32_t>(ceil_div(4 * model.C, unit))),
        used_words(arena.take<uint32_t>(B * 4 * model.C)),
        used(arena.take<int32_t>(4 * model.C)),
        n_used(arena.take<int64_t>(1)),
        met(arena.take<float>(3 * B * most_rank)) {}
};

}  // namespace receptance
