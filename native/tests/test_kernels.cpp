// Tests of the kernels without PyTorch. Prints what failed and returns how much.
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <limits>
#include <vector>

#include "guarded.h"
#include "receptance/kernels.h"

namespace {

using namespace receptance::tests;
using receptance::Form;
using receptance::InstructionSet;

// The distance of y from e^x in units in the last place of y's type.
template <typename Real>
double error_in_ulps(Real x, Real y) {
  const long double exact = std::exp(static_cast<long double>(x));
  const Real rounded = static_cast<Real>(exact);
  const Real ulp = std::nextafter(rounded, std::numeric_limits<Real>::infinity()) - rounded;
  return static_cast<double>(std::fabs((static_cast<long double>(y) - exact) / ulp));
}

template <typename Real>
void test_exp(InstructionSet instruction_set) {
  const Real lowest = std::log(std::numeric_limits<Real>::min());
  std::vector<Real> x;
  for (int i = 0; i <= 1'000'000; ++i) x.push_back(lowest * static_cast<Real>(i) / 1'000'000);
  for (int i = 0; i <= 400; ++i)
    x.push_back(-std::pow(static_cast<Real>(10), static_cast<Real>(-i) / 10));
  std::vector<Real> y(x.size());
  exp_of_negatives(x.data(), y.data(), static_cast<int64_t>(x.size()), instruction_set);
  double worst = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    if (x[i] < lowest * static_cast<Real>(0.999999)) continue;
    worst = std::fmax(worst, error_in_ulps(x[i], y[i]));
  }
  std::printf("exp %-8s %zu-byte numbers: at most %.3f ulp\n",
              instruction_set_name(instruction_set), sizeof(Real), worst);
  expect(worst <= 2, "exp is within 2 units in the last place", instruction_set, worst);
}

template <typename Real>
void test_exp_at_the_ends(InstructionSet instruction_set) {
  const Real infinity = std::numeric_limits<Real>::infinity();
  const Real x[] = {0,
                    static_cast<Real>(-0.0),
                    -infinity,
                    std::numeric_limits<Real>::lowest(),
                    static_cast<Real>(-1e38),
                    static_cast<Real>(-3e38),
                    -1000,
                    -750,
                    -10000,
                    static_cast<Real>(-1e30),
                    std::numeric_limits<Real>::quiet_NaN(),
                    -std::numeric_limits<Real>::denorm_min()};
  constexpr int n = sizeof(x) / sizeof(Real);
  Real y[n];
  exp_of_negatives(x, y, n, instruction_set);
  for (int i = 0; i < n; ++i) {
    if (std::isnan(x[i])) {
      expect(std::isnan(y[i]), "exp of NaN is NaN", instruction_set, y[i]);
    } else {
      expect(y[i] == (x[i] > -1 ? 1 : 0), "exp at the ends of its range", instruction_set, y[i]);
    }
  }
}

// A small problem, with arrays just as large as they must be.
template <typename Real, typename Element>
struct Problem {
  int64_t B, T, C;
  Guarded<Real> log_w{C}, u{C}, num{B * C}, den{B * C}, log_scale{B * C};
  Guarded<Element> k{B * T * C}, v{B * T * C}, grad_y{B * T * C};
  Guarded<uint8_t> resets{B * T};
  Guarded<Element> y{B * T * C}, grad_k{B * T * C}, grad_v{B * T * C};
  Guarded<Real> num_out{B * C}, den_out{B * C}, log_scale_out{B * C};
  Guarded<Real> grad_log_w{C}, grad_u{C}, grad_num{B * C}, grad_den{B * C};
  Random random;

  Problem(int64_t B, int64_t T, int64_t C) : B(B), T(T), C(C) {
    for (int64_t i = 0; i < C; ++i) {
      put(log_w.data()[i], -std::exp(4 * random() - 2));
      put(u.data()[i], random());
    }
    for (int64_t i = 0; i < B * C; ++i) {
      put(num.data()[i], random());
      put(den.data()[i], 1.5 + random());
      put(log_scale.data()[i], random());
    }
    for (int64_t i = 0; i < B * T * C; ++i) {
      put(k.data()[i], 4 * random());
      put(v.data()[i], random());
      put(grad_y.data()[i], random());
    }
    for (int64_t i = 0; i < B * T; ++i) resets.data()[i] = random() > 0.9 ? 1 : 0;
  }

  void run(Form form, InstructionSet instruction_set) {
    const receptance::Wkv4Inputs<Real, Element> inputs{log_w.data(),  u.data(), k.data(), v.data(),
                                                       resets.data(), B,        T,        C};
    Guarded<Real> borders(3 * B * receptance::wkv4_n_chunks(T) * C);
    Guarded<Real> scratch(receptance::wkv4_forward_scratch(form, B, T, C));
    const receptance::Wkv4Forward<Real, Element> there{
        inputs,         num.data(),     den.data(),           log_scale.data(), y.data(),
        num_out.data(), den_out.data(), log_scale_out.data(), borders.data(),   scratch.data()};
    receptance::wkv4_forward(there, form, instruction_set, one_by_one);
    Guarded<Real> more(receptance::wkv4_backward_scratch(form, B, T, C));
    const receptance::Wkv4Backward<Real, Element> back{
        inputs,        borders.data(),    grad_y.data(),   num.data(),
        den.data(),    grad_log_w.data(), grad_u.data(),   grad_k.data(),
        grad_v.data(), grad_num.data(),   grad_den.data(), more.data()};
    receptance::wkv4_backward(back, form, instruction_set, one_by_one);
    expect(scratch.is_intact() && more.is_intact() && borders.is_intact(),
           "scratch and borders are as large as promised", instruction_set, static_cast<double>(T));
  }

  bool is_intact() const {
    return log_w.is_intact() && u.is_intact() && num.is_intact() && den.is_intact() &&
           log_scale.is_intact() && k.is_intact() && v.is_intact() && grad_y.is_intact() &&
           resets.is_intact() && y.is_intact() && grad_k.is_intact() && grad_v.is_intact() &&
           num_out.is_intact() && den_out.is_intact() && log_scale_out.is_intact() &&
           grad_log_w.is_intact() && grad_u.is_intact() && grad_num.is_intact() &&
           grad_den.is_intact();
  }
};

// Every type, form and instruction set stays within its arrays, fills its outputs, and agrees with
// the portable serial form in double. (That this one is right, tests/ops/wkv4 shows.)
template <typename Real, typename Element>
void test_wkv4(int64_t B, int64_t T, int64_t C, Form form, InstructionSet instruction_set,
               double tolerance) {
  Problem<Real, Element> problem(B, T, C);
  Problem<double, double> exact(B, T, C);
  for (int64_t i = 0; i < B * T * C; ++i) {
    exact.k.data()[i] = number(problem.k.data()[i]);
    exact.v.data()[i] = number(problem.v.data()[i]);
    exact.grad_y.data()[i] = number(problem.grad_y.data()[i]);
  }
  problem.run(form, instruction_set);
  exact.run(Form::serial, InstructionSet::portable);
  expect(problem.is_intact(), "nothing is written outside of the arrays", instruction_set,
         static_cast<double>(C));
  const int64_t n = B * T * C;
  const double errors[] = {error(problem.y, exact.y, n),
                           error(problem.num_out, exact.num_out, B * C),
                           error(problem.den_out, exact.den_out, B * C),
                           error(problem.log_scale_out, exact.log_scale_out, B * C),
                           error(problem.grad_k, exact.grad_k, n),
                           error(problem.grad_v, exact.grad_v, n),
                           error(problem.grad_log_w, exact.grad_log_w, C),
                           error(problem.grad_u, exact.grad_u, C),
                           error(problem.grad_num, exact.grad_num, B * C),
                           error(problem.grad_den, exact.grad_den, B * C)};
  for (const double each : errors) {
    expect(each <= tolerance, "wkv4 agrees with itself in double", instruction_set, each);
  }
}

void test_wkv4_in_every_type(InstructionSet instruction_set) {
  for (const Form form : {Form::serial, Form::parallel}) {
    for (const int64_t T : {0, 1, 31, 32, 33, 64, 65, 200}) {
      for (const int64_t C : {1, 15, 16, 17, 40}) {
        test_wkv4<double, double>(2, T, C, form, instruction_set, 1e-12);
        test_wkv4<float, float>(2, T, C, form, instruction_set, 1e-4);
        test_wkv4<float, receptance::bfloat16>(2, T, C, form, instruction_set, 1e-2);
      }
    }
  }
}

}  // namespace

int main() {
  for (const InstructionSet each : receptance::all_instruction_sets) {
    if (!has_instruction_set(each)) continue;
    test_exp<float>(each);
    test_exp<double>(each);
    test_exp_at_the_ends<float>(each);
    test_exp_at_the_ends<double>(each);
    test_wkv4_in_every_type(each);
  }
  std::printf("%d failures\n", n_failures);
  return n_failures == 0 ? 0 : 1;
}
