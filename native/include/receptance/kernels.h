// The whole C++ interface of receptance's kernels: plain pointers and sizes, no PyTorch.
//
// Every array is dense and row-major. Kernels never allocate and never throw; what they need beside
// inputs and outputs, the caller lends them as scratch. What is written may overlap nothing else.
#pragma once

#include <cstdint>

namespace receptance {

// ---- Instruction sets -------------------------------------------------------------------------

// Every kernel is compiled once for each of these that the target's architecture knows.
enum class InstructionSet : int64_t { portable = 1, avx2 = 2, avx512 = 3 };

// "portable", "avx2" or "avx512".
const char* instruction_set_name(InstructionSet instruction_set);

// Whether this library and this processor have the instruction set.
bool has_instruction_set(InstructionSet instruction_set);

// The widest one that both have.
InstructionSet best_instruction_set();

// ---- Threads ----------------------------------------------------------------------------------

// Does the part [begin, end) of some work.
using Task = void (*)(int64_t begin, int64_t end, void* context);

// Cuts [begin, end) into pieces of at least `grain`, runs `task` on all of them, on several threads
// where there are several, and returns when all are done.
using ParallelFor = void (*)(int64_t begin, int64_t end, int64_t grain, Task task, void* context);

struct Threads {
  ParallelFor parallel_for;
  int64_t count;  // how many threads parallel_for runs on
};

// ---- wkv4: the recurrence of RWKV-4 -----------------------------------------------------------

struct bfloat16 {
  uint16_t bits;
};

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
template <typename Real, typename Element>
struct Wkv4Inputs {
  const Real* log_w;
  const Real* u;
  const Element* k;
  const Element* v;
  const uint8_t* resets;
  const Real* num;
  const Real* den;
  const Real* log_scale;
  int64_t B, T, C;
};

template <typename Real, typename Element>
struct Wkv4Forward : Wkv4Inputs<Real, Element> {
  Element* y;
  Real* num_out;
  Real* den_out;
  Real* log_scale_out;
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
// Reads the inputs of the forward only; what it needs of the states it computes again.
template <typename Real, typename Element>
struct Wkv4Backward : Wkv4Inputs<Real, Element> {
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

// How many Reals of scratch the form needs, aligned like a Real. Any content.
int64_t wkv4_forward_scratch(Form form, int64_t B, int64_t T, int64_t C);
int64_t wkv4_backward_scratch(Form form, int64_t B, int64_t T, int64_t C);

// `form` is serial or parallel; `instruction_set` is one that has_instruction_set.
// Served: <float, float>, <float, bfloat16>, <double, double>.
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

// ---- exp --------------------------------------------------------------------------------------

// y_i = e^{x_i} for x_i <= 0, within 2 units in the last place; 0 where the result would be below
// the smallest normal number; NaN for NaN. The kernels' own exponential, here to be tested.
void exp_of_negatives(const float* x, float* y, int64_t n, InstructionSet instruction_set);
void exp_of_negatives(const double* x, double* y, int64_t n, InstructionSet instruction_set);

}  // namespace receptance
