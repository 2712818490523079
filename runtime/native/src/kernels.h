// The inner loops, as a table of functions: kernels.cc is compiled once per instruction set and yields one table each.
//
// NOTE: this header and whatever kernels.cc includes may hold no inline function or template with external linkage.
// The linker keeps one copy of such a function for the whole library, and it could be the one with AVX-512 inside.
#pragma once

#include <cstddef>
#include <cstdint>

namespace peregrine {

// Keys per tile and per split, in positions counted from the start of the sequence. Both are part of the
// arithmetic: a row's sums are grouped by them and by nothing else, so they never depend on the batch.
constexpr int kTile = 128;  // even: pairs of keys lie within a tile
constexpr int kSplit = 512;

// Positions whose keys lie across the lanes.
constexpr int kGroup = 16;

// How one head of Q or K is made ready.
struct HeadTransform {
  const float* norm;  // RMSNorm gain [dim], or null
  float norm_eps;
  const float* cos;  // this position's row [rotary_dim / 2]
  const float* sin;
  int dim, rotary_dim;
};

// The bits of a bfloat16. Those of a binary16 are a plain uint16_t.
enum class Bfloat : uint16_t {};

enum class CacheType { kFloat, kHalf, kBfloat };

// A sequence's keys and values of some KV heads in [begin, end): position p is in block table[p / block_size].
//
// The part of a head in a block is block_size rows of `dim` elements; or, in a packed cache, groups of kGroup
// positions, with P = 2 for bfloat16 and 1 otherwise: of keys [dim / P][kGroup][P], of values [kGroup / P][dim][P].
struct KeyRange {
  CacheType type;
  bool packed;
  const void* keys;  // row 0 of block 0 of the first head
  const void* values;
  const int32_t* table;
  int64_t block_size;
  int64_t block_stride;  // elements from one block to the next
  int64_t head_stride;   // elements from one head to the next
  int heads;
  int dim;
  int64_t begin, end;
};

// Softmax state of a set of rows over some keys: the running maximum (of scores in units of log 2), the sum of
// weights and the weighted sum of values. Rows of several heads follow each other.
struct SoftmaxState {
  float* max;          // [rows]
  float* sum;          // [rows]
  float* accumulator;  // [rows][padded dim]
};

// Elements as floats at most; `width` is the dim as a multiple of 2 * lanes.
struct AttendScratch {
  void* queries;  // [rows][width]
  void* keys;     // [kTile][width], for caches that are not packed
  void* values;   // [kTile][width]
  float* sums;    // [rows][lanes]
  float* scores;  // [row group][kTile]
  void* weights;  // [row group][kTile]
};

// A block of query rows, as many for each of some KV heads. Row r of every head sees keys [first[r], last[r]).
struct AttendRows {
  const float* queries;  // [heads][rows][padded dim], scaled, zero padded, aligned to 64 bytes
  const int64_t* first;
  const int64_t* last;
  int heads;
  int rows;
  int dim;
  int padded_dim;
  float softcap;  // 0: scores are already in units of log 2
};

struct Kernels {
  const char* name;
  int lanes;      // floats in a vector; padded dims are multiples of it
  int row_group;  // rows that share the loads of a tile

  // head[dim] (padded to a multiple of `lanes` with zeros) <- norm, rotation, scale.
  void (*transform_head)(const HeadTransform&, const float* input, float scale, float* head);
  void (*to_half)(const float* input, uint16_t* output, size_t count);
  void (*to_float)(const uint16_t* input, float* output, size_t count);
  void (*to_bfloat)(const float* input, Bfloat* output, size_t count);

  // state <- softmax state of every row over its keys in `range`, which lies within one split. `next` is what will be
  // asked for afterwards, or null: its first tile is fetched meanwhile.
  void (*attend)(const AttendRows&, const KeyRange& range, const KeyRange* next, const AttendScratch&,
                 const SoftmaxState& state);
  // total <- total merged with part; rows without keys in part (sum 0, max -inf) leave total as it is.
  void (*merge)(int rows, int padded_dim, const SoftmaxState& part, const SoftmaxState& total);
  // output[dim] <- accumulator / sum.
  void (*finish)(const float* accumulator, float sum, int dim, float* output);

  // output[i] <- gate[i] * sigmoid(gate[i]) * up[i]
  void (*silu_mul)(const float* gate, const float* up, float* output, size_t count);

  // Divides z by the temperature; returns the maximum.
  float (*temper)(float* z, size_t count, float temperature);
  // Returns the sum of exp(z - max), whose terms are rounded so that sums of them in double are exact in any order;
  // weights, unless null, gets the terms.
  double (*weigh)(const float* z, size_t count, float max, float* weights);
};

extern const Kernels kPortableKernels;
#if defined(__x86_64__)
extern const Kernels kAvx2Kernels;
extern const Kernels kAvx512Kernels;
extern const Kernels kAvx512BfloatKernels;
#endif

}  // namespace peregrine
