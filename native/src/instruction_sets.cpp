// Which instruction sets are compiled in, and which of them this processor has.
#include "instruction_set_tables.h"
#include "receptance/kernels.h"
#include "wkv4_kernels.h"

namespace receptance {

RECEPTANCE_DECLARE_TABLES(KernelTable, kernels)

const char* instruction_set_name(InstructionSet instruction_set) {
  switch (instruction_set) {
    case InstructionSet::avx2:
      return "avx2";
    case InstructionSet::avx512:
      return "avx512";
    case InstructionSet::avx512_bf16:
      return "avx512_bf16";
    case InstructionSet::neon:
      return "neon";
    default:
      return "portable";
  }
}

bool has_instruction_set(InstructionSet instruction_set) {
  if (instruction_set == InstructionSet::portable) return true;
#if defined(__x86_64__)
  // These also ask the operating system whether it saves the registers.
  __builtin_cpu_init();
  const bool has_avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  const bool has_avx512 = has_avx2 && __builtin_cpu_supports("avx512f") &&
                          __builtin_cpu_supports("avx512bw") &&
                          __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  if (instruction_set == InstructionSet::avx2) return has_avx2;
  if (instruction_set == InstructionSet::avx512) return has_avx512;
  if (instruction_set == InstructionSet::avx512_bf16) {
    return has_avx512 && __builtin_cpu_supports("avx512vnni") &&
           __builtin_cpu_supports("avx512bf16");
  }
#elif defined(__aarch64__)
  if (instruction_set == InstructionSet::neon) return true;  // part of the architecture
#endif
  return false;
}

InstructionSet best_instruction_set() {
  static const InstructionSet best = [] {
    InstructionSet widest = InstructionSet::portable;
    for (const InstructionSet each : all_instruction_sets) {
      if (has_instruction_set(each)) widest = each;
    }
    return widest;
  }();
  return best;
}

const KernelTable& kernel_table(InstructionSet instruction_set) { return kernels(instruction_set); }

void exp_of_negatives(const float* x, float* y, int64_t n, InstructionSet instruction_set) {
  kernel_table(instruction_set).exp_f32(x, y, n);
}

void exp_of_negatives(const double* x, double* y, int64_t n, InstructionSet instruction_set) {
  kernel_table(instruction_set).exp_f64(x, y, n);
}

}  // namespace receptance
