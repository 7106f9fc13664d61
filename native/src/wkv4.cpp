// wkv4 over whole batches: how the work is cut into pieces and handed to the threads.
#include "integers.h"
#include "receptance/kernels.h"
#include "wkv4_kernels.h"

namespace receptance {
namespace {

// Fewest channels of a block: at least one cache line in any type, so that no two threads write to
// the same line; most: so wide that memory is read in long runs.
constexpr int64_t narrowest_block = 32;
constexpr int64_t widest_block = 256;

// Tokens times channels below which handing work to another thread costs more than it saves.
constexpr int64_t smallest_task = 1 << 14;

// Tokens per segment of the parallel form: a whole number of chunks, at most 64 segments. A
// function of T alone, so that results do not depend on the number of threads.
int64_t segment_tokens(Form form, int64_t T) {
  if (form == Form::serial) return larger(T, 1);
  return larger(2, ceil_div(T, 64 * wkv4_chunk)) * wkv4_chunk;
}

// The cut of [B, T, C] into blocks of channels and segments of tokens.
struct Cut {
  int64_t B, T, C, block, n_blocks, segment, n_segments, n_chunks;

  Cut(Form form, int64_t B, int64_t T, int64_t C, int64_t n_threads)
      : B(B), T(T), C(C), segment(segment_tokens(form, T)) {
    // Four tasks for each thread, if there is enough to do, so that none waits long for the last.
    const int64_t wanted = ceil_div(4 * n_threads, larger(B, 1));
    const int64_t fair = ceil_div(ceil_div(C, wanted), narrowest_block) * narrowest_block;
    block = smaller(larger(fair, narrowest_block), widest_block);
    n_blocks = ceil_div(C, block);
    n_segments = larger(ceil_div(T, segment), 1);
    n_chunks = wkv4_n_chunks(T);
  }

  int64_t n_states() const { return B * n_segments * C; }  // numbers in one array per segment
};

// One task: a block of channels of one sequence, for one segment.
struct Place {
  int64_t b, channel, n_channels, s, t, n_tokens;

  // Sets t and n_tokens to those of segment s.
  void move_to(const Cut& cut) {
    t = s * cut.segment;
    n_tokens = smaller(cut.segment, cut.T - t);
  }

  int64_t of_state(const Cut& cut) const { return b * cut.C + channel; }
  int64_t of_segment(const Cut& cut) const { return (b * cut.n_segments + s) * cut.C + channel; }
  int64_t of_token(const Cut& cut) const { return (b * cut.T + t) * cut.C + channel; }
};

// Runs body(place) for every block of every sequence and segments [0, n_segments) of each.
template <typename Body>
void for_each_place(const Cut& cut, int64_t n_segments, const Threads& threads, const Body& body) {
  struct Context {
    const Cut& cut;
    int64_t n_segments;
    const Body& body;
  } context{cut, n_segments, body};
  const Task task = [](int64_t begin, int64_t end, void* pointer) {
    const Context& context = *static_cast<Context*>(pointer);
    const Cut& cut = context.cut;
    for (int64_t i = begin; i < end; ++i) {
      Place place;
      place.s = i % context.n_segments;
      place.channel = i / context.n_segments % cut.n_blocks * cut.block;
      place.n_channels = smaller(cut.block, cut.C - place.channel);
      place.b = i / context.n_segments / cut.n_blocks;
      place.move_to(cut);
      context.body(place);
    }
  };
  const int64_t work = cut.block * (n_segments == 1 ? larger(cut.T, 1) : cut.segment);
  threads.parallel_for(0, cut.B * cut.n_blocks * n_segments, ceil_div(smallest_task, work), task,
                       &context);
}

template <typename Real>
void copy(Real* to, const Real* from, int64_t n) {
  for (int64_t i = 0; i < n; ++i) to[i] = from[i];
}

template <typename Real>
void fill(Real* to, double value, int64_t n) {
  for (int64_t i = 0; i < n; ++i) to[i] = static_cast<Real>(value);
}

template <typename Real>
Wkv4State<Real> operator+(const Wkv4State<Real>& state, int64_t at) {
  return {state.num + at, state.den + at, state.log_scale + at};
}

template <typename Real>
void copy(const Wkv4State<Real>& to, const Wkv4State<const Real>& from, int64_t n) {
  copy(to.num, from.num, n);
  copy(to.den, from.den, n);
  copy(to.log_scale, from.log_scale, n);
}

// The inputs at a place, with the state that the kernels start from and move.
template <typename Arrays, typename Real>
auto piece_at(const Arrays& arrays, const Cut& cut, const Place& place,
              const Wkv4State<Real>& state) {
  const int64_t at = place.of_token(cut);
  const uint8_t* resets = arrays.resets;
  if (resets != nullptr) resets += place.b * cut.T + place.t;
  return Wkv4Piece{arrays.log_w + place.channel,
                   arrays.u + place.channel,
                   arrays.k + at,
                   arrays.v + at,
                   resets,
                   state,
                   place.n_tokens,
                   place.n_channels,
                   cut.C};
}

bool has_reset(const uint8_t* resets, int64_t n_tokens) {
  if (resets == nullptr) return false;
  for (int64_t t = 0; t < n_tokens; ++t) {
    if (resets[t] != 0) return true;
  }
  return false;
}

// Writes into `entries` the state before each segment. `state`, [B, C], is the state before the
// first one on entry, and the state after the last one on return.
template <typename Arrays, typename Kernels, typename Real>
void find_entries(const Arrays& arrays, const Kernels& kernels, const Cut& cut,
                  const Threads& threads, const Wkv4State<Real>& state,
                  const Wkv4State<Real>& entries) {
  for_each_place(cut, cut.n_segments, threads, [&](const Place& place) {
    const Wkv4State<Real> sums = entries + place.of_segment(cut);
    fill(sums.num, 0, place.n_channels);
    fill(sums.den, 0, place.n_channels);
    fill(sums.log_scale, empty_log_scale, place.n_channels);
    kernels.advance(piece_at(arrays, cut, place, sums));
  });
  for_each_place(cut, 1, threads, [&](Place place) {
    for (place.s = 0; place.s < cut.n_segments; ++place.s) {
      place.move_to(cut);
      const auto piece = piece_at(arrays, cut, place, entries + place.of_segment(cut));
      kernels.join(piece.log_w, state + place.of_state(cut), piece.state,
                   has_reset(piece.resets, piece.T), piece.T, piece.C);
    }
  });
}

// The state before each chunk, as forward left it.
template <typename Real>
Wkv4State<Real> states_of(Real* borders, const Cut& cut) {
  const int64_t n = cut.B * cut.n_chunks * cut.C;
  return {borders, borders + n, borders + 2 * n};
}

// What the backward pass writes and reads again of each segment, carved out of the scratch.
template <typename Real>
struct BackwardScratch {
  // A state that moves; alpha and beta, what the segment's own tokens contribute to the adjoints
  // before it, then the adjoints after it; reach, by which they are multiplied on the way.
  Wkv4State<Real> state;
  Real* alpha;
  Real* beta;
  Real* reach;
  // Its part of the gradients that are sums over tokens.
  Real* grad_log_w;
  Real* grad_u;

  static int64_t size(const Cut& cut) { return 8 * cut.n_states(); }

  BackwardScratch(Real* start, const Cut& cut) {
    const int64_t n = cut.n_states();
    state = {start, start + n, start + 2 * n};
    alpha = start + 3 * n;
    beta = start + 4 * n;
    reach = start + 5 * n;
    grad_log_w = start + 6 * n;
    grad_u = start + 7 * n;
  }
};

// Calls body(chunk, offset of its state among the borders) for the chunks of a segment.
template <typename Body>
void for_each_chunk(const Cut& cut, const Place& segment, bool from_the_right, const Body& body) {
  const int64_t first = segment.t / wkv4_chunk;
  const int64_t n_chunks = ceil_div(segment.n_tokens, wkv4_chunk);
  for (int64_t i = 0; i < n_chunks; ++i) {
    Place chunk = segment;
    const int64_t index = from_the_right ? n_chunks - 1 - i : i;
    chunk.t += index * wkv4_chunk;
    chunk.n_tokens = smaller(segment.n_tokens - index * wkv4_chunk, wkv4_chunk);
    body(chunk, (segment.b * cut.n_chunks + first + index) * cut.C + segment.channel);
  }
}

// Sums up, in alpha, beta and reach, what the tokens of a segment do to the adjoints before it.
template <typename Arrays, typename Kernels, typename Real>
void find_contribution(const Arrays& arrays, const Kernels& kernels, const Cut& cut,
                       const Place& segment, const Wkv4State<const Real>& borders,
                       const BackwardScratch<Real>& scratch) {
  const int64_t at = segment.of_segment(cut);
  const int64_t border =
      (segment.b * cut.n_chunks + segment.t / wkv4_chunk) * cut.C + segment.channel;
  copy(scratch.state + at, borders + border, segment.n_channels);
  fill(scratch.alpha + at, 0, segment.n_channels);
  fill(scratch.beta + at, 0, segment.n_channels);
  fill(scratch.reach + at, 1, segment.n_channels);
  kernels.advance_adjoint(piece_at(arrays, cut, segment, scratch.state + at),
                          arrays.grad_y + segment.of_token(cut), scratch.alpha + at,
                          scratch.beta + at, scratch.reach + at);
}

// Replaces, in alpha and beta, each segment's contribution by the adjoints after it, and writes the
// adjoints before the first one.
template <typename Arrays, typename Real>
void find_exits(const Arrays& arrays, const Cut& cut, const Place& sequence,
                const BackwardScratch<Real>& scratch) {
  const int64_t state = sequence.of_state(cut);
  Real* before_a = arrays.grad_num + state;
  Real* before_b = arrays.grad_den + state;
  copy(before_a, arrays.grad_num_out + state, sequence.n_channels);
  copy(before_b, arrays.grad_den_out + state, sequence.n_channels);
  Place segment = sequence;
  for (segment.s = cut.n_segments - 1; segment.s >= 0; --segment.s) {
    const int64_t at = segment.of_segment(cut);
    for (int64_t c = 0; c < segment.n_channels; ++c) {
      const Real after_a = before_a[c], after_b = before_b[c];
      before_a[c] = scratch.reach[at + c] * after_a + scratch.alpha[at + c];
      before_b[c] = scratch.reach[at + c] * after_b + scratch.beta[at + c];
      scratch.alpha[at + c] = after_a;
      scratch.beta[at + c] = after_b;
    }
  }
}

// Walks a segment from its last chunk to its first; alpha and beta go from after it to before it.
template <typename Arrays, typename Kernels, typename Real>
void walk_back(const Arrays& arrays, const Kernels& kernels, const Cut& cut, const Place& segment,
               const BackwardScratch<Real>& scratch, Real* alpha, Real* beta) {
  // A piece's state may be moved, but this kernel leaves it as it is.
  const Wkv4State<Real> borders = states_of(const_cast<Real*>(arrays.borders), cut);
  const int64_t at = segment.of_segment(cut);
  fill(scratch.grad_log_w + at, 0, segment.n_channels);
  fill(scratch.grad_u + at, 0, segment.n_channels);
  for_each_chunk(cut, segment, true, [&](const Place& chunk, int64_t border) {
    const int64_t token = chunk.of_token(cut);
    kernels.backward(piece_at(arrays, cut, chunk, borders + border), arrays.grad_y + token, alpha,
                     beta, scratch.grad_log_w + at, scratch.grad_u + at, arrays.grad_k + token,
                     arrays.grad_v + token);
  });
}

// Adds up the segments' parts, always in the same order.
template <typename Real>
void add_parts(const Cut& cut, const Real* parts, Real* sum) {
  fill(sum, 0, cut.C);
  for (int64_t i = 0; i < cut.B * cut.n_segments; ++i) {
    for (int64_t c = 0; c < cut.C; ++c) sum[c] += parts[i * cut.C + c];
  }
}

const Wkv4Kernels<float, float>& kernels_for(const KernelTable& table, float, float) {
  return table.wkv4_f32;
}
const Wkv4Kernels<float, bfloat16>& kernels_for(const KernelTable& table, float, bfloat16) {
  return table.wkv4_bf16;
}
const Wkv4Kernels<double, double>& kernels_for(const KernelTable& table, double, double) {
  return table.wkv4_f64;
}

// The parallel form where blocks of channels alone leave all but 1 / spare of the threads idle, and
// sequences are long. It does 1.6 times the work of the serial form forward and 2 times backward
// (0.81 instead of 0.55 ns, 1.67 instead of 0.84 ns per number, AVX-512, one thread), and so pays
// with more threads per block than that. A sequence of 8192 tokens takes a thread 0.1 ms in a
// narrow block; the parallel form was slower or equal below 4096, for waiting at its three to five
// joints.
Form faster_form(int64_t spare, int64_t B, int64_t T, int64_t C, int64_t n_threads) {
  const int64_t n_blocks = B * ceil_div(C, narrowest_block);
  return T >= 8192 && spare * n_blocks <= n_threads ? Form::parallel : Form::serial;
}

}  // namespace

Form wkv4_forward_form(Form form, int64_t B, int64_t T, int64_t C, int64_t n_threads) {
  return form == Form::automatic ? faster_form(2, B, T, C, n_threads) : form;
}

Form wkv4_backward_form(Form form, int64_t B, int64_t T, int64_t C, int64_t n_threads) {
  return form == Form::automatic ? faster_form(3, B, T, C, n_threads) : form;
}

int64_t wkv4_n_chunks(int64_t T) { return ceil_div(T, wkv4_chunk); }

int64_t wkv4_forward_scratch(Form form, int64_t B, int64_t T, int64_t C) {
  return form == Form::serial ? 0 : 3 * Cut(form, B, T, C, 1).n_states();
}

int64_t wkv4_backward_scratch(Form form, int64_t B, int64_t T, int64_t C) {
  return BackwardScratch<float>::size(Cut(form, B, T, C, 1));
}

template <typename Real, typename Element>
void wkv4_forward(const Wkv4Forward<Real, Element>& arrays, Form form,
                  InstructionSet instruction_set, const Threads& threads) {
  const Cut cut(form, arrays.B, arrays.T, arrays.C, threads.count);
  const auto& kernels = kernels_for(kernel_table(instruction_set), Real{}, Element{});
  const Wkv4State<Real> state{arrays.num_out, arrays.den_out, arrays.log_scale_out};
  copy(state, {arrays.num, arrays.den, arrays.log_scale}, cut.B * cut.C);
  Wkv4State<Real> entries = state;
  if (cut.n_segments > 1) {
    const int64_t n = cut.n_states();
    entries = {arrays.scratch, arrays.scratch + n, arrays.scratch + 2 * n};
    find_entries(arrays, kernels, cut, threads, state, entries);
  }
  const Wkv4State<Real> borders = states_of(arrays.borders, cut);
  for_each_place(cut, cut.n_segments, threads, [&](const Place& place) {
    const Wkv4State<Real> moving = entries + place.of_segment(cut);
    for_each_chunk(cut, place, false, [&](const Place& chunk, int64_t border) {
      copy(borders + border, {moving.num, moving.den, moving.log_scale}, chunk.n_channels);
      kernels.forward(piece_at(arrays, cut, chunk, moving), arrays.y + chunk.of_token(cut));
    });
  });
}

template <typename Real, typename Element>
void wkv4_backward(const Wkv4Backward<Real, Element>& arrays, Form form,
                   InstructionSet instruction_set, const Threads& threads) {
  const Cut cut(form, arrays.B, arrays.T, arrays.C, threads.count);
  const auto& kernels = kernels_for(kernel_table(instruction_set), Real{}, Element{});
  const BackwardScratch<Real> scratch(arrays.scratch, cut);
  if (cut.n_segments == 1) {
    copy(arrays.grad_num, arrays.grad_num_out, cut.B * cut.C);
    copy(arrays.grad_den, arrays.grad_den_out, cut.B * cut.C);
    for_each_place(cut, 1, threads, [&](const Place& place) {
      const int64_t at = place.of_state(cut);
      walk_back(arrays, kernels, cut, place, scratch, arrays.grad_num + at, arrays.grad_den + at);
    });
  } else {
    const Wkv4State<const Real> borders = states_of(arrays.borders, cut);
    for_each_place(cut, cut.n_segments, threads, [&](const Place& place) {
      find_contribution(arrays, kernels, cut, place, borders, scratch);
    });
    for_each_place(cut, 1, threads,
                   [&](const Place& place) { find_exits(arrays, cut, place, scratch); });
    for_each_place(cut, cut.n_segments, threads, [&](const Place& place) {
      const int64_t at = place.of_segment(cut);
      walk_back(arrays, kernels, cut, place, scratch, scratch.alpha + at, scratch.beta + at);
    });
  }
  add_parts(cut, scratch.grad_log_w, arrays.grad_log_w);
  add_parts(cut, scratch.grad_u, arrays.grad_u);
}

#define RECEPTANCE_SERVE(Real, Element)                                                 \
  template void wkv4_forward(const Wkv4Forward<Real, Element>&, Form, InstructionSet,   \
                             const Threads&);                                           \
  template void wkv4_backward(const Wkv4Backward<Real, Element>&, Form, InstructionSet, \
                              const Threads&)
RECEPTANCE_SERVE(float, float);
RECEPTANCE_SERVE(float, bfloat16);
RECEPTANCE_SERVE(double, double);

}  // namespace receptance
