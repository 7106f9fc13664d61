// The changes of low rank in a step of RWKV-4: each sequence has its own, or none. Internal.
#pragma once

#include <cstdint>

#include "instruction_set_tables.h"
#include "integers.h"
#include "low_rank_kernels.h"
#include "receptance/rwkv4_step.h"
#include "rwkv4_step_scratch.h"
#include "team.h"

namespace receptance {

RECEPTANCE_DECLARE_TABLES(LowRankTable, low_rank_kernels)

// Which matrix of a layer is changed.
using Changed = LowRank Rwkv4LayerChanges::*;

// In two phases, as the products with B need all of A x: `meet` is one of its own, which there is
// only if a sequence has changes, and `add` belongs to that of the matrix.
template <typename Element>
class Changes {
 public:
  Changes(const Rwkv4Step& step, InstructionSet instruction_set, float* met)
      : step_(step),
        kernels_(kernels_of(low_rank_kernels(instruction_set), Element{})),
        met_(met) {}

  // A x of n matrices of a layer, for what enters each.
  void meet(Team& team, int64_t layer, int64_t n, const Changed* matrices,
            const Inputs<Element>* const* inputs) const {
    if (step_.most_rank == 0) return;
    const int64_t B = step_.B, parts = ceil_div(step_.most_rank, ranks_of_part);
    team.share(n * B * parts, [&](int64_t at) {
      const int64_t b = at / parts % B, m = at / parts / B, begin = at % parts * ranks_of_part;
      const LowRank* change = change_of(layer, matrices[m], b);
      if (change == nullptr || change->rank <= begin) return;
      const int64_t K = inputs[m]->K, end = smaller(begin + ranks_of_part, change->rank);
      kernels_.meet(*change, inputs[m]->values + b * K, met_of(m, b), K, begin, end);
    });
  }

  // Adds to the columns [begin, end) of y, [B, N], what `meet` prepared of its m-th matrix.
  void add(int64_t layer, int64_t m, Changed matrix, Element* y, int64_t N, int64_t begin,
           int64_t end) const {
    if (step_.most_rank == 0) return;
    for (int64_t b = 0; b < step_.B; ++b) {
      const LowRank* change = change_of(layer, matrix, b);
      if (change != nullptr) kernels_.add(*change, met_of(m, b), y + b * N, begin, end);
    }
  }

 private:
  static constexpr int64_t ranks_of_part = 4;

  // Null where there is none.
  const LowRank* change_of(int64_t layer, Changed matrix, int64_t b) const {
    const Rwkv4Changes* changes = step_.changes[b];
    if (changes == nullptr) return nullptr;
    const LowRank& change = changes->layers[layer].*matrix;
    return change.rank == 0 ? nullptr : &change;
  }

  float* met_of(int64_t m, int64_t b) const { return met_ + (m * step_.B + b) * step_.most_rank; }

  const Rwkv4Step& step_;
  const LowRankKernels<Element>& kernels_;
  float* met_;
};

}  // namespace receptance
