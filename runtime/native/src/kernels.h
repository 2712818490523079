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
constexpr int kTile = 64;
constexpr int kSplit = 512;

// How one head of Q or K is made ready.
struct HeadTransform {
  const float* norm;  // RMSNorm gain [dim], or null
  float norm_eps;
  const float* cos;  // this position's row [rotary_dim / 2]
  const float* sin;
  int dim, rotary_dim;
};

// Where a sequence's keys (or values) of one KV head lie: position p is in block table[p / block_size].
struct PagedRows {
  const void* base;  // row 0 of block 0 of this head
  bool half;         // binary16 rather than float
};

struct PagedLayout {
  const int32_t* table;
  int64_t block_size;
  int64_t block_stride;  // elements from one block to the next
  int dim;
};

// Softmax state of a set of rows over some keys: the running maximum (of scores in units of log 2), the sum of
// weights and the weighted sum of values.
struct SoftmaxState {
  float* max;          // [rows]
  float* sum;          // [rows]
  float* accumulator;  // [rows][padded dim]
};

struct AttendScratch {
  float* keys;       // [kTile][padded dim]
  float* values;     // [kTile][padded dim]
  float* scores;     // [row group][kTile]
  int64_t* offsets;  // [2][kTile]
};

// A block of query rows that share a KV head. Row r sees keys [first[r], last[r]).
struct AttendRows {
  const float* queries;  // [rows][padded dim], scaled, zero padded, aligned to 64 bytes
  const int64_t* first;
  const int64_t* last;
  int rows;
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

  // state <- softmax state of every row over its keys in [begin, end), a range within one split.
  void (*attend)(const AttendRows&, const PagedLayout&, const PagedRows& keys, const PagedRows& values, int64_t begin,
                 int64_t end, const AttendScratch&, const SoftmaxState& state);
  // total <- total merged with part; rows without keys in part (sum 0, max -inf) leave total as it is.
  void (*merge)(int rows, int padded_dim, const SoftmaxState& part, const SoftmaxState& total);
  // output[dim] <- accumulator / sum.
  void (*finish)(const float* accumulator, float sum, int dim, float* output);

  // output[i] <- gate[i] * sigmoid(gate[i]) * up[i]
  void (*silu_mul)(const float* gate, const float* up, float* output, size_t count);
};

extern const Kernels kPortableKernels;
#if defined(__x86_64__)
extern const Kernels kAvx2Kernels;
extern const Kernels kAvx512Kernels;
#endif

}  // namespace peregrine
