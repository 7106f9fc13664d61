// Which table of kernels an instruction set has, and which kernels in it a type. Internal.
//
// A file of kernels defines one table, with the same name in each instruction set's namespace.
// RECEPTANCE_DECLARE_TABLES(Table, name) declares them all and, in namespace receptance,
// `const Table& name(InstructionSet)`, which answers with that of a set that has_instruction_set.
#pragma once

#include "receptance/kernels.h"

#if defined(__x86_64__)
#define RECEPTANCE_DECLARE_TABLES(Table, name)                                    \
  namespace portable {                                                            \
  extern const Table name;                                                        \
  }                                                                               \
  namespace avx2 {                                                                \
  extern const Table name;                                                        \
  }                                                                               \
  namespace avx512 {                                                              \
  extern const Table name;                                                        \
  }                                                                               \
  inline const Table& name(InstructionSet instruction_set) {                      \
    if (instruction_set == InstructionSet::avx512) return avx512::name;           \
    return instruction_set == InstructionSet::avx2 ? avx2::name : portable::name; \
  }
#else
#define RECEPTANCE_DECLARE_TABLES(Table, name) \
  namespace portable {                         \
  extern const Table name;                     \
  }                                            \
  inline const Table& name(InstructionSet) { return portable::name; }
#endif

namespace receptance {

// The kernels of a table for the type that goes in and out.
template <typename Table>
const auto& kernels_of(const Table& table, float) {
  return table.f32;
}
template <typename Table>
const auto& kernels_of(const Table& table, bfloat16) {
  return table.bf16;
}
template <typename Table>
const auto& kernels_of(const Table& table, double) {
  return table.f64;
}

}  // namespace receptance
