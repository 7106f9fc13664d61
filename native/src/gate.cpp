// The gates and the squared ReLU over whole arrays: how the numbers are handed to the threads.
#include "gate_kernels.h"
#include "instruction_set_tables.h"
#include "receptance/kernels.h"

namespace receptance {

RECEPTANCE_DECLARE_TABLES(GateTable, gate_kernels)

namespace {

// Fewest numbers that are worth another thread; a whole number of cache lines in any type.
constexpr int64_t smallest_task = 1 << 15;

// Runs kernel(arrays, begin, end) over all n numbers.
template <typename Arrays>
void run(void (*kernel)(const Arrays&, int64_t, int64_t), const Arrays& arrays,
         const Threads& threads) {
  struct Context {
    void (*kernel)(const Arrays&, int64_t, int64_t);
    const Arrays& arrays;
  } context{kernel, arrays};
  const Task task = [](int64_t begin, int64_t end, void* pointer) {
    const Context& context = *static_cast<Context*>(pointer);
    context.kernel(context.arrays, begin, end);
  };
  threads.parallel_for(0, arrays.n, smallest_task, task, &context);
}

}  // namespace

#define RECEPTANCE_DEFINE(function, Arrays, kernel)                                       \
  template <typename Real, typename Element>                                              \
  void function(const Arrays<Real, Element>& arrays, InstructionSet instruction_set,      \
                const Threads& threads) {                                                 \
    run(kernels_of(gate_kernels(instruction_set), Element{}).kernel, arrays, threads);    \
  }                                                                                       \
  template void function(const Arrays<float, float>&, InstructionSet, const Threads&);    \
  template void function(const Arrays<float, bfloat16>&, InstructionSet, const Threads&); \
  template void function(const Arrays<double, double>&, InstructionSet, const Threads&)
RECEPTANCE_DEFINE(gate_forward, GateForward, gate);
RECEPTANCE_DEFINE(gate_backward, GateBackward, gate_back);
RECEPTANCE_DEFINE(gated_add_forward, GatedAddForward, gated_add);
RECEPTANCE_DEFINE(gated_add_backward, GatedAddBackward, gated_add_back);
RECEPTANCE_DEFINE(squared_relu_forward, SquaredReluForward, squared_relu);
RECEPTANCE_DEFINE(squared_relu_backward, SquaredReluBackward, squared_relu_back);

}  // namespace receptance
