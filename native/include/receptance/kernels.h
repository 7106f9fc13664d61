// The whole C++ interface of receptance's kernels: plain pointers and sizes, no PyTorch.
//
// Every array is dense and row-major. Kernels never allocate and never throw; what they need beside
// inputs and outputs, the caller lends them as scratch. What is written may overlap nothing else.
#pragma once

#include <cstdint>

namespace receptance {

// ---- Instruction sets -------------------------------------------------------------------------

// Every kernel is compiled once for each of these that the target's architecture knows.
// avx512_bf16 is AVX-512 with products of bfloat16 (BF16) and of bytes (VNNI).
enum class InstructionSet : int64_t {
  portable = 1,
  avx2 = 2,
  avx512 = 3,
  avx512_bf16 = 4,
  neon = 5,
};

// All of them, narrowest first.
inline constexpr InstructionSet all_instruction_sets[] = {
    InstructionSet::portable, InstructionSet::avx2, InstructionSet::avx512,
    InstructionSet::avx512_bf16, InstructionSet::neon};

// "portable", "avx2" and so on.
const char* instruction_set_name(InstructionSet instruction_set);

// Whether this library and this processor have the instruction set.
bool has_instruction_set(InstructionSet instruction_set);

// The widest one that both have.
InstructionSet best_instruction_set();

// ---- Threads ----------------------------------------------------------------------------------

// Does the part [begin, end) of some work.
using Task = void (*)(int64_t begin, int64_t end, void* context);

// Cuts [begin, end) into pieces of at least `grain`, runs `task` on all of them, on several threads
// where there are several, and returns when all are done. Products and steps, whose threads wait
// for each other, need the pieces to run at the same time.
using ParallelFor = void (*)(int64_t begin, int64_t end, int64_t grain, Task task, void* context);

struct Threads {
  ParallelFor parallel_for;
  int64_t count;  // how many threads parallel_for runs on
};

// ---- Numbers ----------------------------------------------------------------------------------

struct bfloat16 {
  uint16_t bits;
};

// Kernels take numbers of two types: `Real`, float or double, is that of sums and of all that is
// computed; `Element` that of what enters and leaves matrices. Served are <float, float>,
// <float, bfloat16> and <double, double>.

// ---- wkv4: the recurrence of RWKV-4 -----------------------------------------------------------

// How the tokens of a sequence are walked.
//
//   serial    One thread walks all tokens of a block of channels.
//   parallel  The tokens are cut into segments that several threads walk at once. Each segment is
//             first summed up alone; the sums, joined from left to right, give every segment its
//             true entry state. Costs 1.6 times the work forward and 2 times backward.
//   automatic One of the two, by shape and number of threads.
//
// Within a form, results do not depend on the number of threads, on the batch or on its size.
enum class Form : int64_t { automatic = 0, serial = 1, parallel = 2 };

// For every sequence and channel, with the true sums a_t e^{p_t} and b_t e^{p_t}:
//
//     q_t = max(p_{t-1}, u + k_t)
//     y_t = (e^{p_{t-1} - q_t} a_{t-1} + e^{u + k_t - q_t} v_t)
//         / (e^{p_{t-1} - q_t} b_{t-1} + e^{u + k_t - q_t})
//     p_t = max(p_{t-1} + log_w, k_t)
//     a_t = e^{p_{t-1} + log_w - p_t} a_{t-1} + e^{k_t - p_t} v_t
//     b_t = e^{p_{t-1} + log_w - p_t} b_{t-1} + e^{k_t - p_t}
//
// Where resets[t] is not 0, (a_{t-1}, b_{t-1}, p_{t-1}) is the zero state (0, 0, -1e38).
//
// log_w, u: [C]. k, v, y: [B, T, C]. resets: [B, T], or null for none. State: three of [B, C],
// a_0, b_0, p_0 on entry (`num`, `den`, `log_scale`) and a_T, b_T, p_T on return (`*_out`).
// Everything inside is Real. scratch: wkv4_forward_scratch(...) numbers.
//
// borders: the state before each of the wkv4_n_chunks(T) chunks of a sequence, for the way back:
// [3, B, wkv4_n_chunks(T), C], first all a, then all b, then all p.
template <typename Real, typename Element>
struct Wkv4Inputs {
  const Real* log_w;
  const Real* u;
  const Element* k;
  const Element* v;
  const uint8_t* resets;
  int64_t B, T, C;
};

template <typename Real, typename Element>
struct Wkv4Forward : Wkv4Inputs<Real, Element> {
  const Real* num;
  const Real* den;
  const Real* log_scale;
  Element* y;
  Real* num_out;
  Real* den_out;
  Real* log_scale_out;
  Real* borders;
  Real* scratch;
};

// The gradients of the above, from those of y, a_T and b_T. p is a unit and has no gradient.
//
// The adjoints alpha_t, beta_t of a_t, b_t (in the unit e^{-p_t}, so that they cannot overflow)
// start as grad_num_out, grad_den_out and go from right to left. With
//
//     r_t = e^{p_{t-1} - q_t} / d_t,  s_t = e^{u + k_t - q_t} / d_t,    d_t: y_t's denominator
//     x_t = e^{p_{t-1} + log_w - p_t},  z_t = e^{k_t - p_t}:
//
//     grad_v_t = s_t gy_t + z_t alpha_t
//     grad_k_t = s_t gy_t (v_t - y_t) + z_t (alpha_t v_t + beta_t)
//     grad_u   = sum_t s_t gy_t (v_t - y_t)
//     grad_log_w = sum_t x_t (alpha_t a_{t-1} + beta_t b_{t-1})
//     alpha_{t-1} = x_t alpha_t + r_t gy_t,  beta_{t-1} = x_t beta_t - r_t gy_t y_t
//
// and both are 0 on the left of a reset. grad_num, grad_den: alpha_0, beta_0.
// What it needs of the states it computes again, a chunk at a time, from the forward's borders;
// they are the same whatever form the forward took.
template <typename Real, typename Element>
struct Wkv4Backward : Wkv4Inputs<Real, Element> {
  const Real* borders;
  const Element* grad_y;
  const Real* grad_num_out;
  const Real* grad_den_out;
  Real* grad_log_w;
  Real* grad_u;
  Element* grad_k;
  Element* grad_v;
  Real* grad_num;
  Real* grad_den;
  Real* scratch;
};

// The form that `automatic` stands for; any other form is returned as it is.
Form wkv4_forward_form(Form form, int64_t B, int64_t T, int64_t C, int64_t n_threads);
Form wkv4_backward_form(Form form, int64_t B, int64_t T, int64_t C, int64_t n_threads);

// The chunks of a sequence.
int64_t wkv4_n_chunks(int64_t T);

// How many Reals of scratch the form needs, aligned like a Real. Any content.
int64_t wkv4_forward_scratch(Form form, int64_t B, int64_t T, int64_t C);
int64_t wkv4_backward_scratch(Form form, int64_t B, int64_t T, int64_t C);

// `form` is serial or parallel; `instruction_set` is one that has_instruction_set.
template <typename Real, typename Element>
void wkv4_forward(const Wkv4Forward<Real, Element>& arrays, Form form,
                  InstructionSet instruction_set, const Threads& threads);
template <typename Real, typename Element>
void wkv4_backward(const Wkv4Backward<Real, Element>& arrays, Form form,
                   InstructionSet instruction_set, const Threads& threads);

// ---- cross_entropy: logits to their gradient, in place -----------------------------------------

// For every row l of V > 0 logits with the target t, m = max_j l_j, first at j = i:
//
//     largest = m
//     cost    = log sum_j e^{l_j - m} - (l_t - m)
//
// and, where the gradient is wanted, in place of the logits
//
//     scale (e^{l_j - m} / sum_i e^{l_i - m} - [j = t] + auxiliary m [j = i])
//
// which is the gradient of scale (cost + auxiliary / 2 m^2). Else they are left as they are.
//
// logits: [N, V]. targets: [N], each in [0, V). cost, largest: [N]. Everything inside is Real.
// A row's results do not depend on other rows nor on the number of threads.
template <typename Real, typename Element>
struct CrossEntropy {
  Element* logits;
  const int64_t* targets;
  Real* cost;
  Real* largest;
  Real scale;
  Real auxiliary;
  bool wants_gradient;
  int64_t N, V;
};

// Served: <float, float>, <float, bfloat16>, <double, double>.
template <typename Real, typename Element>
void cross_entropy(const CrossEntropy<Real, Element>& arrays, InstructionSet instruction_set,
                   const Threads& threads);

// ---- norm_shift_mix: LayerNorm, token shift and their mixes -------------------------------------

// At most so many mixes of one input.
inline constexpr int64_t most_mixes = 3;

// For every token t of a sequence, with the mean and variance over its C channels:
//
//     rstd_t = 1 / sqrt(variance(x_t) + eps)
//     n_t    = (x_t - mean(x_t)) rstd_t weight + bias
//     p_t    = n_{t-1}                      (x_last where t is 0; 0 where resets[t] is not 0)
//     m_t    = p_t + mix (n_t - p_t)        for each of the mixes
//
// x: [B, T, C]. weight, bias, each of mixes: [C]. x_last, last: [B, C]. resets: [B, T], or null for
// none. mean, rstd: [B, T]. Each of mixed: [B, T, C]. last is n_{T-1}, or x_last if T is 0.
// n_mixes is 2 or 3. A row of the results depends on its own and the row before it, on nothing
// else.
template <typename Real>
struct NormShiftMixInputs {
  const Real* x;
  const Real* weight;
  const Real* bias;
  const Real* mixes[most_mixes];
  const Real* x_last;
  const uint8_t* resets;
  int64_t n_mixes, B, T, C;
};

template <typename Real, typename Element>
struct NormShiftMixForward : NormShiftMixInputs<Real> {
  Real eps;
  Element* mixed[most_mixes];
  Real* last;
  Real* mean;
  Real* rstd;
};

// The gradients of the above, from those of the mixed and of last (null: 0), and what forward found
// for mean and rstd. With h_t = (x_t - mean_t) rstd_t and g the gradients of the mixed:
//
//     grad_mix    = sum_t g_t (n_t - p_t)
//     grad_n_t    = sum_mixes mix g_t + (1 - mix) g_{t+1}       (the second not across a reset; for
//                                                                the last token, grad_last instead)
//     grad_weight = sum_t grad_n_t h_t,  grad_bias = sum_t grad_n_t
//     grad_x_t    = rstd_t (grad_h_t - mean(grad_h_t) - h_t mean(grad_h_t h_t)),
//                   grad_h_t = grad_n_t weight
//     grad_x_last = sum_mixes (1 - mix) g_0                     (0 if there is a reset)
//
// Sums over tokens are taken in an order that depends on the shape alone.
// scratch: norm_shift_mix_backward_scratch(...) Reals, any content.
template <typename Real, typename Element>
struct NormShiftMixBackward : NormShiftMixInputs<Real> {
  const Real* mean;
  const Real* rstd;
  const Element* grad_mixed[most_mixes];
  const Real* grad_last;
  Real* grad_x;
  Real* grad_weight;
  Real* grad_bias;
  Real* grad_mixes[most_mixes];
  Real* grad_x_last;
  Real* scratch;
};

int64_t norm_shift_mix_backward_scratch(int64_t n_mixes, int64_t B, int64_t T, int64_t C);

template <typename Real, typename Element>
void norm_shift_mix_forward(const NormShiftMixForward<Real, Element>& arrays,
                            InstructionSet instruction_set, const Threads& threads);
template <typename Real, typename Element>
void norm_shift_mix_backward(const NormShiftMixBackward<Real, Element>& arrays,
                             InstructionSet instruction_set, const Threads& threads);

// ---- Gates and the squared ReLU: number by number, n of each ------------------------------------

// out_i = s_i y_i with s_i = 1 / (1 + e^{-r_i}).
template <typename Real, typename Element>
struct GateForward {
  const Element* r;
  const Element* y;
  Element* out;
  int64_t n;
};

// grad_r_i = g_i y_i s_i (1 - s_i),  grad_y_i = g_i s_i,  g: grad_out.
template <typename Real, typename Element>
struct GateBackward {
  const Element* r;
  const Element* y;
  const Element* grad_out;
  Element* grad_r;
  Element* grad_y;
  int64_t n;
};

// out_i = x_i + s_i y_i; where r is null, x_i + y_i. Backward: as above, with grad_out in Real.
template <typename Real, typename Element>
struct GatedAddForward {
  const Real* x;
  const Element* r;
  const Element* y;
  Real* out;
  int64_t n;
};

template <typename Real, typename Element>
struct GatedAddBackward {
  const Element* r;
  const Element* y;
  const Real* grad_out;
  Element* grad_r;
  Element* grad_y;
  int64_t n;
};

// out_i = max(k_i, 0)^2.
template <typename Real, typename Element>
struct SquaredReluForward {
  const Element* k;
  Element* out;
  int64_t n;
};

// grad_i becomes 2 max(k_i, 0) grad_i, in place.
template <typename Real, typename Element>
struct SquaredReluBackward {
  const Element* k;
  Element* grad;
  int64_t n;
};

template <typename Real, typename Element>
void gate_forward(const GateForward<Real, Element>& arrays, InstructionSet instruction_set,
                  const Threads& threads);
template <typename Real, typename Element>
void gate_backward(const GateBackward<Real, Element>& arrays, InstructionSet instruction_set,
                   const Threads& threads);
template <typename Real, typename Element>
void gated_add_forward(const GatedAddForward<Real, Element>& arrays, InstructionSet instruction_set,
                       const Threads& threads);
template <typename Real, typename Element>
void gated_add_backward(const GatedAddBackward<Real, Element>& arrays,
                        InstructionSet instruction_set, const Threads& threads);
template <typename Real, typename Element>
void squared_relu_forward(const SquaredReluForward<Real, Element>& arrays,
                          InstructionSet instruction_set, const Threads& threads);
template <typename Real, typename Element>
void squared_relu_backward(const SquaredReluBackward<Real, Element>& arrays,
                           InstructionSet instruction_set, const Threads& threads);

// ---- exp --------------------------------------------------------------------------------------

// y_i = e^{x_i} for x_i <= 0, within 2 units in the last place; 0 where the result would be below
// the smallest normal number; NaN for NaN. The kernels' own exponential, here to be tested.
void exp_of_negatives(const float* x, float* y, int64_t n, InstructionSet instruction_set);
void exp_of_negatives(const double* x, double* y, int64_t n, InstructionSet instruction_set);

}  // namespace receptance
