// What one thread does of wkv4: some tokens of some channels of one sequence. Internal.
//
// The equations and letters are those of receptance/kernels.h.
#pragma once

#include <cstdint>

#include "receptance/kernels.h"

namespace receptance {

// The log scale of an empty sum: see the reference.
inline constexpr double empty_log_scale = -1e38;

// At most so many tokens go into one call of `backward`, which keeps what it computes again of the
// forward for each of them in the first-level cache: 7 vectors a token, 14 KiB with 64-byte ones.
inline constexpr int64_t wkv4_chunk = 32;

template <typename Real>
struct Wkv4State {
  Real* num;
  Real* den;
  Real* log_scale;
};

// T tokens of C channels. Pointers are to the first token and channel; the next token of k and v
// lies `stride` further on. The state is walked from the first token to the last, in place.
template <typename Real, typename Element>
struct Wkv4Piece {
  const Real* log_w;
  const Real* u;
  const Element* k;
  const Element* v;
  const uint8_t* resets;  // of each token, or null
  Wkv4State<Real> state;
  int64_t T, C, stride;
};

template <typename Real, typename Element>
struct Wkv4Kernels {
  using Piece = Wkv4Piece<Real, Element>;

  // Writes y and the state.
  void (*forward)(const Piece& piece, Element* y);

  // Writes the state alone.
  void (*advance)(const Piece& piece);

  // Writes the state, and adds to (alpha, beta) what the piece's tokens contribute to the adjoints
  // of the state before the first of them; multiplies `reach`, by which adjoints of the state fade
  // on the way from here to there, by the x_t of these tokens, and by 0 at a reset. Begin with 0,
  // 0, 1.
  void (*advance_adjoint)(const Piece& piece, const Element* grad_y, Real* alpha, Real* beta,
                          Real* reach);

  // From the state before the first token (left as it is) and the adjoints of the state after the
  // last (replaced by those before the first): writes grad_k and grad_v, adds to grad_log_w and
  // grad_u. T is at most wkv4_chunk.
  void (*backward)(const Piece& piece, const Element* grad_y, Real* alpha, Real* beta,
                   Real* grad_log_w, Real* grad_u, Element* grad_k, Element* grad_v);

  // Joins the sums of a segment of T tokens, walked from the zero state, to the state before it:
  // on return `state` is the one after the segment, and `sums` holds the one before.
  // A segment that `forgets` (there is a reset in it) leaves nothing of the state before.
  void (*join)(const Real* log_w, const Wkv4State<Real>& state, const Wkv4State<Real>& sums,
               bool forgets, int64_t T, int64_t C);
};

// What one instruction set offers; defined in its own namespace by wkv4_kernels.cpp.
struct KernelTable {
  Wkv4Kernels<float, float> wkv4_f32;
  Wkv4Kernels<float, bfloat16> wkv4_bf16;
  Wkv4Kernels<double, double> wkv4_f64;
  void (*exp_f32)(const float* x, float* y, int64_t n);
  void (*exp_f64)(const double* x, double* y, int64_t n);
};

// The table of an instruction set that has_instruction_set.
const KernelTable& kernel_table(InstructionSet instruction_set);

}  // namespace receptance
