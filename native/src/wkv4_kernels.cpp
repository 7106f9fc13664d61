// The kernels of wkv4, compiled once for each instruction set: see vector.h.
#include "wkv4_kernels.h"

#include "vector.h"

namespace receptance::RECEPTANCE_ISA {
namespace {

// A column is the channels that fill one vector. Its state stays in registers for this many tokens
// before the next column's turn: few, so that memory is read nearly in its own order; more than
// one, so that the state is not moved for every token.
constexpr int64_t tile = 4;

// How many tokens before its turn a token is asked for. The tokens of a column lie a whole row
// apart, too far for the processor to foresee: asking halves the time of forward and of backward.
constexpr int64_t prefetch_ahead = 8;

template <typename Real>
struct State {
  Vector<Real> a, b, p;
};

template <typename Real>
RECEPTANCE_INLINE State<Real> zero_state() {
  return {Vector<Real>{}, Vector<Real>{}, broadcast<Real>(Real(empty_log_scale))};
}

template <typename Real>
RECEPTANCE_INLINE State<Real> load_state(const Wkv4State<Real>& from, int64_t channel, bool whole,
                                         int64_t count) {
  return {load<Real>(from.num + channel, whole, count),
          load<Real>(from.den + channel, whole, count),
          load<Real>(from.log_scale + channel, whole, count)};
}

template <typename Real>
RECEPTANCE_INLINE void store_state(const Wkv4State<Real>& to, const State<Real>& state,
                                   int64_t channel, bool whole, int64_t count) {
  store<Real>(to.num + channel, state.a, whole, count);
  store<Real>(to.den + channel, state.b, whole, count);
  store<Real>(to.log_scale + channel, state.p, whole, count);
}

// Moves the state over one token; returns the shares of the old sums and of the token in the new.
template <typename Real>
RECEPTANCE_INLINE Shares<Real> advance_token(State<Real>& state, Vector<Real> log_w, Vector<Real> k,
                                             Vector<Real> v) {
  const Shares<Real> share = shares<Real>(state.p + log_w, k);
  state.a = fma<Real>(share.x, state.a, share.y * v);
  state.b = fma<Real>(share.x, state.b, share.y);
  state.p = share.log_scale;
  return share;
}

// y and, of its denominator, the parts that the sums (r) and the token (s) make.
template <typename Real>
struct Output {
  Vector<Real> y, r, s;
};

template <typename Real>
RECEPTANCE_INLINE Output<Real> output(const State<Real>& state, Vector<Real> u_plus_k,
                                      Vector<Real> v) {
  const Shares<Real> share = shares<Real>(state.p, u_plus_k);
  const Vector<Real> inverse = Real(1) / fma<Real>(share.x, state.b, share.y);
  const Vector<Real> r = share.x * inverse;
  const Vector<Real> s = share.y * inverse;
  return {fma<Real>(r, state.a, s * v), r, s};
}

// Calls visit(t, at, reset, k, v) for the tokens [begin, end) of one column, with the state zeroed
// where there is a reset; `visit` moves it over the token. `at` is where the token lies in an
// array. Meanwhile the token `ahead` of each is brought near.
template <typename Real, typename Element, typename Visit>
RECEPTANCE_INLINE void walk(const Wkv4Piece<Real, Element>& piece, int64_t begin, int64_t end,
                            int64_t channel, bool whole, int64_t count, int64_t ahead,
                            State<Real>& state, const Visit& visit) {
  const int64_t bytes_ahead = ahead * piece.stride * static_cast<int64_t>(sizeof(Element));
  for (int64_t t = begin; t < end; ++t) {
    const int64_t at = t * piece.stride + channel;
    prefetch(piece.k + at, bytes_ahead);
    prefetch(piece.v + at, bytes_ahead);
    const bool reset = piece.resets != nullptr && piece.resets[t] != 0;
    if (reset) state = zero_state<Real>();
    visit(t, at, reset, load<Real>(piece.k + at, whole, count),
          load<Real>(piece.v + at, whole, count));
  }
}

// Walks the piece tile by tile, moving the state between memory and registers.
template <typename Real, typename Element, typename Body>
RECEPTANCE_INLINE void for_each_tile(const Wkv4Piece<Real, Element>& piece, const Body& body) {
  for (int64_t begin = 0; begin < piece.T; begin += tile) {
    const int64_t end = begin + tile < piece.T ? begin + tile : piece.T;
    for_each_column<Real>(
        piece.C, [&](int64_t channel, bool whole, int64_t count) __attribute__((always_inline)) {
          State<Real> state = load_state(piece.state, channel, whole, count);
          body(begin, end, channel, whole, count, state);
          store_state(piece.state, state, channel, whole, count);
        });
  }
}

template <typename Real, typename Element>
void forward(const Wkv4Piece<Real, Element>& piece, Element* y) {
  for_each_tile(piece, [&](int64_t begin, int64_t end, int64_t channel, bool whole, int64_t count,
                           State<Real>& state) __attribute__((always_inline)) {
    const Vector<Real> log_w = load<Real>(piece.log_w + channel, whole, count);
    const Vector<Real> u = load<Real>(piece.u + channel, whole, count);
    walk(piece, begin, end, channel, whole, count, prefetch_ahead, state,
         [&](int64_t, int64_t at, bool, Vector<Real> k, Vector<Real> v)
             __attribute__((always_inline)) {
               store<Real>(y + at, output<Real>(state, u + k, v).y, whole, count);
               advance_token<Real>(state, log_w, k, v);
             });
  });
}

template <typename Real, typename Element>
void advance(const Wkv4Piece<Real, Element>& piece) {
  for_each_tile(piece, [&](int64_t begin, int64_t end, int64_t channel, bool whole, int64_t count,
                           State<Real>& state) __attribute__((always_inline)) {
    const Vector<Real> log_w = load<Real>(piece.log_w + channel, whole, count);
    walk(piece, begin, end, channel, whole, count, prefetch_ahead, state,
         [&](int64_t, int64_t, bool, Vector<Real> k, Vector<Real> v)
             __attribute__((always_inline)) { advance_token<Real>(state, log_w, k, v); });
  });
}

template <typename Real, typename Element>
void advance_adjoint(const Wkv4Piece<Real, Element>& piece, const Element* grad_y, Real* alpha,
                     Real* beta, Real* reach) {
  for_each_tile(piece, [&](int64_t begin, int64_t end, int64_t channel, bool whole, int64_t count,
                           State<Real>& state) __attribute__((always_inline)) {
    const Vector<Real> log_w = load<Real>(piece.log_w + channel, whole, count);
    const Vector<Real> u = load<Real>(piece.u + channel, whole, count);
    Vector<Real> to_a = load<Real>(alpha + channel, whole, count);
    Vector<Real> to_b = load<Real>(beta + channel, whole, count);
    Vector<Real> reaching = load<Real>(reach + channel, whole, count);
    walk(piece, begin, end, channel, whole, count, prefetch_ahead, state,
         [&](int64_t, int64_t at, bool reset, Vector<Real> k, Vector<Real> v)
             __attribute__((always_inline)) {
               if (reset) reaching = Vector<Real>{};
               const Output<Real> out = output<Real>(state, u + k, v);
               const Vector<Real> gr = load<Real>(grad_y + at, whole, count) * out.r * reaching;
               to_a = to_a + gr;
               to_b = fma<Real>(-gr, out.y, to_b);
               reaching = reaching * advance_token<Real>(state, log_w, k, v).x;
             });
    store<Real>(alpha + channel, to_a, whole, count);
    store<Real>(beta + channel, to_b, whole, count);
    store<Real>(reach + channel, reaching, whole, count);
  });
}

template <typename Real>
RECEPTANCE_INLINE void add(Real* to, Vector<Real> x, bool whole, int64_t count) {
  store<Real>(to, load<Real>(to, whole, count) + x, whole, count);
}

// What the way back needs of a token, from the way there.
template <typename Real>
struct Visited {
  Vector<Real> a, b, x, z, y, gr, gs;
};

template <typename Real, typename Element>
void backward(const Wkv4Piece<Real, Element>& piece, const Element* grad_y, Real* alpha, Real* beta,
              Real* grad_log_w, Real* grad_u, Element* grad_k, Element* grad_v) {
  const int64_t bytes_back = -wkv4_chunk * piece.stride * static_cast<int64_t>(sizeof(Element));
  for_each_column<Real>(
      piece.C, [&](int64_t channel, bool whole, int64_t count) __attribute__((always_inline)) {
        Visited<Real> visited[wkv4_chunk];
        const Vector<Real> log_w = load<Real>(piece.log_w + channel, whole, count);
        const Vector<Real> u = load<Real>(piece.u + channel, whole, count);
        State<Real> state = load_state(piece.state, channel, whole, count);
        // The chunk that comes next lies before this one.
        walk(piece, 0, piece.T, channel, whole, count, -wkv4_chunk, state,
             [&](int64_t t, int64_t at, bool, Vector<Real> k, Vector<Real> v)
                 __attribute__((always_inline)) {
                   const Output<Real> out = output<Real>(state, u + k, v);
                   const Vector<Real> g = load<Real>(grad_y + at, whole, count);
                   prefetch(grad_y + at, bytes_back);
                   prefetch_for_writing(grad_k + at);
                   prefetch_for_writing(grad_v + at);
                   Visited<Real>& token = visited[t];
                   token.a = state.a;
                   token.b = state.b;
                   token.y = out.y;
                   token.gr = g * out.r;
                   token.gs = g * out.s;
                   const Shares<Real> share = advance_token<Real>(state, log_w, k, v);
                   token.x = share.x;
                   token.z = share.y;
                 });

        Vector<Real> to_a = load<Real>(alpha + channel, whole, count);
        Vector<Real> to_b = load<Real>(beta + channel, whole, count);
        Vector<Real> to_log_w{}, to_u{};
        for (int64_t t = piece.T - 1; t >= 0; --t) {
          const int64_t at = t * piece.stride + channel;
          const Visited<Real>& token = visited[t];
          const Vector<Real> v = load<Real>(piece.v + at, whole, count);
          const Vector<Real> from_y = token.gs * (v - token.y);
          const Vector<Real> to_k = fma<Real>(token.z, fma<Real>(to_a, v, to_b), from_y);
          store<Real>(grad_v + at, fma<Real>(token.z, to_a, token.gs), whole, count);
          store<Real>(grad_k + at, to_k, whole, count);
          to_u = to_u + from_y;
          to_log_w = fma<Real>(token.x, fma<Real>(to_a, token.a, to_b * token.b), to_log_w);
          to_a = fma<Real>(token.x, to_a, token.gr);
          to_b = fma<Real>(token.x, to_b, -token.gr * token.y);
          if (piece.resets != nullptr && piece.resets[t] != 0) to_a = to_b = Vector<Real>{};
        }
        store<Real>(alpha + channel, to_a, whole, count);
        store<Real>(beta + channel, to_b, whole, count);
        add<Real>(grad_log_w + channel, to_log_w, whole, count);
        add<Real>(grad_u + channel, to_u, whole, count);
      });
}

template <typename Real>
void join(const Real* log_w, const Wkv4State<Real>& state, const Wkv4State<Real>& sums,
          bool forgets, int64_t T, int64_t C) {
  for_each_column<Real>(
      C, [&](int64_t channel, bool whole, int64_t count) __attribute__((always_inline)) {
        const State<Real> before = load_state(state, channel, whole, count);
        const State<Real> sum = load_state(sums, channel, whole, count);
        const Vector<Real> log_fade = load<Real>(log_w + channel, whole, count) * Real(T);
        State<Real> after = sum;
        if (!forgets) {
          const Shares<Real> share = shares<Real>(before.p + log_fade, sum.p);
          after.a = fma<Real>(share.x, before.a, share.y * sum.a);
          after.b = fma<Real>(share.x, before.b, share.y * sum.b);
          after.p = share.log_scale;
        }
        store_state(state, after, channel, whole, count);
        store_state(sums, before, channel, whole, count);
      });
}

template <typename Real>
void exp_of_each(const Real* x, Real* y, int64_t n) {
  for_each_column<Real>(
      n, [&](int64_t i, bool whole, int64_t count) __attribute__((always_inline)) {
        store<Real>(y + i, exp<Real>(load<Real>(x + i, whole, count)), whole, count);
      });
}

template <typename Real, typename Element>
constexpr Wkv4Kernels<Real, Element> wkv4 = {forward<Real, Element>, advance<Real, Element>,
                                             advance_adjoint<Real, Element>,
                                             backward<Real, Element>, join<Real>};

}  // namespace

extern const KernelTable kernels;
const KernelTable kernels = {wkv4<float, float>, wkv4<float, bfloat16>, wkv4<double, double>,
                             exp_of_each<float>, exp_of_each<double>};

}  // namespace receptance::RECEPTANCE_ISA
