// The kernels of the gates and of the squared ReLU, compiled once for each instruction set: see
// vector.h.
#include "gate_kernels.h"

#include "vector.h"

namespace receptance::RECEPTANCE_ISA {
namespace {

// Calls body(i, whole, count) for the numbers [begin, end), a vector at a time.
template <typename Real, typename Body>
RECEPTANCE_INLINE void for_each_number(int64_t begin, int64_t end, const Body& body) {
  for_each_column<Real>(end - begin,
                        [&](int64_t i, bool whole, int64_t count)
                            __attribute__((always_inline)) { body(begin + i, whole, count); });
}

template <typename Real, typename Element>
void gate(const GateForward<Real, Element>& arrays, int64_t begin, int64_t end) {
  for_each_number<Real>(
      begin, end, [&](int64_t i, bool whole, int64_t count) __attribute__((always_inline)) {
        const Vector<Real> s = logistic<Real>(load<Real>(arrays.r + i, whole, count)).share;
        store<Real>(arrays.out + i, s * load<Real>(arrays.y + i, whole, count), whole, count);
      });
}

// The way back of both gates.
template <typename Real, typename Arrays>
RECEPTANCE_INLINE void back_through_gate(const Arrays& arrays, int64_t begin, int64_t end) {
  for_each_number<Real>(
      begin, end, [&](int64_t i, bool whole, int64_t count) __attribute__((always_inline)) {
        const Logistic<Real> s = logistic<Real>(load<Real>(arrays.r + i, whole, count));
        const Vector<Real> gs = load<Real>(arrays.grad_out + i, whole, count) * s.share;
        const Vector<Real> y = load<Real>(arrays.y + i, whole, count);
        store<Real>(arrays.grad_y + i, gs, whole, count);
        store<Real>(arrays.grad_r + i, gs * y * s.rest, whole, count);
      });
}

template <typename Real, typename Element>
void gate_back(const GateBackward<Real, Element>& arrays, int64_t begin, int64_t end) {
  back_through_gate<Real>(arrays, begin, end);
}

template <typename Real, typename Element>
void gated_add(const GatedAddForward<Real, Element>& arrays, int64_t begin, int64_t end) {
  const bool is_gated = arrays.r != nullptr;
  for_each_number<Real>(
      begin, end, [&](int64_t i, bool whole, int64_t count) __attribute__((always_inline)) {
        const Vector<Real> x = load<Real>(arrays.x + i, whole, count);
        const Vector<Real> y = load<Real>(arrays.y + i, whole, count);
        const Vector<Real> s = is_gated
                                   ? logistic<Real>(load<Real>(arrays.r + i, whole, count)).share
                                   : broadcast<Real>(1);
        store<Real>(arrays.out + i, fma<Real>(s, y, x), whole, count);
      });
}

template <typename Real, typename Element>
void gated_add_back(const GatedAddBackward<Real, Element>& arrays, int64_t begin, int64_t end) {
  back_through_gate<Real>(arrays, begin, end);
}

template <typename Real>
RECEPTANCE_INLINE Vector<Real> relu(Vector<Real> x) {
  return x < 0 ? Vector<Real>{} : x;  // NaN stays NaN
}

template <typename Real, typename Element>
void squared_relu(const SquaredReluForward<Real, Element>& arrays, int64_t begin, int64_t end) {
  for_each_number<Real>(begin, end,
                        [&](int64_t i, bool whole, int64_t count) __attribute__((always_inline)) {
                          const Vector<Real> k = relu<Real>(load<Real>(arrays.k + i, whole, count));
                          store<Real>(arrays.out + i, k * k, whole, count);
                        });
}

template <typename Real, typename Element>
void squared_relu_back(const SquaredReluBackward<Real, Element>& arrays, int64_t begin,
                       int64_t end) {
  for_each_number<Real>(begin, end,
                        [&](int64_t i, bool whole, int64_t count) __attribute__((always_inline)) {
                          const Vector<Real> k = relu<Real>(load<Real>(arrays.k + i, whole, count));
                          const Vector<Real> grad = load<Real>(arrays.grad + i, whole, count);
                          store<Real>(arrays.grad + i, (k + k) * grad, whole, count);
                        });
}

template <typename Real, typename Element>
constexpr GateKernels<Real, Element> kernels = {
    gate<Real, Element>,           gate_back<Real, Element>,    gated_add<Real, Element>,
    gated_add_back<Real, Element>, squared_relu<Real, Element>, squared_relu_back<Real, Element>};

}  // namespace

extern const GateTable gate_kernels;
const GateTable gate_kernels = {kernels<float, float>, kernels<float, bfloat16>,
                                kernels<double, double>};

}  // namespace receptance::RECEPTANCE_ISA
