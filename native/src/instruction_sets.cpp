// Which instruction sets are compiled in, and which of them this processor has.
#include "receptance/kernels.h"
#include "wkv4_kernels.h"

namespace receptance {

namespace portable {
extern const KernelTable kernels;
}
#if defined(__x86_64__)
namespace avx2 {
extern const KernelTable kernels;
}
namespace avx512 {
extern const KernelTable kernels;
}
#endif

const char* instruction_set_name(InstructionSet instruction_set) {
  switch (instruction_set) {
    case InstructionSet::avx2:
      return "avx2";
    case InstructionSet::avx512:
      return "avx512";
    default:
      return "portable";
  }
}

bool has_instruction_set(InstructionSet instruction_set) {
#if defined(__x86_64__)
  // These also ask the operating system whether it saves the registers.
  __builtin_cpu_init();
  const bool has_avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  if (instruction_set == InstructionSet::avx2) return has_avx2;
  if (instruction_set == InstructionSet::avx512) {
    return has_avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  }
#endif
  return instruction_set == InstructionSet::portable;
}

InstructionSet best_instruction_set() {
  static const InstructionSet best =
      has_instruction_set(InstructionSet::avx512) ? InstructionSet::avx512
      : has_instruction_set(InstructionSet::avx2) ? InstructionSet::avx2
                                                  : InstructionSet::portable;
  return best;
}

const KernelTable& kernel_table(InstructionSet instruction_set) {
#if defined(__x86_64__)
  if (instruction_set == InstructionSet::avx512) return avx512::kernels;
  if (instruction_set == InstructionSet::avx2) return avx2::kernels;
#else
  (void)instruction_set;
#endif
  return portable::kernels;
}

void exp_of_negatives(const float* x, float* y, int64_t n, InstructionSet instruction_set) {
  kernel_table(instruction_set).exp_f32(x, y, n);
}

void exp_of_negatives(const double* x, double* y, int64_t n, InstructionSet instruction_set) {
  kernel_table(instruction_set).exp_f64(x, y, n);
}

}  // namespace receptance
