// Tests of quantize_rows and of the products with quantized matrices without PyTorch: every
// instruction set stays within its arrays, fills its outputs, and is right to the last bit. Prints
// what failed and returns how much.
#include <cfloat>
#include <cstdint>
#include <cstdio>
#include <vector>

#include "guarded.h"
#include "quantized_matrix.h"
#include "receptance/products.h"

namespace {

using namespace receptance::tests;
using receptance::block_columns;
using receptance::InstructionSet;
using receptance::Quantization;
using receptance::QuantizedBlock;
using receptance::Threads;

// One block as the definition has it, with x = 0 behind the last of `count` columns.
void check_block(const float* x, int64_t count, const QuantizedBlock& block,
                 InstructionSet instruction_set) {
  float most = 0;
  bool is_finite = true;
  for (int64_t k = 0; k < count; ++k) {
    most = std::fmax(most, std::fabs(x[k]));
    is_finite = is_finite && std::isfinite(x[k]);
  }
  if (!is_finite) {
    expect(std::isnan(block.scale), "the scale of what is not finite is NaN", instruction_set,
           block.scale);
    return expect(block.start == 0, "what is not finite has no levels", instruction_set,
                  block.start);
  }
  const float expected = most / 127 < FLT_MIN ? 0 : most / 127;
  expect(block.scale == expected, "the scale is max |x| / 127", instruction_set, block.scale);
  int32_t total = 0;
  for (int64_t k = 0; k < block_columns; ++k) {
    const float inverse = expected > 0 ? 1 / expected : 0;
    const int level = k < count ? static_cast<int>(std::nearbyint(x[k] * inverse)) : 0;
    expect(block.levels[k] == level, "levels are the nearest", instruction_set, block.levels[k]);
    total += level;
  }
  expect(block.start == -8 * total, "a block's levels are summed up", instruction_set, block.start);
}

void test_rows(const std::vector<float>& row, InstructionSet instruction_set) {
  const int64_t K = static_cast<int64_t>(row.size()), M = 3;
  for (const int64_t group : {32, 64, 128}) {
    const int64_t n_blocks = (K + group - 1) / group * group / block_columns;
    Guarded<float> x(M * K);
    for (int64_t i = 0; i < M * K; ++i) x.data()[i] = row[i % K] * (i < K ? 1 : -1);
    Guarded<QuantizedBlock> blocks(M * n_blocks);
    receptance::quantize_rows(x.data(), blocks.data(), M, K, n_blocks, instruction_set, one_by_one);
    expect(blocks.is_intact() && x.is_intact(),
           "quantize_rows writes nothing outside of its arrays", instruction_set,
           static_cast<double>(K));
    for (int64_t i = 0; i < M * n_blocks; ++i) {
      const int64_t first = i % n_blocks * block_columns, left = K - first;
      check_block(x.data() + i / n_blocks * K + first,
                  left < 0 ? 0 : (left < block_columns ? left : block_columns), blocks.data()[i],
                  instruction_set);
    }
  }
}

void test_every_kind_of_row(InstructionSet instruction_set) {
  Random random;
  for (const int64_t K : {1, 2, 15, 31, 32, 33, 65, 128, 200}) {
    std::vector<float> row(K);
    for (const double size : {1.0, 0.0, 1e-45, 1e-40, 2e-38, 1.5e-36, 3e38}) {
      for (float& each : row) each = static_cast<float>(size * random());
      test_rows(row, instruction_set);
    }
    // Scale 1, and halves: rounded to the even neighbour.
    for (int64_t k = 0; k < K; ++k) row[k] = k % 32 == 0 ? 127 : static_cast<float>(k % 32 - 15.5);
    test_rows(row, instruction_set);
    for (float& each : row) each = -0.0f;
    test_rows(row, instruction_set);
    for (const float wrong : {NAN, INFINITY, -INFINITY}) {
      row[K / 2] = wrong;
      test_rows(row, instruction_set);
    }
    for (float& each : row) each = INFINITY;
    test_rows(row, instruction_set);
  }
}

struct Multiplication {
  int64_t M, N, K, n_blocks;
  Quantization quantization;
  Random random;
  RandomQuantized w{N, K, quantization, random};
  std::vector<uint8_t> blocks = w.matrix();
  Guarded<float> x{M * K};

  Multiplication(int64_t M, int64_t N, int64_t K, Quantization quantization, bool is_exact)
      : M(M),
        N(N),
        K(K),
        n_blocks((K + quantization.group - 1) / quantization.group * quantization.group /
                 block_columns),
        quantization(quantization) {
    fill(x, M * K, random);
    if (!is_exact) return;
    // Levels by a power of two: with those of W, all sums are exact in float32.
    for (int64_t i = 0; i < M * K; ++i) {
      const double level = i % K % block_columns == 0 ? 127 : std::round(127 * random());
      put(x.data()[i], std::ldexp(level, i % K / block_columns % 3 == 0 ? 0 : -1));
    }
  }

  void run(int64_t first, int64_t count, float* y, InstructionSet instruction_set,
           const Threads& threads) {
    Guarded<QuantizedBlock> rows(count * n_blocks);
    receptance::quantize_rows(x.data() + first * K, rows.data(), count, K, n_blocks,
                              instruction_set, threads);
    receptance::quantized_product({rows.data(), {blocks.data(), quantization, N, K}, y, count},
                                  instruction_set, threads);
    expect(rows.is_intact(), "a quantized product leaves its input alone", instruction_set,
           static_cast<double>(K));
  }
};

void test_product(int64_t M, int64_t N, int64_t K, Quantization quantization,
                  InstructionSet instruction_set) {
  Multiplication product(M, N, K, quantization, true);
  Guarded<float> y(M * N);
  product.run(0, M, y.data(), instruction_set, concurrent);
  expect(y.is_intact(), "a quantized product writes nothing outside of its arrays", instruction_set,
         static_cast<double>(N));
  for (int64_t i = 0; i < M * N; ++i) {
    double sum = 0;
    for (int64_t k = 0; k < K; ++k) {
      sum += product.x.data()[i / N * K + k] * product.w.value(i % N, k);
    }
    if (y.data()[i] == sum) continue;
    return expect(false, "a quantized product is the exact one", instruction_set, y.data()[i]);
  }
}

// Rows are the same alone; and in all sets of x86 but the portable one, which does not fuse.
void test_bits(int64_t M, int64_t N, int64_t K, Quantization quantization,
               InstructionSet instruction_set) {
  Multiplication product(M, N, K, quantization, false);
  Guarded<float> y(M * N), narrow(M * N);
  product.run(0, M, y.data(), instruction_set, concurrent);
  for (const int64_t count : {1, 2, 3, 4, 5}) {
    for (const int64_t first : {int64_t{0}, int64_t{1}, M - count}) {
      Guarded<float> alone(count * N);
      product.run(first, count, alone.data(), instruction_set, whole);
      expect(same_bits(alone.data(), y.data() + first * N, count * N),
             "a row of a quantized product has the same bits in any company", instruction_set,
             static_cast<double>(count));
    }
  }
  if (instruction_set == InstructionSet::portable || !has_instruction_set(InstructionSet::avx2)) {
    return;
  }
  product.run(0, M, narrow.data(), InstructionSet::avx2, concurrent);
  expect(same_bits(narrow.data(), y.data(), M * N),
         "a quantized product has the same bits in all instruction sets that fuse", instruction_set,
         static_cast<double>(K));
}

void test_every_format(InstructionSet instruction_set) {
  for (const int64_t bits : {4, 8}) {
    for (const int64_t group : {32, 64, 128}) {
      for (const bool has_offset : {false, true}) {
        const Quantization quantization{bits, group, has_offset};
        const int64_t shapes[][2] = {{1, 1}, {5, 31}, {16, 32}, {33, 33}, {64, 128}, {75, 200}};
        for (const auto& [N, K] : shapes) {
          for (const int64_t M : {0, 1, 2, 3, 4, 5, 9}) {
            test_product(M, N, K, quantization, instruction_set);
          }
        }
        for (int64_t M = 1; M <= 33; ++M) test_product(M, 33, 35, quantization, instruction_set);
        test_bits(9, 75, 200, quantization, instruction_set);
      }
    }
  }
}

}  // namespace

int main() {
  for (const InstructionSet each : receptance::all_instruction_sets) {
    if (!has_instruction_set(each)) continue;
    test_every_kind_of_row(each);
    test_every_format(each);
    std::printf("%s: %d failures so far\n", instruction_set_name(each), n_failures);
  }
  return n_failures == 0 ? 0 : 1;
}
