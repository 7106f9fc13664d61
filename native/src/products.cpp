// The products over whole matrices: how their rows are handed to the threads.
#include "receptance/products.h"

#include <atomic>

#include "instruction_set_tables.h"
#include "integers.h"
#include "parallel.h"
#include "products_kernels.h"
#include "team.h"

namespace receptance {

RECEPTANCE_DECLARE_TABLES(RowTable, row_kernels)
RECEPTANCE_DECLARE_TABLES(PackedProductTable, packed_product_kernels)
RECEPTANCE_DECLARE_TABLES(QuantizedProductTable, quantized_product_kernels)

namespace {

// Fewest multiplications, or numbers, that are worth another thread.
constexpr int64_t smallest_task = 1 << 16;

// Threads that so many multiplications are worth.
int64_t n_tasks(int64_t n) { return ceil_div(n, smallest_task); }

// Runs body(begin, end) for pieces of [0, n), each of which costs `cost`.
template <typename Body>
void for_pieces(int64_t n, int64_t cost, const Threads& threads, const Body& body) {
  parallel_for(0, n, ceil_div(smallest_task, larger(cost, 1)), threads, body);
}

// Scratch of one thread, in bytes: whole cache lines.
int64_t thread_scratch(const PackedProductTable& table) {
  return 4 * (table.packed_words + table.sums);
}

template <typename Element, typename Kernel>
void run(const Product<Element>& arrays, const PackedProductTable& table, Kernel kernel,
         const Threads& threads) {
  Team::run(threads, n_tasks(arrays.M * arrays.N * arrays.K), [&](Team& team) {
    uint8_t* own = arrays.scratch + team.rank() * thread_scratch(table);
    const ProductScratch lent{own, reinterpret_cast<float*>(own + 4 * table.packed_words)};
    team.share(ceil_div(arrays.N, table.tile_rows),
               [&](int64_t tile) { kernel(arrays, tile, tile + 1, lent); });
  });
}

}  // namespace

int64_t product_scratch(InstructionSet instruction_set, int64_t n_threads) {
  return n_threads * thread_scratch(packed_product_kernels(instruction_set));
}

template <>
void product(const Product<float>& arrays, InstructionSet instruction_set, const Threads& threads) {
  const PackedProductTable& table = packed_product_kernels(instruction_set);
  run(arrays, table, table.f32, threads);
}

template <>
void product(const Product<bfloat16>& arrays, InstructionSet instruction_set,
             const Threads& threads) {
  const PackedProductTable& table = packed_product_kernels(instruction_set);
  run(arrays, table, table.bf16, threads);
}

void quantize_rows(const float* x, QuantizedBlock* blocks, int64_t M, int64_t K, int64_t n_blocks,
                   InstructionSet instruction_set, const Threads& threads) {
  const auto kernel = quantized_product_kernels(instruction_set).quantize;
  for_pieces(M, n_blocks * block_columns, threads, [&](int64_t begin, int64_t end) {
    for (int64_t m = begin; m < end; ++m) kernel(x + m * K, blocks + m * n_blocks, 0, n_blocks, K);
  });
}

void quantized_product(const QuantizedProduct& arrays, InstructionSet instruction_set,
                       const Threads& threads) {
  const auto kernel = quantized_product_kernels(instruction_set).product;
  Team::run(threads, n_tasks(arrays.M * arrays.w.N * arrays.w.K), [&](Team& team) {
    team.share(ceil_div(arrays.w.N, panel_rows),
               [&](int64_t panel) { kernel(arrays, panel, panel + 1); });
  });
}

void layer_norm(const LayerNorm& arrays, InstructionSet instruction_set, const Threads& threads) {
  const auto kernel = row_kernels(instruction_set).layer_norm;
  for_pieces(arrays.M, 8 * arrays.C, threads,
             [&](int64_t begin, int64_t end) { kernel(arrays, begin, end); });
}

uint64_t read_all(const uint8_t* bytes, int64_t n, InstructionSet instruction_set,
                  const Threads& threads) {
  const auto kernel = row_kernels(instruction_set).read_all;
  constexpr int64_t part = 1 << 18;
  std::atomic<uint64_t> total{0};
  Team::run(threads, ceil_div(n, part), [&](Team& team) {
    team.share(ceil_div(n, part), [&](int64_t at) {
      const int64_t begin = at * part, left = n - begin;
      total ^= kernel(bytes + begin, left < part ? left : part);
    });
  });
  return total;
}

}  // namespace receptance
