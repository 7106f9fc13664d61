// Which table of kernels an instruction set has, and which kernels in it a type. Internal.
//
// A file of kernels defines one table, with the same name in each instruction set's namespace.
// RECEPTANCE_DECLARE_TABLES(Table, name) declares them all and, in namespace receptance,
// `const Table& name(InstructionSet)`, which answers with that of a set that has_instruction_set.
#pragma once

#include "receptance/kernels.h"

// use(set, Table, name) for each instruction set of the target's architecture.
#if defined(__x86_64__)
#define RECEPTANCE_FOR_EACH_SET(use, Table, name)                            \
  use(portable, Table, name) use(avx2, Table, name) use(avx512, Table, name) \
      use(avx512_bf16, Table, name)
#elif defined(__aarch64__)
#define RECEPTANCE_FOR_EACH_SET(use, Table, name) use(portable, Table, name) use(neon, Table, name)
#else
#define RECEPTANCE_FOR_EACH_SET(use, Table, name) use(portable, Table, name)
#endif

#define RECEPTANCE_DECLARE_TABLE(set, Table, name) \
  namespace set {                                  \
  extern const Table name;                         \
  }
#define RECEPTANCE_CASE_OF_TABLE(set, Table, name) \
  case InstructionSet::set:                        \
    return set::name;

#define RECEPTANCE_DECLARE_TABLES(Table, name)                       \
  RECEPTANCE_FOR_EACH_SET(RECEPTANCE_DECLARE_TABLE, Table, name)     \
  inline const Table& name(InstructionSet instruction_set) {         \
    switch (instruction_set) {                                       \
      RECEPTANCE_FOR_EACH_SET(RECEPTANCE_CASE_OF_TABLE, Table, name) \
      default:                                                       \
        return portable::name;                                       \
    }                                                                \
  }

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
