// Tests of norm_shift_mix, the gates and the squared ReLU without PyTorch: every type and
// instruction set stays within its arrays, fills its outputs, and agrees with the portable kernels
// in double. (That these are right, tests/ops shows.) Prints what failed and returns how much.
#include <cstdint>
#include <cstdio>
#include <vector>

#include "guarded.h"
#include "receptance/kernels.h"

namespace {

using namespace receptance::tests;
using receptance::InstructionSet;
using receptance::most_mixes;

// Arrays of one size, some of them of random numbers that every type can hold.
template <typename Number>
class Arrays {
 public:
  Arrays(int64_t n_arrays, int64_t n, bool random, Random* numbers) : n_(n) {
    for (int64_t i = 0; i < n_arrays; ++i) arrays_.emplace_back(n);
    if (!random) return;
    for (auto& array : arrays_) {
      for (int64_t i = 0; i < n; ++i) put(array.data()[i], std::round(256 * (*numbers)()) / 64);
    }
  }

  Number* operator[](int64_t i) { return arrays_[i].data(); }

  bool is_intact() const {
    for (const auto& array : arrays_) {
      if (!array.is_intact()) return false;
    }
    return true;
  }

  double error(Arrays<double>& exact) {
    double worst = 0;
    for (size_t i = 0; i < arrays_.size(); ++i) {
      const double here = receptance::tests::error(arrays_[i], exact.at(i), n_);
      if (!(here <= worst)) worst = here;  // a NaN stays
      if (std::isnan(worst)) return worst;
    }
    return worst;
  }

  Guarded<Number>& at(int64_t i) { return arrays_[i]; }

 private:
  int64_t n_;
  std::vector<Guarded<Number>> arrays_;
};

template <typename Real, typename Element>
struct Mixing {
  int64_t M, B, T, C;
  Random random;
  Guarded<uint8_t> resets{B * T};
  Arrays<Real> x{1, B * T * C, true, &random}, rows{2 + most_mixes, C, true, &random};
  Arrays<Real> states{2, B * C, true, &random};
  Arrays<Element> grad_mixed{M, B * T * C, true, &random}, mixed{M, B * T * C, false, nullptr};
  Arrays<Real> last{1, B * C, false, nullptr}, moments{2, B * T, false, nullptr};
  Arrays<Real> grad_x{1, B * T * C, false, nullptr}, grad_rows{2 + M, C, false, nullptr};
  Arrays<Real> grad_x_last{1, B * C, false, nullptr};

  Mixing(int64_t M, int64_t B, int64_t T, int64_t C) : M(M), B(B), T(T), C(C) {
    for (int64_t i = 0; i < B * T; ++i) resets.data()[i] = random() > 0.8 ? 1 : 0;
  }

  void run(InstructionSet instruction_set) {
    const receptance::NormShiftMixInputs<Real> inputs{
        x[0], rows[0], rows[1], {rows[2], rows[3], rows[4]}, states[0], resets.data(), M, B, T, C};
    receptance::NormShiftMixForward<Real, Element> there{inputs,  Real(0.5),  {},
                                                         last[0], moments[0], moments[1]};
    Guarded<Real> scratch(receptance::norm_shift_mix_backward_scratch(M, B, T, C));
    receptance::NormShiftMixBackward<Real, Element> back{
        inputs, moments[0],     moments[1],    {}, states[1], grad_x[0], grad_rows[0], grad_rows[1],
        {},     grad_x_last[0], scratch.data()};
    for (int64_t m = 0; m < M; ++m) {
      there.mixed[m] = mixed[m];
      back.grad_mixed[m] = grad_mixed[m];
      back.grad_mixes[m] = grad_rows[2 + m];
    }
    receptance::norm_shift_mix_forward(there, instruction_set, one_by_one);
    receptance::norm_shift_mix_backward(back, instruction_set, one_by_one);
    expect(scratch.is_intact(), "scratch is as large as promised", instruction_set,
           static_cast<double>(T));
  }

  bool is_intact() const {
    return resets.is_intact() && x.is_intact() && rows.is_intact() && states.is_intact() &&
           grad_mixed.is_intact() && mixed.is_intact() && last.is_intact() && moments.is_intact() &&
           grad_x.is_intact() && grad_rows.is_intact() && grad_x_last.is_intact();
  }
};

template <typename Real, typename Element>
void test_mixing(int64_t M, int64_t B, int64_t T, int64_t C, InstructionSet instruction_set,
                 double tolerance) {
  Mixing<Real, Element> mixing(M, B, T, C);
  Mixing<double, double> exact(M, B, T, C);
  mixing.run(instruction_set);
  exact.run(InstructionSet::portable);
  expect(mixing.is_intact(), "norm_shift_mix writes nothing outside of its arrays", instruction_set,
         static_cast<double>(C));
  const double errors[] = {
      mixing.mixed.error(exact.mixed),         mixing.last.error(exact.last),
      mixing.moments.error(exact.moments),     mixing.grad_x.error(exact.grad_x),
      mixing.grad_rows.error(exact.grad_rows), mixing.grad_x_last.error(exact.grad_x_last)};
  for (const double each : errors) {
    expect(each <= tolerance, "norm_shift_mix agrees with itself in double", instruction_set, each);
  }
}

template <typename Real, typename Element>
struct Gating {
  int64_t n;
  Random random;
  Arrays<Element> in{3, n, true, &random};  // r or k, y, the gradient
  Arrays<Real> stream{2, n, true, &random};
  Arrays<Element> out{6, n, false, nullptr}, changed{1, n, false, nullptr};
  Arrays<Real> sums{2, n, false, nullptr};

  explicit Gating(int64_t n) : n(n) {
    for (int64_t i = 0; i < n; ++i) changed[0][i] = in[2][i];
  }

  void run(InstructionSet set) {
    gate_forward(receptance::GateForward<Real, Element>{in[0], in[1], out[0], n}, set, one_by_one);
    gate_backward(receptance::GateBackward<Real, Element>{in[0], in[1], in[2], out[1], out[2], n},
                  set, one_by_one);
    for (const bool is_gated : {false, true}) {
      gated_add_forward(
          receptance::GatedAddForward<Real, Element>{stream[0], is_gated ? in[0] : nullptr, in[1],
                                                     sums[is_gated], n},
          set, one_by_one);
    }
    gated_add_backward(
        receptance::GatedAddBackward<Real, Element>{in[0], in[1], stream[1], out[3], out[4], n},
        set, one_by_one);
    squared_relu_forward(receptance::SquaredReluForward<Real, Element>{in[0], out[5], n}, set,
                         one_by_one);
    squared_relu_backward(receptance::SquaredReluBackward<Real, Element>{in[0], changed[0], n}, set,
                          one_by_one);
  }
};

template <typename Real, typename Element>
void test_gates(int64_t n, InstructionSet instruction_set, double tolerance) {
  Gating<Real, Element> gating(n);
  Gating<double, double> exact(n);
  gating.run(instruction_set);
  exact.run(InstructionSet::portable);
  expect(gating.in.is_intact() && gating.stream.is_intact() && gating.out.is_intact() &&
             gating.changed.is_intact() && gating.sums.is_intact(),
         "gates write nothing outside of their arrays", instruction_set, static_cast<double>(n));
  const double errors[] = {gating.out.error(exact.out), gating.changed.error(exact.changed),
                           gating.sums.error(exact.sums)};
  for (const double each : errors) {
    expect(each <= tolerance, "gates agree with themselves in double", instruction_set, each);
  }
}

template <typename Real, typename Element>
void test_in_every_shape(InstructionSet instruction_set, double tolerance) {
  for (const int64_t M : {2, 3}) {
    for (const int64_t T : {0, 1, 2, 31, 32, 33, 70}) {
      for (const int64_t C : {2, 15, 16, 17, 65}) {
        test_mixing<Real, Element>(M, 2, T, C, instruction_set, tolerance);
      }
    }
  }
  for (const int64_t n : {0, 1, 3, 15, 16, 17, 64, 1000}) {
    test_gates<Real, Element>(n, instruction_set, tolerance);
  }
}

}  // namespace

int main() {
  for (const InstructionSet each : receptance::all_instruction_sets) {
    if (!has_instruction_set(each)) continue;
    test_in_every_shape<double, double>(each, 1e-12);
    test_in_every_shape<float, float>(each, 1e-5);
    test_in_every_shape<float, receptance::bfloat16>(each, 1e-2);
    std::printf("%s: %d failures so far\n", instruction_set_name(each), n_failures);
  }
  return n_failures == 0 ? 0 : 1;
}
