// norm_shift_mix over whole batches: how the tokens are handed to the threads.
#include "instruction_set_tables.h"
#include "integers.h"
#include "norm_shift_mix_kernels.h"
#include "receptance/kernels.h"

namespace receptance {

RECEPTANCE_DECLARE_TABLES(NormShiftMixTable, norm_shift_mix_kernels)

namespace {

// Numbers below which handing work to another thread costs more than it saves.
constexpr int64_t smallest_task = 1 << 14;

// Fewest tokens of a piece, so that its sums, written and read again, are little beside its tokens;
// and most pieces, for the same reason. A piece goes to one thread.
constexpr int64_t fewest_tokens = 32;
constexpr int64_t most_pieces = 256;

// The cut of [B, T] into pieces of one sequence: by the shape alone, so that the sums over pieces
// are the same for any number of threads.
struct Cut {
  int64_t tokens, pieces_per_sequence, n_pieces;

  Cut(int64_t B, int64_t T) : tokens(larger(fewest_tokens, ceil_div(B * T, most_pieces))) {
    pieces_per_sequence = ceil_div(T, tokens);
    n_pieces = B * pieces_per_sequence;
  }
};

// Runs body(piece, b, begin, end) for each piece: the tokens [begin, end) of sequence b.
template <typename Body>
void for_each_piece(const Cut& cut, int64_t T, int64_t C, const Threads& threads,
                    const Body& body) {
  struct Context {
    const Cut& cut;
    int64_t T;
    const Body& body;
  } context{cut, T, body};
  const Task task = [](int64_t first, int64_t last, void* pointer) {
    const Context& context = *static_cast<Context*>(pointer);
    const int64_t per_sequence = context.cut.pieces_per_sequence, tokens = context.cut.tokens;
    for (int64_t piece = first; piece < last; ++piece) {
      const int64_t begin = piece % per_sequence * tokens;
      context.body(piece, piece / per_sequence, begin, smaller(begin + tokens, context.T));
    }
  };
  const int64_t grain = ceil_div(smallest_task, larger(cut.tokens * C, 1));
  threads.parallel_for(0, cut.n_pieces, grain, task, &context);
}

template <typename Real>
void copy_or_zero(Real* to, const Real* from, int64_t n) {
  for (int64_t i = 0; i < n; ++i) to[i] = from == nullptr ? Real(0) : from[i];
}

// Adds up the pieces' parts of one sum, always in the same order.
template <typename Real>
void add_parts(const Real* parts, int64_t stride, int64_t n_pieces, Real* sum, int64_t C) {
  for (int64_t c = 0; c < C; ++c) sum[c] = 0;
  for (int64_t piece = 0; piece < n_pieces; ++piece) {
    for (int64_t c = 0; c < C; ++c) sum[c] += parts[piece * stride + c];
  }
}

}  // namespace

int64_t norm_shift_mix_backward_scratch(int64_t n_mixes, int64_t B, int64_t T, int64_t C) {
  return Cut(B, T).n_pieces * (2 + n_mixes) * C;
}

template <typename Real, typename Element>
void norm_shift_mix_forward(const NormShiftMixForward<Real, Element>& arrays,
                            InstructionSet instruction_set, const Threads& threads) {
  const auto& kernels = kernels_of(norm_shift_mix_kernels(instruction_set), Element{});
  const int64_t B = arrays.B, T = arrays.T, C = arrays.C;
  if (T == 0) copy_or_zero(arrays.last, arrays.x_last, B * C);
  for_each_piece(Cut(B, T), T, C, threads, [&](int64_t, int64_t b, int64_t begin, int64_t end) {
    kernels.forward(arrays, b, begin, end);
  });
}

template <typename Real, typename Element>
void norm_shift_mix_backward(const NormShiftMixBackward<Real, Element>& arrays,
                             InstructionSet instruction_set, const Threads& threads) {
  const auto& kernels = kernels_of(norm_shift_mix_kernels(instruction_set), Element{});
  const int64_t B = arrays.B, T = arrays.T, C = arrays.C, stride = (2 + arrays.n_mixes) * C;
  const Cut cut(B, T);
  if (T == 0) copy_or_zero(arrays.grad_x_last, arrays.grad_last, B * C);
  for_each_piece(cut, T, C, threads, [&](int64_t piece, int64_t b, int64_t begin, int64_t end) {
    Real* sums = arrays.scratch + piece * stride;
    for (int64_t i = 0; i < stride; ++i) sums[i] = 0;
    kernels.backward(arrays, b, begin, end, sums);
  });
  add_parts(arrays.scratch, stride, cut.n_pieces, arrays.grad_weight, C);
  add_parts(arrays.scratch + C, stride, cut.n_pieces, arrays.grad_bias, C);
  for (int64_t m = 0; m < arrays.n_mixes; ++m) {
    add_parts(arrays.scratch + (2 + m) * C, stride, cut.n_pieces, arrays.grad_mixes[m], C);
  }
}

#define RECEPTANCE_SERVE(Real, Element)                                                           \
  template void norm_shift_mix_forward(const NormShiftMixForward<Real, Element>&, InstructionSet, \
                                       const Threads&);                                           \
  template void norm_shift_mix_backward(const NormShiftMixBackward<Real, Element>&,               \
                                        InstructionSet, const Threads&)
RECEPTANCE_SERVE(float, float);
RECEPTANCE_SERVE(float, bfloat16);
RECEPTANCE_SERVE(double, double);

}  // namespace receptance
