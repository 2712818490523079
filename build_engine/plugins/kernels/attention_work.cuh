// What a block of paged_attention computes, and where its results go.
//
// A query row is one head of one token; the GROUP query heads that share a KV head are packed, so that row r of a
// sequence is head r % GROUP of its token r / GROUP. blockIdx.x is a tile of ROWS rows, .y a KV head, .z a part of the
// keys. Sequence b's tiles begin at cu_seqlens[b] * GROUP / ROWS + b, which leaves room for its last, broken one.
//
// Only sequences of one new token are split over the keys. Each part leaves its maximum, sum and unnormalised output
// in `scratch`; the block that comes last adds them up (a plugin has one kernel and no workspace). The number of parts
// follows from the number of keys alone, so that a row's bits do not depend on its neighbours. A sequence that lies
// outside the buffers is passed over: TensorRT may time a plugin on arbitrary integers.
//
// Macros: Q_HEADS, KV_HEADS, HEAD_DIM, BLOCK_SIZE, ROWS, KEYS (of a tile), SPLITS, SPLIT_TILES (tiles that are worth a
// part), WINDOW (0: none), SOFTCAP (0: none), SCRATCH_WIDTH (floats of a sequence).
#pragma once

#include "element.cuh"
#include "sequences.cuh"

#define GROUP (Q_HEADS / KV_HEADS)
#define ROW_TILES ((GROUP + ROWS - 1) / ROWS)
#define LOG2E 1.4426950408889634f

// Of the tensors, which bound what the sequences may name.
struct Sizes {
    int sequences, max_blocks, blocks, tokens;
};

struct Work {
    int sequence, first_token, past;
    int row, rows;             // first row and number of rows
    int kv_begin, kv_end;      // positions that some row of the tile sees
    int tile_begin, tile_end;  // tiles of KEYS positions
    int parts;

    __device__ __forceinline__ int head(int r) const { return blockIdx.y * GROUP + (row + r) % GROUP; }
    __device__ __forceinline__ int token(int r) const { return (row + r) / GROUP; }
    __device__ __forceinline__ long long query(int r) const {
        return (static_cast<long long>(first_token + token(r)) * Q_HEADS + head(r)) * HEAD_DIM;
    }
    // Position of the row's token; -1, which sees nothing, past the last row.
    __device__ __forceinline__ int position(int r) const { return r < rows ? past + token(r) : -1; }
};

__device__ __forceinline__ bool find_work(Work& work, const int* cu_seqlens, const int* past_lens, const Sizes& sizes) {
    const int tile = blockIdx.x;
    const int b = find_sequence(cu_seqlens, sizes.sequences, tile, GROUP, ROWS, 1);
    const int first_token = cu_seqlens[b], end_token = cu_seqlens[b + 1], past = past_lens[b];
    const int count = end_token - first_token;
    if (first_token < 0 || end_token > sizes.tokens || past < 0 || count <= 0) return false;
    if (past > sizes.max_blocks * BLOCK_SIZE - count) return false;
    work.sequence = b;
    work.first_token = first_token;
    work.past = past;
    work.row = (tile - (work.first_token * GROUP / ROWS + b)) * ROWS;
    work.rows = min(ROWS, count * GROUP - work.row);
    if (work.row < 0 || work.rows <= 0) return false;
    work.kv_end = work.past + work.token(work.rows - 1) + 1;
    work.kv_begin = WINDOW ? max(0, work.past + work.token(0) - WINDOW + 1) : 0;
    const int first = work.kv_begin / KEYS, last = (work.kv_end + KEYS - 1) / KEYS;
    const int share = count == 1 ? max(SPLIT_TILES, (last - first + SPLITS - 1) / SPLITS) : last - first;
    work.parts = (last - first + share - 1) / share;
    work.tile_begin = first + blockIdx.z * share;
    work.tile_end = min(last, work.tile_begin + share);
    return static_cast<int>(blockIdx.z) < work.parts;
}

__device__ __forceinline__ bool sees(int position, int key) {
    return key <= position && (WINDOW == 0 || key > position - WINDOW);
}

// A score in units of log2, after the soft cap.
__device__ __forceinline__ float log2_score(float product) {
    if (SOFTCAP > 0.0f) product = SOFTCAP * fast_tanh(product * (1.0f / (SOFTCAP > 0.0f ? SOFTCAP : 1.0f)));
    return product * LOG2E;
}

// Offset of a cached position's row in a pool; negative where there is none.
__device__ __forceinline__ long long cache_row(const Work& work, const int* block_table, const Sizes& sizes,
                                               int position) {
    if (position < work.kv_begin || position >= work.kv_end) return -1;
    const int block = block_table[static_cast<long long>(work.sequence) * sizes.max_blocks + position / BLOCK_SIZE];
    if (block < 0 || block >= sizes.blocks) return -1;
    return ((static_cast<long long>(block) * KV_HEADS + blockIdx.y) * BLOCK_SIZE + position % BLOCK_SIZE) * HEAD_DIM;
}

// A sequence's part of scratch: arrival counters, then [Q_HEADS, SPLITS] of maximum, sum, HEAD_DIM outputs.
__device__ __forceinline__ float* partial(const Work& work, float* scratch, int head, int part) {
    float* own = scratch + static_cast<long long>(work.sequence) * SCRATCH_WIDTH + KV_HEADS * ROW_TILES;
    return own + (static_cast<long long>(head) * SPLITS + part) * (HEAD_DIM + 2);
}

// Elements `column` and `column + 1` of a row, unnormalised, with the row's maximum and sum.
__device__ __forceinline__ void emit(const Work& work, int row, int column, float low, float high, float top, float sum,
                                     Element* out, float* scratch) {
    if (work.parts == 1) {
        const float factor = sum > 0.0f ? 1.0f / sum : 0.0f;
        *reinterpret_cast<unsigned*>(out + work.query(row) + column) = pack(low * factor, high * factor);
        return;
    }
    float* own = partial(work, scratch, work.head(row), blockIdx.z);
    if (column == 0) own[0] = top, own[1] = sum;
    own[2 + column] = low;
    own[3 + column] = high;
}

// Called by all threads once a part is emitted. `weights` is shared memory for rows * SPLITS floats.
__device__ __forceinline__ void combine_parts(const Work& work, Element* out, float* scratch, float* weights) {
    __shared__ bool last;
    if (work.parts == 1) return;
    __threadfence();
    __syncthreads();
    if (threadIdx.x == 0) {
        float* own = scratch + static_cast<long long>(work.sequence) * SCRATCH_WIDTH;
        unsigned* arrived = reinterpret_cast<unsigned*>(own) + blockIdx.y * ROW_TILES + work.row / ROWS;
        // NOTE: wraps to 0 with the last arrival, so that the next launch finds what this one found.
        last = atomicInc(arrived, work.parts - 1) == static_cast<unsigned>(work.parts - 1);
    }
    __syncthreads();
    if (!last) return;
    __threadfence();
    for (int row = threadIdx.x; row < work.rows; row += blockDim.x) {
        float top = minus_infinity(), sum = 0.0f;
        for (int p = 0; p < work.parts; ++p) top = fmaxf(top, __ldcg(partial(work, scratch, work.head(row), p)));
        for (int p = 0; p < work.parts; ++p) {
            const float* own = partial(work, scratch, work.head(row), p);
            const float weight = fast_exp2(__ldcg(own) - top);
            weights[row * SPLITS + p] = weight;
            sum += weight * __ldcg(own + 1);
        }
        for (int p = 0; p < work.parts; ++p) weights[row * SPLITS + p] /= sum;
    }
    __syncthreads();
    for (int i = threadIdx.x; i < work.rows * (HEAD_DIM / 2); i += blockDim.x) {
        const int row = i / (HEAD_DIM / 2), column = i % (HEAD_DIM / 2) * 2;
        float low = 0.0f, high = 0.0f;
        for (int p = 0; p < work.parts; ++p) {
            const float* own = partial(work, scratch, work.head(row), p) + 2 + column;
            const float weight = weights[row * SPLITS + p];
            low += weight * __ldcg(own);
            high += weight * __ldcg(own + 1);
        }
        *reinterpret_cast<unsigned*>(out + work.query(row) + column) = pack(low, high);
    }
}
