// cross_entropy over whole matrices of logits: how the rows are handed to the threads.
#include <cmath>
#include <cstring>

#include "cross_entropy_kernels.h"
#include "instruction_set_tables.h"
#include "receptance/kernels.h"

namespace receptance {

RECEPTANCE_DECLARE_TABLES(CrossEntropyTable, cross_entropy_kernels)

namespace {

// Logits below which handing rows to another thread costs more than it saves.
constexpr int64_t smallest_task = 1 << 14;

float number(float x) { return x; }
double number(double x) { return x; }
float number(bfloat16 x) {
  const uint32_t bits = static_cast<uint32_t>(x.bits) << 16;
  float value;
  std::memcpy(&value, &bits, sizeof(value));
  return value;
}

void put(float& to, float x) { to = x; }
void put(double& to, double x) { to = x; }
// Rounds to the nearest, halves to even.
void put(bfloat16& to, float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, sizeof(bits));
  const uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  to.bits = static_cast<uint16_t>(x == x ? rounded : 0x7fc0u);
}

// The row of one token.
template <typename Real, typename Element>
void row(const CrossEntropy<Real, Element>& arrays, int64_t n,
         const CrossEntropyKernels<Real, Element>& kernels) {
  Element* logits = arrays.logits + n * arrays.V;
  const int64_t target = arrays.targets[n];
  const LargestLogit<Real> top = kernels.largest(logits, arrays.V);
  const Real sum = kernels.sum_of_exp(logits, top.value, arrays.V);
  const Real below_top = number(logits[target]) - top.value;
  arrays.cost[n] = std::log(sum) - below_top;
  arrays.largest[n] = top.value;
  if (!arrays.wants_gradient) return;

  const Real pull = arrays.auxiliary * top.value;
  const Real target_share = std::exp(below_top) / sum;
  kernels.scaled_exp(logits, top.value, arrays.scale / sum, arrays.V);
  // These two are computed in Real and rounded once.
  const bool is_top = target == top.index;
  if (!is_top) put(logits[top.index], arrays.scale * (1 / sum + pull));
  put(logits[target], arrays.scale * (target_share - 1 + (is_top ? pull : 0)));
}

}  // namespace

template <typename Real, typename Element>
void cross_entropy(const CrossEntropy<Real, Element>& arrays, InstructionSet instruction_set,
                   const Threads& threads) {
  struct Context {
    const CrossEntropy<Real, Element>& arrays;
    const CrossEntropyKernels<Real, Element>& kernels;
  } context{arrays, kernels_of(cross_entropy_kernels(instruction_set), Element{})};
  const Task task = [](int64_t begin, int64_t end, void* pointer) {
    const Context& context = *static_cast<Context*>(pointer);
    for (int64_t n = begin; n < end; ++n) row(context.arrays, n, context.kernels);
  };
  const int64_t grain = (smallest_task + arrays.V - 1) / arrays.V;
  threads.parallel_for(0, arrays.N, grain, task, &context);
}

template void cross_entropy(const CrossEntropy<float, float>&, InstructionSet, const Threads&);
template void cross_entropy(const CrossEntropy<float, bfloat16>&, InstructionSet, const Threads&);
template void cross_entropy(const CrossEntropy<double, double>&, InstructionSet, const Threads&);

}  // namespace receptance
