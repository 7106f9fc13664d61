// The products with quantized matrices, compiled once for each instruction set: see vector.h.
//
// A lane of a vector is a row of W. In a block of columns, levels of W and of x are multiplied and
// summed up in integers; the sum is then scaled and added in float32, block by block from left to
// right. So a number of y has one order of summation, whatever the tile that it is computed in.
#include "products_kernels.h"
#include "vector.h"

namespace receptance::RECEPTANCE_ISA {
namespace {

typedef int32_t Sums __attribute__((vector_size(RECEPTANCE_VECTOR_BYTES)));

// A strip is so many rows of a panel as fill two vectors; a tile is a strip by some rows of x.
constexpr int64_t strip_rows = 2 * lanes<float>;
constexpr int64_t tile_tokens = RECEPTANCE_VECTOR_BYTES == 64 ? 4 : 2;

// Columns whose levels lie together in a word of 4 bytes.
constexpr int64_t quad = 4;
constexpr int64_t quads_of_block = block_columns / quad;

// How far ahead of itself W is brought near where it is read once.
constexpr int64_t bytes_ahead = 4096;

// Four levels of x for all lanes, as add_products wants them.
struct Levels {
#if defined(__AVX512VNNI__)
  Sums all;
#elif defined(__AVX2__) || defined(RECEPTANCE_NEON)
  Sums even, odd;
#else
  Sums each[quad];
#endif
};

RECEPTANCE_INLINE Levels levels_of(const int8_t* from) {
  int32_t word;
  __builtin_memcpy(&word, from, sizeof(word));
  const Sums all = Sums{} + word;
#if defined(__AVX512VNNI__)
  return {all};
#elif defined(__AVX2__) || defined(RECEPTANCE_NEON)
  typedef int16_t Shorts __attribute__((vector_size(RECEPTANCE_VECTOR_BYTES)));
  return {(Sums)((Shorts)((Shorts)all << 8) >> 8), (Sums)((Shorts)all >> 8)};
#else
  return {{all << 24 >> 24, all << 16 >> 24, all << 8 >> 24, all >> 24}};
#endif
}

// Adds to each lane the products of its four levels of W, unsigned, with those of x.
RECEPTANCE_INLINE Sums add_products(Words w, const Levels& x, Sums sums) {
#if defined(__AVX512VNNI__)
  return (Sums)_mm512_dpbusd_epi32((__m512i)sums, (__m512i)w, (__m512i)x.all);
#elif defined(__AVX512F__)
  const __m512i even = _mm512_and_si512((__m512i)w, _mm512_set1_epi16(0xff));
  const __m512i odd = _mm512_srli_epi16((__m512i)w, 8);
  const __m512i both = _mm512_add_epi32(_mm512_madd_epi16(even, (__m512i)x.even),
                                        _mm512_madd_epi16(odd, (__m512i)x.odd));
  return sums + (Sums)both;
#elif defined(__AVX2__)
  const __m256i even = _mm256_and_si256((__m256i)w, _mm256_set1_epi16(0xff));
  const __m256i odd = _mm256_srli_epi16((__m256i)w, 8);
  const __m256i both = _mm256_add_epi32(_mm256_madd_epi16(even, (__m256i)x.even),
                                        _mm256_madd_epi16(odd, (__m256i)x.odd));
  return sums + (Sums)both;
#elif defined(RECEPTANCE_NEON)
  // Products of 16 bits with 16 bits, of neighbours in the same lane's word.
  const int16x8_t even = vreinterpretq_s16_u16(vandq_u16((uint16x8_t)w, vdupq_n_u16(0xff)));
  const int16x8_t odd = vreinterpretq_s16_u16(vshrq_n_u16((uint16x8_t)w, 8));
  const int16x8_t x_even = (int16x8_t)x.even, x_odd = (int16x8_t)x.odd;
  int32x4_t low = vmull_s16(vget_low_s16(even), vget_low_s16(x_even));
  int32x4_t high = vmull_high_s16(even, x_even);
  low = vmlal_s16(low, vget_low_s16(odd), vget_low_s16(x_odd));
  high = vmlal_high_s16(high, odd, x_odd);
  return sums + (Sums)vpaddq_s32(low, high);
#else
#pragma GCC unroll 4
  for (int64_t i = 0; i < quad; ++i) sums += (Sums)((w >> (8 * i)) & 0xffu) * x.each[i];
  return sums;
#endif
}

// Adds the products of one block of columns to `y`: TOKENS rows of x by a strip of rows of W, whose
// levels begin at `w`. The scales (and offsets) of the strip begin at `scales`.
template <int64_t BITS, bool HAS_OFFSET, int64_t TOKENS>
RECEPTANCE_INLINE void add_block(const uint8_t* w, const bfloat16* scales, const bfloat16* offsets,
                                 const QuantizedBlock* const (&x)[TOKENS],
                                 Vector<float> (&y)[TOKENS][2]) {
  Sums sums[TOKENS][2];
#pragma GCC unroll 4
  for (int64_t m = 0; m < TOKENS; ++m) {
    // sum (q - zero) x = sum q x - zero sum x, where zero is 8, or 128 = 8 << 4.
    sums[m][0] = sums[m][1] = (Sums{} + x[m]->start) << (BITS == 4 ? 0 : 4);
  }
  // Four bits: a word of 4 bytes has a row's levels of two quads.
#pragma GCC unroll 8
  for (int64_t i = 0; i < quads_of_block; i += 8 / BITS) {
    const uint8_t* word = w + i * BITS / 8 * panel_rows * quad;
    const Words both[2] = {load_packed<Words>(word, true, 0),
                           load_packed<Words>(word + sizeof(Words), true, 0)};
#pragma GCC unroll 2
    for (int64_t half = 0; half < 8 / BITS; ++half) {
      Words rows[2];
#pragma GCC unroll 2
      for (int64_t r = 0; r < 2; ++r) {
        rows[r] = BITS == 8 ? both[r] : (both[r] >> (4 * half)) & 0x0f0f0f0fu;
      }
#pragma GCC unroll 4
      for (int64_t m = 0; m < TOKENS; ++m) {
        const Levels levels = levels_of(x[m]->levels + (i + half) * quad);
        sums[m][0] = add_products(rows[0], levels, sums[m][0]);
        sums[m][1] = add_products(rows[1], levels, sums[m][1]);
      }
    }
  }
#pragma GCC unroll 2
  for (int64_t r = 0; r < 2; ++r) {
    const Vector<float> scale = load<float>(scales + r * lanes<float>, true, 0);
    Vector<float> offset{};
    if constexpr (HAS_OFFSET) offset = load<float>(offsets + r * lanes<float>, true, 0);
#pragma GCC unroll 4
    for (int64_t m = 0; m < TOKENS; ++m) {
      const Vector<float> sum = __builtin_convertvector(sums[m][r], Vector<float>);
      y[m][r] = fma<float>(scale * x[m]->scale, sum, y[m][r]);
      if constexpr (HAS_OFFSET) {
        const float sum_of_x = x[m]->scale * static_cast<float>(x[m]->start / -8);
        y[m][r] = fma<float>(offset, broadcast<float>(sum_of_x), y[m][r]);
      }
    }
  }
}

// How W is walked.
struct Walk {
  int64_t groups, blocks_of_group, bytes_of_group, bytes_of_block;
};

// A strip of a panel, which begins at `panel`, by TOKENS rows of x from `x` on, each of n_blocks.
template <int64_t BITS, bool HAS_OFFSET, int64_t TOKENS>
void tile(const Walk& walk, const uint8_t* panel, int64_t strip, const QuantizedBlock* x,
          int64_t n_blocks, float* y, int64_t N, int64_t n_rows) {
  constexpr int64_t scale_bytes = panel_rows * sizeof(bfloat16);
  constexpr int64_t header = HAS_OFFSET ? 2 * scale_bytes : scale_bytes;
  Vector<float> sums[TOKENS][2] = {};
  const QuantizedBlock* rows[TOKENS];
#pragma GCC unroll 4
  for (int64_t t = 0; t < TOKENS; ++t) rows[t] = x + t * n_blocks;
  for (int64_t group = 0; group < walk.groups; ++group, panel += walk.bytes_of_group) {
    const bfloat16* scales = reinterpret_cast<const bfloat16*>(panel) + strip * strip_rows;
    const uint8_t* levels = panel + header + strip * strip_rows * quad;
    for (int64_t i = 0; i < walk.blocks_of_group; ++i, levels += walk.bytes_of_block) {
      for (int64_t line = 0; line < walk.bytes_of_block; line += 64) {
        prefetch(levels + line, bytes_ahead);
      }
      add_block<BITS, HAS_OFFSET, TOKENS>(levels, scales, scales + panel_rows, rows, sums);
#pragma GCC unroll 4
      for (int64_t t = 0; t < TOKENS; ++t) ++rows[t];
    }
  }
#pragma GCC unroll 4
  for (int64_t t = 0; t < TOKENS; ++t) {
#pragma GCC unroll 2
    for (int64_t r = 0; r < 2; ++r) {
      const int64_t from = r * lanes<float>, count = n_rows - from;
      if (count <= 0) continue;
      store<float>(y + t * N + from, sums[t][r], count >= lanes<float>, count);
    }
  }
}

template <int64_t BITS, bool HAS_OFFSET, int64_t TOKENS>
void tile_of(int64_t n, const Walk& walk, const uint8_t* panel, int64_t strip,
             const QuantizedBlock* x, int64_t n_blocks, float* y, int64_t N, int64_t n_rows) {
  if constexpr (TOKENS > 1) {
    if (n < TOKENS) {
      return tile_of<BITS, HAS_OFFSET, TOKENS - 1>(n, walk, panel, strip, x, n_blocks, y, N,
                                                   n_rows);
    }
  }
  tile<BITS, HAS_OFFSET, TOKENS>(walk, panel, strip, x, n_blocks, y, N, n_rows);
}

template <int64_t BITS, bool HAS_OFFSET>
void product_of(const QuantizedProduct& arrays, int64_t begin, int64_t end) {
  const Quantization& quantization = arrays.w.quantization;
  const int64_t groups = n_groups(arrays.w), blocks_of_group = quantization.group / block_columns;
  const Walk walk{groups, blocks_of_group, block_bytes(quantization),
                  panel_rows * block_columns * BITS / 8};
  const int64_t N = arrays.w.N, n_blocks = groups * blocks_of_group;
  for (int64_t p = begin; p < end; ++p) {
    const uint8_t* panel = arrays.w.blocks + p * groups * walk.bytes_of_group;
    for (int64_t m = 0; m < arrays.M; m += tile_tokens) {
      for (int64_t strip = 0; strip * strip_rows < panel_rows; ++strip) {
        const int64_t row = p * panel_rows + strip * strip_rows;
        tile_of<BITS, HAS_OFFSET, tile_tokens>(smaller(tile_tokens, arrays.M - m), walk, panel,
                                               strip, arrays.x + m * n_blocks, n_blocks,
                                               arrays.y + m * N + row, N, N - row);
      }
    }
  }
}

void product(const QuantizedProduct& arrays, int64_t begin, int64_t end) {
  const Quantization& quantization = arrays.w.quantization;
  if (quantization.bits == 4) {
    quantization.has_offset ? product_of<4, true>(arrays, begin, end)
                            : product_of<4, false>(arrays, begin, end);
  } else {
    quantization.has_offset ? product_of<8, true>(arrays, begin, end)
                            : product_of<8, false>(arrays, begin, end);
  }
}

// x + round has integer steps, as long as |x| is below 2^22.
constexpr float round = Numbers<float>::round;

void quantize(const float* x, QuantizedBlock* row, int64_t begin, int64_t end, int64_t K) {
  constexpr int64_t vectors = block_columns / lanes<float>;
  constexpr float smallest = 1.17549435e-38f;  // normal number
  for (int64_t block = begin; block < end; ++block) {
    Vector<float> numbers[vectors];
    Vector<float> largest{}, finite{};  // 0, or NaN if a number is not finite
#pragma GCC unroll 8
    for (int64_t i = 0; i < vectors; ++i) {
      const int64_t at = block * block_columns + i * lanes<float>, count = K - at;
      numbers[i] = count <= 0 ? Vector<float>{} : load<float>(x + at, count >= lanes<float>, count);
      largest = max<float>(largest, -negative_abs<float>(numbers[i]));
      finite = finite + numbers[i] * 0.0f;
    }
    float most = 0;
#pragma GCC unroll 16
    for (int64_t lane = 0; lane < lanes<float>; ++lane) {
      most = largest[lane] > most ? largest[lane] : most;
    }
    float scale = most / 127 + sum_of_lanes<float>(finite);
    if (scale < smallest) scale = 0;
    const bool has_levels = scale > 0;  // it is neither 0 nor NaN
    const Vector<float> inverse = broadcast<float>(has_levels ? 1 / scale : 0);
    Sums total{};
#pragma GCC unroll 8
    for (int64_t i = 0; i < vectors; ++i) {
      const Vector<float> scaled = has_levels ? numbers[i] * inverse : Vector<float>{};
      const Sums levels = (Sums)(scaled + round) - (Sums)broadcast<float>(round);
      total += levels;
      typedef int8_t Bytes __attribute__((vector_size(RECEPTANCE_VECTOR_BYTES / 4)));
      store_packed(row[block].levels + i * lanes<float>, __builtin_convertvector(levels, Bytes),
                   true, 0);
    }
    int32_t sum = 0;
#pragma GCC unroll 16
    for (int64_t lane = 0; lane < lanes<float>; ++lane) sum += total[lane];
    row[block].scale = scale;
    row[block].start = -8 * sum;
  }
}

}  // namespace

extern const QuantizedProductTable quantized_product_kernels;
const QuantizedProductTable quantized_product_kernels = {product, quantize};

}  // namespace receptance::RECEPTANCE_ISA
