// Tests of the products with float32 and bfloat16, of layer_norm and of read_all without PyTorch:
// every instruction set stays within its arrays, fills its outputs, and is right. Prints what
// failed and returns how much.
#include <cstdint>
#include <cstdio>
#include <vector>

#include "guarded.h"
#include "receptance/products.h"

namespace {

using namespace receptance::tests;
using receptance::bfloat16;
using receptance::InstructionSet;
using receptance::Threads;

// x rounded to the nearest, halves to even: what a product of bfloat16 ends with.
double rounded(double x, float) { return x; }
double rounded(double x, bfloat16) {
  int exponent;
  const double mantissa = std::frexp(x, &exponent);
  return std::ldexp(std::nearbyint(std::ldexp(mantissa, 8)), exponent - 8);
}

template <typename Element>
struct Multiplication {
  int64_t M, N, K;
  Random random;
  Guarded<Element> x{M * K}, w{N * K}, y{M * N};

  Multiplication(int64_t M, int64_t N, int64_t K, bool is_exact) : M(M), N(N), K(K) {
    is_exact ? fill_exactly(x, M * K, random) : fill(x, M * K, random);
    is_exact ? fill_exactly(w, N * K, random) : fill(w, N * K, random);
  }

  // The rows [first, last) of x. `columns`: W by columns, if it is to be read so.
  void run(int64_t first, int64_t last, Element* to, InstructionSet instruction_set,
           const Threads& threads, const Element* columns = nullptr) {
    GuardedScratch scratch(receptance::product_scratch(instruction_set, threads.count));
    receptance::product(
        receptance::Product<Element>{x.data() + first * K, columns ? columns : w.data(), to,
                                     last - first, N, K, columns != nullptr, scratch.data()},
        instruction_set, threads);
    expect(scratch.is_intact(), "a product's scratch is as large as promised", instruction_set,
           static_cast<double>(last - first));
  }

  bool is_intact() const { return x.is_intact() && w.is_intact() && y.is_intact(); }
};

// Sums are exact in any order here, and so is agreement.
template <typename Element>
void test_product(int64_t M, int64_t N, int64_t K, InstructionSet instruction_set) {
  Multiplication<Element> product(M, N, K, true);
  product.run(0, M, product.y.data(), instruction_set, concurrent);
  expect(product.is_intact(), "a product writes nothing outside of its arrays", instruction_set,
         static_cast<double>(K));
  for (int64_t m = 0; m < M; ++m) {
    for (int64_t n = 0; n < N; ++n) {
      double sum = 0;
      for (int64_t k = 0; k < K; ++k) {
        sum += number(product.x.data()[m * K + k]) * number(product.w.data()[n * K + k]);
      }
      const double found = number(product.y.data()[m * N + n]);
      if (found == rounded(sum, Element{})) continue;
      return expect(false, "a product is the exact one, rounded once", instruction_set, found);
    }
  }
}

template <typename Element>
void test_rows_are_independent(int64_t M, int64_t N, int64_t K, InstructionSet instruction_set) {
  Multiplication<Element> product(M, N, K, false);
  product.run(0, M, product.y.data(), instruction_set, concurrent);
  for (const int64_t count : {1, 2, 3, 5, 6, 7, 12, 16}) {
    for (const int64_t first : {int64_t{0}, M / 2 - 8, M - count}) {
      Guarded<Element> y(count * N);
      product.run(first, first + count, y.data(), instruction_set, whole);
      expect(same_bits(y.data(), product.y.data() + first * N, count * N),
             "a row of a product has the same bits in any company", instruction_set,
             static_cast<double>(count));
    }
  }
}

template <typename Element>
void test_columns(int64_t M, int64_t N, int64_t words, InstructionSet instruction_set) {
  constexpr int64_t per_word = 4 / sizeof(Element);
  const int64_t K = words * per_word;
  Multiplication<Element> product(M, N, K, false);
  product.run(0, M, product.y.data(), instruction_set, concurrent);
  Guarded<Element> columns(N * K), y(M * N);
  for (int64_t i = 0; i < N * K; ++i) {
    const int64_t n = i / K, k = i % K;
    columns.data()[(k / per_word * N + n) * per_word + k % per_word] = product.w.data()[i];
  }
  product.run(0, M, y.data(), instruction_set, concurrent, columns.data());
  expect(y.is_intact() && columns.is_intact(),
         "a product by columns writes nothing outside of its arrays", instruction_set,
         static_cast<double>(K));
  expect(same_bits(y.data(), product.y.data(), M * N),
         "a product by columns has the bits of one by rows", instruction_set,
         static_cast<double>(K));
}

template <typename Element>
void test_products(InstructionSet instruction_set) {
  const int64_t shapes[][2] = {{1, 1},   {1, 17},  {3, 2},   {16, 15},   {31, 33},  {33, 31},
                               {63, 65}, {64, 64}, {65, 16}, {130, 100}, {17, 531}, {70, 1031}};
  for (const auto& [N, K] : shapes) {
    for (const int64_t M : {0, 1, 2, 3, 5, 6, 7, 33}) {
      test_product<Element>(M, N, K, instruction_set);
    }
  }
  for (int64_t M = 1; M <= 33; ++M) test_product<Element>(M, 35, 19, instruction_set);
  test_product<Element>(520, 9, 7, instruction_set);  // more rows than pass a part of W at once
  test_product<Element>(3, 0, 5, instruction_set);
  test_product<Element>(3, 5, 0, instruction_set);
  for (const int64_t words : {0, 1, 2, 17, 531}) {
    for (const int64_t N : {1, 33, 70}) test_columns<Element>(7, N, words, instruction_set);
  }
  test_rows_are_independent<Element>(33, 70, 1031, instruction_set);
  test_rows_are_independent<Element>(530, 67, 37, instruction_set);
}

// The mean cancels and the variance is divided by: a few roundings of a row of order 1.
constexpr double norm_tolerance = 1e-5;

void test_layer_norm(int64_t M, int64_t C, InstructionSet instruction_set) {
  Random random;
  Guarded<float> x(M * C), weight(C), bias(C), y(M * C);
  Guarded<double> exact(M * C);
  fill(x, M * C, random, 2, 0.5);
  fill(weight, C, random, 0.5, 1);
  fill(bias, C, random);
  const float eps = 1e-3f;
  for (int64_t m = 0; m < M; ++m) {
    double mean = 0, variance = 0;
    for (int64_t c = 0; c < C; ++c) mean += number(x.data()[m * C + c]) / C;
    for (int64_t c = 0; c < C; ++c) variance += std::pow(x.data()[m * C + c] - mean, 2) / C;
    for (int64_t c = 0; c < C; ++c) {
      exact.data()[m * C + c] =
          (x.data()[m * C + c] - mean) / std::sqrt(variance + eps) * weight.data()[c] +
          bias.data()[c];
    }
  }
  const auto run = [&](int64_t first, int64_t count, float* to) {
    receptance::layer_norm({x.data() + first * C, weight.data(), bias.data(), to, count, C, eps},
                           instruction_set, concurrent);
  };
  run(0, M, y.data());
  expect(x.is_intact() && weight.is_intact() && bias.is_intact() && y.is_intact(),
         "layer_norm writes nothing outside of its arrays", instruction_set,
         static_cast<double>(C));
  const double worst = error(y, exact, M * C);
  expect(worst <= norm_tolerance, "layer_norm is the exact one", instruction_set, worst);
  for (int64_t m = 0; m < M; ++m) {
    Guarded<float> alone(C);
    run(m, 1, alone.data());
    expect(same_bits(alone.data(), y.data() + m * C, C),
           "a row of layer_norm has the same bits alone", instruction_set, static_cast<double>(C));
  }
}

void test_read_all(int64_t n, InstructionSet instruction_set) {
  Random random;
  Guarded<uint64_t> words(n);
  uint64_t expected = 0;
  for (int64_t i = 0; i < n; ++i) {
    words.data()[i] = static_cast<uint64_t>(i) * 0x9e3779b97f4a7c15u;
    expected ^= words.data()[i];
  }
  const uint64_t found = receptance::read_all(reinterpret_cast<const uint8_t*>(words.data()), 8 * n,
                                              instruction_set, concurrent);
  expect(found == expected, "read_all reads every byte once", instruction_set,
         static_cast<double>(n));
}

}  // namespace

int main() {
  for (const InstructionSet each : receptance::all_instruction_sets) {
    if (!has_instruction_set(each)) continue;
    test_products<float>(each);
    test_products<bfloat16>(each);
    for (const int64_t C : {1, 2, 15, 16, 17, 65, 200}) {
      for (const int64_t M : {0, 1, 3}) test_layer_norm(M, C, each);
    }
    for (const int64_t n : {0, 1, 3, 31, 32, 33, 511, 512, 513, 2000}) test_read_all(n, each);
    std::printf("%s: %d failures so far\n", instruction_set_name(each), n_failures);
  }
  return n_failures == 0 ? 0 : 1;
}
