// A token of RWKV-4: phases between which all threads wait, each a loop over sequences or over rows
// of a matrix. What follows a matrix number by number is done where its rows were computed.
#include "receptance/rwkv4_step.h"

#include <type_traits>

#include "gate_kernels.h"
#include "instruction_set_tables.h"
#include "norm_shift_mix_kernels.h"
#include "products_kernels.h"
#include "rwkv4_step_changes.h"
#include "rwkv4_step_scratch.h"
#include "team.h"
#include "wkv4_kernels.h"

namespace receptance {

RECEPTANCE_DECLARE_TABLES(FewProductTable, few_product_kernels)
RECEPTANCE_DECLARE_TABLES(RowTable, row_kernels)
RECEPTANCE_DECLARE_TABLES(ColumnProductTable, column_product_kernels)
RECEPTANCE_DECLARE_TABLES(QuantizedProductTable, quantized_product_kernels)
RECEPTANCE_DECLARE_TABLES(NormShiftMixTable, norm_shift_mix_kernels)
RECEPTANCE_DECLARE_TABLES(GateTable, gate_kernels)

namespace {

float to_float(float x) { return x; }
float to_float(bfloat16 x) {
  const uint32_t bits = static_cast<uint32_t>(x.bits) << 16;
  float number;
  __builtin_memcpy(&number, &bits, sizeof(number));
  return number;
}

void put(float& to, float x) { to = x; }
void put(bfloat16& to, float x) {  // to the nearest, halves to even
  uint32_t bits;
  __builtin_memcpy(&bits, &x, sizeof(bits));
  const uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  to.bits = static_cast<uint16_t>(x == x ? rounded : 0x7fc0u);
}

// A row of the embedding.
void look_up(const Rwkv4Model& model, int64_t token, float* x) {
  const int64_t C = model.C, group = model.quantization.group;
  if (model.embedding.format == Format::float32) {
    const float* row = static_cast<const float*>(model.embedding.data) + token * C;
    for (int64_t c = 0; c < C; ++c) x[c] = row[c];
    return;
  }
  if (model.embedding.format == Format::bfloat16) {
    const bfloat16* row = static_cast<const bfloat16*>(model.embedding.data) + token * C;
    for (int64_t c = 0; c < C; ++c) x[c] = to_float(row[c]);
    return;
  }
  const bool has_offset = model.quantization.has_offset, is_small = model.quantization.bits == 4;
  const int64_t groups = ceil_div(C, group), header = groups * (has_offset ? 4 : 2);
  const int64_t row_bytes = header + groups * group * model.quantization.bits / 8;
  const uint8_t* row = static_cast<const uint8_t*>(model.embedding.data) + token * row_bytes;
  const bfloat16* scales = reinterpret_cast<const bfloat16*>(row);
  for (int64_t c = 0; c < C; ++c) {
    const int64_t at = header + (is_small ? c / 2 : c);
    const int q = is_small ? (row[at] >> (c % 2 * 4) & 15) - 8 : row[at] - 128;
    x[c] = to_float(scales[c / group]) * static_cast<float>(q);
    if (has_offset) x[c] = x[c] + to_float(scales[groups + c / group]);
  }
}

// All phases of a step; each thread has one, on the same scratch.
template <typename Element>
class Stepping {
 public:
  Stepping(const Rwkv4Step& step, InstructionSet instruction_set, const Scratch<Element>& scratch,
           Team& team)
      : step_(step),
        model_(*step.model),
        C_(step.model->C),
        scratch_(scratch),
        team_(team),
        wkv4_(kernel_table(instruction_set)),
        few_(few_product_kernels(instruction_set)),
        rows_(row_kernels(instruction_set)),
        columns_(column_product_kernels(instruction_set)),
        quantized_(quantized_product_kernels(instruction_set)),
        mixing_(kernels_of(norm_shift_mix_kernels(instruction_set), Element{})),
        gates_(kernels_of(gate_kernels(instruction_set), Element{})),
        changes_(step, instruction_set, scratch.met) {}

  void run() {
    team_.share(step_.B, [&](int64_t b) {
      float* x = scratch_.x + b * C_;
      look_up(model_, step_.tokens[b], x);
      if (model_.ln0.weight != nullptr) normalise(x, model_.ln0, x);
    });
    for (int64_t i = 0; i < model_.n_layer; ++i) {
      time_mix(model_.layers[i], i);
      channel_mix(model_.layers[i], i);
    }
    predict();
  }

 private:
  void time_mix(const Rwkv4Layer& layer, int64_t i) {
    const Scratch<Element>& s = scratch_;
    const float* mixes[] = {layer.mix_k, layer.mix_v, layer.mix_r};
    const Inputs<Element>* mixed[] = {&s.x_k, &s.x_v, &s.x_r};
    const Matrix* matrices[] = {&layer.key, &layer.value, &layer.receptance};
    team_.share(step_.B, [&](int64_t b) {
      mix(layer.ln1, 3, mixes, mixed, step_.pool.time_mix_x, i, b);
      for (int64_t m = 0; m < 3; ++m) quantize_if(*matrices[m], *mixed[m], b, 0, C_);
    });
    const Changed changed[] = {&Rwkv4LayerChanges::key, &Rwkv4LayerChanges::value,
                               &Rwkv4LayerChanges::receptance};
    changes_.meet(team_, i, 3, changed, mixed);
    Element* const products[] = {s.k, s.v, s.r};
    share_rows(C_, [&](int64_t begin, int64_t end) {
      for (int64_t m = 0; m < 3; ++m) {
        multiply(*matrices[m], *mixed[m], products[m], begin, end);
        changes_.add(i, m, changed[m], products[m], C_, begin, end);
      }
      for (int64_t b = 0; b < step_.B; ++b) {
        average(layer, i, b, begin, end);
        gates_.gate({s.r + b * C_, s.y + b * C_, s.gated.values + b * C_, C_}, begin, end);
        quantize_if(layer.output, s.gated, b, begin, end);
      }
    });
    const Changed output = &Rwkv4LayerChanges::output;
    const Inputs<Element>* gated = &s.gated;
    changes_.meet(team_, i, 1, &output, &gated);
    share_rows(C_, [&](int64_t begin, int64_t end) {
      multiply(layer.output, s.gated, s.y, begin, end);
      changes_.add(i, 0, output, s.y, C_, begin, end);
      for (int64_t b = 0; b < step_.B; ++b) {
        float* x = s.x + b * C_;
        gates_.gated_add({x, nullptr, s.y + b * C_, x, C_}, begin, end);
      }
    });
  }

  void channel_mix(const Rwkv4Layer& layer, int64_t i) {
    const Scratch<Element>& s = scratch_;
    const int64_t wide = 4 * C_;
    const float* mixes[] = {layer.channel_mix_k, layer.channel_mix_r};
    const Inputs<Element>* mixed[] = {&s.x_k, &s.x_r};
    team_.share(step_.B, [&](int64_t b) {
      mix(layer.ln2, 2, mixes, mixed, step_.pool.channel_mix_x, i, b);
      quantize_if(layer.channel_key, s.x_k, b, 0, C_);
      quantize_if(layer.channel_receptance, s.x_r, b, 0, C_);
    });
    const Changed changed[] = {&Rwkv4LayerChanges::channel_key,
                               &Rwkv4LayerChanges::channel_receptance};
    changes_.meet(team_, i, 2, changed, mixed);
    const int64_t padded = ceil_div(wide, unit) * unit;  // the key's rows, then receptance's
    share_rows(padded + C_, [&](int64_t begin, int64_t end) {
      if (end > padded) {
        const int64_t first = larger(begin - padded, 0);
        multiply(layer.channel_receptance, s.x_r, s.r, first, end - padded);
        changes_.add(i, 1, changed[1], s.r, C_, first, end - padded);
      }
      end = smaller(end, wide);
      if (begin >= end) return;
      multiply(layer.channel_key, s.x_k, s.channel_k, begin, end);
      changes_.add(i, 0, changed[0], s.channel_k, wide, begin, end);
      for (int64_t b = 0; b < step_.B; ++b) {
        gates_.squared_relu({s.channel_k + b * wide, s.squared.values + b * wide, wide}, begin,
                            end);
        quantize_if(layer.channel_value, s.squared, b, begin, end);
      }
      if (layer.channel_value.by_columns) mark_used(begin, end);
    });
    if (layer.channel_value.by_columns) {
      team_.share(step_.B, [&](int64_t b) { gather_used(b); });
    }
    const Changed value = &Rwkv4LayerChanges::channel_value;
    const Inputs<Element>* squared = &s.squared;
    changes_.meet(team_, i, 1, &value, &squared);
    share_rows(C_, [&](int64_t begin, int64_t end) {
      layer.channel_value.by_columns ? multiply_used(layer.channel_value, begin, end)
                                     : multiply(layer.channel_value, s.squared, s.v, begin, end);
      changes_.add(i, 0, value, s.v, C_, begin, end);
      for (int64_t b = 0; b < step_.B; ++b) {
        float* x = s.x + b * C_;
        gates_.gated_add({x, s.r + b * C_, s.v + b * C_, x, C_}, begin, end);
      }
    });
  }

  void predict() {
    const Scratch<Element>& s = scratch_;
    const int64_t V = model_.V;
    team_.share(step_.B, [&](int64_t b) {
      normalise(s.x + b * C_, model_.ln_out, s.normed + b * C_);
      for (int64_t c = b * C_; c < (b + 1) * C_; ++c) put(s.out.values[c], s.normed[c]);
      quantize_if(model_.head, s.out, b, 0, C_);
    });
    share_rows(V, [&](int64_t begin, int64_t end) {
      if constexpr (std::is_same_v<Element, float>) {
        multiply(model_.head, s.out, step_.logits, begin, end);
        return;
      }
      multiply(model_.head, s.out, s.logits, begin, end);
      for (int64_t b = 0; b < step_.B; ++b) {
        for (int64_t n = b * V + begin; n < b * V + end; ++n) {
          step_.logits[n] = to_float(s.logits[n]);
        }
      }
    });
  }

  // Calls f(begin, end) for parts of N rows, whole units: a few for each thread, so that one which
  // is done early finds something to do, and as long as that allows, since memory is read in
  // streams.
  template <typename F>
  void share_rows(int64_t N, const F& f) {
    constexpr int64_t parts_of_member = 4, most_units = 8;
    const int64_t units = ceil_div(N, unit), parts = parts_of_member * team_.size();
    const int64_t rows = smaller(ceil_div(units, parts), most_units) * unit;
    team_.share(ceil_div(N, rows), [&](int64_t at) {
      const int64_t begin = at * rows;
      f(begin, smaller(begin + rows, N));
    });
  }

  // Words of `squared`: each is one number of float32, or two of bfloat16.
  static constexpr int64_t words_of_unit = unit * sizeof(Element) / sizeof(uint32_t);

  int64_t n_words() const { return 4 * C_ * sizeof(Element) / sizeof(uint32_t); }

  const uint32_t* words_of(int64_t b) const {
    return reinterpret_cast<const uint32_t*>(scratch_.squared.values) + b * n_words();
  }

  // Notes which words of the columns [begin, end), whole units, are not 0 in all sequences.
  void mark_used(int64_t begin, int64_t end) const {
    for (int64_t at = begin / unit; at * unit < end; ++at) {
      const int64_t first = at * words_of_unit, n = smaller(words_of_unit, n_words() - first);
      uint32_t bits = 0;
      for (int64_t b = 0; b < step_.B; ++b) {
        const uint32_t* words = words_of(b) + first;
        for (int64_t i = 0; i < n; ++i) bits |= static_cast<uint32_t>(words[i] != 0) << i;
      }
      scratch_.is_used[at] = bits;
    }
  }

  // Puts the used words of sequence b side by side; with the first sequence, notes which they are.
  void gather_used(int64_t b) const {
    const uint32_t* words = words_of(b);
    uint32_t* to = scratch_.used_words + b * n_words();
    int64_t n = 0;
    for (int64_t first = 0; first < n_words(); first += words_of_unit) {
      for (uint32_t bits = scratch_.is_used[first / words_of_unit]; bits != 0; bits &= bits - 1) {
        const int64_t word = first + __builtin_ctz(bits);
        if (b == 0) scratch_.used[n] = static_cast<int32_t>(word);
        to[n++] = words[word];
      }
    }
    if (b == 0) *scratch_.n_used = n;
  }

  void multiply_used(const Matrix& w, int64_t begin, int64_t end) const {
    const ColumnProduct<Element> arrays{scratch_.used_words,
                                        scratch_.used,
                                        *scratch_.n_used,
                                        static_cast<const uint32_t*>(w.data),
                                        scratch_.v,
                                        step_.B,
                                        C_,
                                        n_words()};
    product_of_used(arrays, begin, end);
  }

  void product_of_used(const ColumnProduct<float>& arrays, int64_t begin, int64_t end) const {
    columns_.f32(arrays, begin, end);
  }
  void product_of_used(const ColumnProduct<bfloat16>& arrays, int64_t begin, int64_t end) const {
    columns_.bf16(arrays, begin, end);
  }

  void normalise(const float* x, const Norm& norm, float* y) const {
    rows_.layer_norm({x, norm.weight, norm.bias, y, 1, C_, model_.eps}, 0, 1);
  }

  // Row b of the mixed, from row b of the stream and the slot's last one, which is replaced.
  void mix(const Norm& norm, int64_t n_mixes, const float* const* mixes,
           const Inputs<Element>* const* mixed, float* last, int64_t layer, int64_t b) const {
    NormShiftMixForward<float, Element> arrays{};
    arrays.x = scratch_.x + b * C_;
    arrays.weight = norm.weight;
    arrays.bias = norm.bias;
    arrays.x_last = arrays.last = last + at_slot(layer, b);
    arrays.n_mixes = n_mixes;
    arrays.B = arrays.T = 1;
    arrays.C = C_;
    arrays.eps = model_.eps;
    arrays.mean = scratch_.moments + 2 * b;
    arrays.rstd = arrays.mean + 1;
    for (int64_t m = 0; m < n_mixes; ++m) {
      arrays.mixes[m] = mixes[m];
      arrays.mixed[m] = mixed[m]->values + b * C_;
    }
    mixing_.forward(arrays, 0, 0, 1);
  }

  // WKV of the channels [begin, end) of sequence b: y and its slot's state from k and v.
  void average(const Rwkv4Layer& layer, int64_t i, int64_t b, int64_t begin, int64_t end) const {
    const int64_t at = b * C_ + begin, slot = at_slot(i, b) + begin;
    const Rwkv4Pool& pool = step_.pool;
    const Wkv4State<float> state{pool.num + slot, pool.den + slot, pool.log_scale + slot};
    kernels_of_wkv4(Element{}).forward({layer.log_w + begin, layer.u + begin, scratch_.k + at,
                                        scratch_.v + at, nullptr, state, 1, end - begin, C_},
                                       scratch_.y + at);
  }

  // Columns [begin, end) of y = x W^T, whole panels of W or up to its last row.
  void multiply(const Matrix& w, const Inputs<Element>& x, Element* y, int64_t begin,
                int64_t end) const {
    if (w.format == Format::quantized) return multiply_quantized(w, x, y, begin, end);
    const Product<Element> arrays{
        x.values, static_cast<const Element*>(w.data), y, step_.B, w.N, w.K, false, nullptr};
    product_of_few(arrays, begin, end);
  }

  void product_of_few(const Product<float>& arrays, int64_t begin, int64_t end) const {
    few_.f32(arrays, begin, end);
  }
  void product_of_few(const Product<bfloat16>& arrays, int64_t begin, int64_t end) const {
    few_.bf16(arrays, begin, end);
  }

  void multiply_quantized(const Matrix& w, const Inputs<float>& x, float* y, int64_t begin,
                          int64_t end) const {
    const QuantizedMatrix matrix{static_cast<const uint8_t*>(w.data), model_.quantization, w.N,
                                 w.K};
    quantized_.product({x.blocks, matrix, y, step_.B}, begin / panel_rows,
                       ceil_div(end, panel_rows));
  }
  void multiply_quantized(const Matrix&, const Inputs<bfloat16>&, bfloat16*, int64_t,
                          int64_t) const {}  // there is no such model

  // The columns [begin, end) of row b in int8, if the matrix that they enter wants them so.
  void quantize_if(const Matrix& w, const Inputs<float>& x, int64_t b, int64_t begin,
                   int64_t end) const {
    if (w.format != Format::quantized) return;
    // The last columns are followed by those that pad them to whole groups.
    const int64_t last = end == x.K ? x.n_blocks : end / block_columns;
    quantized_.quantize(x.values + b * x.K, x.blocks + b * x.n_blocks, begin / block_columns, last,
                        x.K);
  }
  void quantize_if(const Matrix&, const Inputs<bfloat16>&, int64_t, int64_t, int64_t) const {}

  const Wkv4Kernels<float, float>& kernels_of_wkv4(float) const { return wkv4_.wkv4_f32; }
  const Wkv4Kernels<float, bfloat16>& kernels_of_wkv4(bfloat16) const { return wkv4_.wkv4_bf16; }

  int64_t at_slot(int64_t layer, int64_t b) const {
    return (layer * step_.pool.n_slots + step_.slots[b]) * C_;
  }

  const Rwkv4Step& step_;
  const Rwkv4Model& model_;
  const int64_t C_;
  const Scratch<Element>& scratch_;
  Team& team_;
  const KernelTable& wkv4_;
  const FewProductTable& few_;
  const RowTable& rows_;
  const ColumnProductTable& columns_;
  const QuantizedProductTable& quantized_;
  const NormShiftMixKernels<float, Element>& mixing_;
  const GateKernels<float, Element>& gates_;
  const Changes<Element> changes_;
};

template <typename Element>
void run(const Rwkv4Step& step, InstructionSet instruction_set, const Threads& threads) {
  Arena arena(step.scratch);
  const Scratch<Element> scratch(*step.model, step.B, step.most_rank, arena);
  Team::run(threads, ceil_div(step.model->C, unit),
            [&](Team& team) { Stepping<Element>(step, instruction_set, scratch, team).run(); });
}

bool is_bfloat16(const Rwkv4Model& model) { return model.head.format == Format::bfloat16; }

}  // namespace

int64_t rwkv4_step_scratch(const Rwkv4Model& model, int64_t B, int64_t most_rank) {
  Arena arena(nullptr);
  is_bfloat16(model) ? void(Scratch<bfloat16>(model, B, most_rank, arena))
                     : void(Scratch<float>(model, B, most_rank, arena));
  return arena.size();
}

void rwkv4_step(const Rwkv4Step& step, InstructionSet instruction_set, const Threads& threads) {
  is_bfloat16(*step.model) ? run<bfloat16>(step, instruction_set, threads)
                           : run<float>(step, instruction_set, threads);
}

}  // namespace receptance
