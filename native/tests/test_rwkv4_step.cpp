// Tests of the step of RWKV-4 without PyTorch: in every instruction set and format, on several
// kinds of threads, with and without changes of low rank, it stays within its arrays, changes the
// slots that it is given and no others, gives each sequence the same bits in any company, and is
// right. Prints what failed and returns how much.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <thread>
#include <vector>

#include "guarded.h"
#include "receptance/rwkv4_step.h"
#include "rwkv4_in_double.h"

namespace {

using namespace receptance::tests;
using receptance::InstructionSet;
using receptance::Quantization;
using receptance::Threads;

// Two threads for the work of three.
void in_two(int64_t begin, int64_t end, int64_t, receptance::Task task, void* context) {
  std::thread first(task, begin, end - 1, context);
  task(end - 1, end, context);
  first.join();
}

constexpr Threads fewer{in_two, 3};

constexpr int64_t n_slots = 7;
constexpr int64_t none = -1;

// The state of all slots, and the step of some.
struct Stepping {
  const RandomRwkv4& random_model;
  receptance::Rwkv4Model model = random_model.model();
  int64_t C = model.C, n = model.n_layer * n_slots * C;
  Guarded<float> pool[5] = {Guarded<float>(n), Guarded<float>(n), Guarded<float>(n),
                            Guarded<float>(n), Guarded<float>(n)};

  // Slots other than `used`, if that is one, are NaN.
  explicit Stepping(const RandomRwkv4& of, int64_t used = none) : random_model(of) {
    Random random;
    // x of time mix and channel mix, num, den and log_scale.
    const double centres[] = {0, 0, 0, 2, -1};
    for (int64_t i = 0; i < 5; ++i) {
      fill(pool[i], n, random, 1, centres[i]);
      for (int64_t at = 0; at < n; ++at) {
        if (used != none && at / C % n_slots != used) pool[i].data()[at] = NAN;
      }
    }
  }

  std::vector<float> run(const std::vector<int64_t>& tokens, const std::vector<int64_t>& slots,
                         const std::vector<const RandomChanges*>& changes,
                         InstructionSet instruction_set, const Threads& threads) {
    const int64_t B = static_cast<int64_t>(tokens.size());
    std::vector<receptance::Rwkv4Changes> views(B);
    std::vector<const receptance::Rwkv4Changes*> of_row(B, nullptr);
    int64_t most_rank = 0;
    for (int64_t b = 0; b < B; ++b) {
      if (changes[b] == nullptr) continue;
      views[b] = changes[b]->changes();
      of_row[b] = &views[b];
      most_rank = std::max(most_rank, views[b].most_rank);
    }
    Guarded<float> logits(B * model.V);
    GuardedScratch scratch(receptance::rwkv4_step_scratch(model, B, most_rank));
    const receptance::Rwkv4Pool view{pool[0].data(), pool[1].data(), pool[2].data(),
                                     pool[3].data(), pool[4].data(), n_slots};
    receptance::rwkv4_step({&model, view, tokens.data(), slots.data(), logits.data(), B,
                            scratch.data(), most_rank == 0 ? nullptr : of_row.data(), most_rank},
                           instruction_set, threads);
    bool is_intact = logits.is_intact();
    for (const auto& each : pool) is_intact = is_intact && each.is_intact();
    expect(is_intact, "a step writes nothing outside of its arrays", instruction_set,
           static_cast<double>(B));
    expect(scratch.is_intact(), "a step's scratch is as large as promised", instruction_set,
           static_cast<double>(B));
    return {logits.data(), logits.data() + B * model.V};
  }

  // The slot's five vectors of all layers.
  std::vector<float> slot(int64_t which) {
    std::vector<float> numbers;
    for (auto& each : pool) {
      for (int64_t layer = 0; layer < model.n_layer; ++layer) {
        const float* from = each.data() + (layer * n_slots + which) * C;
        numbers.insert(numbers.end(), from, from + C);
      }
    }
    return numbers;
  }
};

// The largest difference over the root mean square; NaN if there is one in a.
double distance(const std::vector<float>& a, const std::vector<double>& b) {
  double worst = 0, squares = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    const double here = std::fabs(a[i] - b[i]);
    if (std::isnan(here)) return here;
    worst = std::fmax(worst, here);
    squares += b[i] * b[i];
  }
  return worst / std::sqrt(squares / static_cast<double>(b.size()));
}

bool same(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && same_bits(a.data(), b.data(), static_cast<int64_t>(a.size()));
}

const std::vector<int64_t> some_tokens = {3, 0, 18, 3, 7}, some_slots = {4, 0, 6, 1, 3};

// Of each of those sequences.
using ChangesOfRows = std::vector<const RandomChanges*>;

void test_against_double(const RandomRwkv4& model, const ChangesOfRows& changes,
                         InstructionSet instruction_set, double tolerance) {
  Stepping stepping(model);
  std::vector<std::vector<double>> exact;
  for (size_t b = 0; b < some_slots.size(); ++b) {
    const std::vector<float> before = stepping.slot(some_slots[b]);
    exact.push_back({before.begin(), before.end()});
  }
  const std::vector<float> logits =
      stepping.run(some_tokens, some_slots, changes, instruction_set, whole);
  const int64_t V = stepping.model.V;
  for (size_t b = 0; b < some_slots.size(); ++b) {
    const std::vector<double> expected = model.step_in_double(some_tokens[b], exact[b], changes[b]);
    const auto first = logits.begin() + static_cast<int64_t>(b) * V;
    const double of_logits = distance({first, first + V}, expected);
    expect(of_logits <= tolerance, "logits are those of double", instruction_set, of_logits);
    const double of_state = distance(stepping.slot(some_slots[b]), exact[b]);
    expect(of_state <= tolerance, "the state is that of double", instruction_set, of_state);
  }
}

// Two steps of B sequences on some threads, beside the same of each alone on one.
void test_company(const RandomRwkv4& model, const ChangesOfRows& changes, size_t B,
                  const Threads& threads, InstructionSet instruction_set) {
  const std::vector<int64_t> tokens(some_tokens.begin(), some_tokens.begin() + B);
  const std::vector<int64_t> slots(some_slots.begin(), some_slots.begin() + B);
  Stepping untouched(model), together(model);
  together.run(tokens, slots, changes, instruction_set, threads);
  const std::vector<float> logits = together.run(tokens, slots, changes, instruction_set, threads);
  for (size_t b = 0; b < B; ++b) {
    Stepping alone(model, slots[b]);
    alone.run({tokens[b]}, {slots[b]}, {changes[b]}, instruction_set, whole);
    const std::vector<float> expected =
        alone.run({tokens[b]}, {slots[b]}, {changes[b]}, instruction_set, whole);
    const auto first = logits.begin() + static_cast<int64_t>(b * expected.size());
    expect(same({first, first + static_cast<int64_t>(expected.size())}, expected),
           "logits have the same bits in any company", instruction_set, static_cast<double>(B));
    expect(same(together.slot(slots[b]), alone.slot(slots[b])),
           "a state has the same bits in any company", instruction_set, static_cast<double>(B));
  }
  for (int64_t slot = 0; slot < n_slots; ++slot) {
    bool is_used = false;
    for (const int64_t each : slots) is_used = is_used || each == slot;
    if (is_used) continue;
    expect(same(together.slot(slot), untouched.slot(slot)), "other slots stay as they are",
           instruction_set, static_cast<double>(slot));
  }
}

void test_model(const RandomRwkv4& model, const ChangesOfRows& changes,
                InstructionSet instruction_set, double tolerance) {
  test_against_double(model, changes, instruction_set, tolerance);
  for (size_t B = 1; B <= some_slots.size(); ++B) {
    test_company(model, changes, B, whole, instruction_set);
  }
  if (model.model().C % 2 == 0) return;  // threads that wait for each other take their time
  test_company(model, changes, 1, concurrent, instruction_set);
  test_company(model, changes, some_slots.size(), concurrent, instruction_set);
  test_company(model, changes, 2, fewer, instruction_set);
}

// Without changes, and with some of most sequences; of the last two, the same.
void test_model(const RandomRwkv4& model, InstructionSet instruction_set, double tolerance,
                double tolerance_with_changes) {
  test_model(model, ChangesOfRows(some_slots.size(), nullptr), instruction_set, tolerance);
  const receptance::Rwkv4Model view = model.model();
  const RandomChanges few(view.n_layer, view.C, 1), many(view.n_layer, view.C, 66);
  test_model(model, {&few, nullptr, &many, &few, &few}, instruction_set, tolerance_with_changes);
}

}  // namespace

int main() {
  using receptance::Format;
  // Float32 rounds a few hundred times on the way. Bfloat16 has units of 2^-8, which two layers add
  // up. A rounding may make a level of x in int8 its neighbour: 1 % of one of the numbers summed
  // up. Changes add numbers of their own to round, and what a neighbour moves goes through them too
  // (of 480 models one was 0.022 away, all others below 1e-4).
  constexpr double single = 1e-5, half = 0.03, levels = 5e-3;
  constexpr double single_changed = 2 * single, half_changed = 2 * half, levels_changed = 0.03;
  for (const InstructionSet each : receptance::all_instruction_sets) {
    if (!has_instruction_set(each)) continue;
    for (const int64_t C : {32, 33, 48}) {
      for (const bool by_columns : {false, true}) {
        const Quantization unused{8, 32, false};
        test_model(RandomRwkv4(2, C, 19, Format::float32, unused, by_columns), each, single,
                   single_changed);
        test_model(RandomRwkv4(2, C, 19, Format::bfloat16, unused, by_columns), each, half,
                   half_changed);
      }
      for (const int64_t group : {32, 128}) {
        test_model(RandomRwkv4(2, C, 19, Format::quantized, {8, group, false}), each, levels,
                   levels_changed);
        test_model(RandomRwkv4(2, C, 19, Format::quantized, {4, group, true}), each, levels,
                   levels_changed);
      }
    }
    // More rows and words than are met at once.
    for (const Format format : {Format::float32, Format::bfloat16}) {
      const bool is_single = format == Format::float32;
      test_model(RandomRwkv4(1, 161, 19, format, {8, 32, false}, true), each,
                 is_single ? single : half, is_single ? single_changed : half_changed);
    }
    std::printf("%s: %d failures so far\n", instruction_set_name(each), n_failures);
  }
  return n_failures == 0 ? 0 : 1;
}
