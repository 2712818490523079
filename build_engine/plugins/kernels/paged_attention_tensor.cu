// Paged attention on tensor cores, for head sizes that are multiples of 16 up to 128.
//
// queries [T, Q_HEADS, HEAD_DIM] rotated and scaled; pools [blocks, KV_HEADS, BLOCK_SIZE, HEAD_DIM]; out like queries;
// scratch float32 [B, SCRATCH_WIDTH], zeros before the first launch. Four warps share tiles of 64 keys. With more than
// 16 rows each warp takes 16 of them and all keys (prefill); else every warp takes all rows and 16 keys (decode), and
// the warps' results are merged. Online softmax: Milakov and Gimelshein 2018; the layout follows FlashAttention-2.
#include "attention_work.cuh"
#include "tensor_core.cuh"

#define WARPS 4
#define CHUNKS (HEAD_DIM / 8)                // of 16 bytes, in a row
#define STRIDE ((HEAD_DIM + 63) / 64 * 64)  // elements of a row in shared memory
#define SLICES (KEYS / 16)

static_assert(KEYS == 16 * WARPS && ROWS == 16 * WARPS, "a slice of keys and one of rows for each warp");
static_assert(HEAD_DIM % 16 == 0 && HEAD_DIM <= 128, "other head sizes take the generic kernel");

struct Pools {
    const Element *keys, *values;
    const int* block_table;
    Sizes sizes;
};

// Chunks are permuted within a row, so that eight rows of one chunk lie in different banks.
__device__ __forceinline__ Element* chunk_address(Element* tile, int row, int chunk) {
    return tile + row * STRIDE + (chunk ^ (row & 7)) * 8;
}

__device__ __forceinline__ void load_tile(Element* to, const Element* pool, const Pools& pools, const Work& work,
                                          int tile) {
    for (int i = threadIdx.x; i < KEYS * CHUNKS; i += 32 * WARPS) {
        const int row = i / CHUNKS, chunk = i % CHUNKS;
        const long long from = cache_row(work, pools.block_table, pools.sizes, tile * KEYS + row);
        copy_16(chunk_address(to, row, chunk), from < 0 ? pool : pool + from + chunk * 8, from >= 0);
    }
}

// One warp's 16 rows: fragments of queries and outputs, and the softmax of rows lane / 4 and lane / 4 + 8.
struct Rows {
    unsigned query[HEAD_DIM / 16][4];
    float out[HEAD_DIM / 8][4];
    float top[2], sum[2];
    int position[2];
};

__device__ __forceinline__ void load_rows(Rows& rows, const Work& work, const Element* queries, int first) {
    const int group = threadIdx.x % 32 / 4, pair = threadIdx.x % 4 * 2;
#pragma unroll
    for (int side = 0; side < 2; ++side) {
        const int row = first + group + 8 * side;
        rows.position[side] = work.position(row);
        rows.top[side] = minus_infinity();
        rows.sum[side] = 0.0f;
        const Element* from = queries + (row < work.rows ? work.query(row) : 0) + pair;
#pragma unroll
        for (int k = 0; k < HEAD_DIM / 16; ++k) {
            const bool valid = row < work.rows;
            rows.query[k][side] = valid ? *reinterpret_cast<const unsigned*>(from + 16 * k) : 0;
            rows.query[k][2 + side] = valid ? *reinterpret_cast<const unsigned*>(from + 16 * k + 8) : 0;
        }
    }
#pragma unroll
    for (int n = 0; n < HEAD_DIM / 8; ++n) rows.out[n][0] = rows.out[n][1] = rows.out[n][2] = rows.out[n][3] = 0.0f;
}

// Products with COUNT slices of 16 keys, the first of them `slice`.
template <int COUNT>
__device__ __forceinline__ void score(float (&scores)[2 * COUNT][4], const Rows& rows, Element* keys, int slice) {
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int s = 0; s < COUNT; ++s) {
        float(&left)[4] = scores[2 * s];
        float(&right)[4] = scores[2 * s + 1];
#pragma unroll
        for (int i = 0; i < 4; ++i) left[i] = right[i] = 0.0f;
        const int key = (slice + s) * 16 + lane / 16 * 8 + lane % 8;
#pragma unroll
        for (int k = 0; k < HEAD_DIM / 16; ++k) {
            unsigned b[4];
            load_matrices(b, chunk_address(keys, key, 2 * k + lane / 8 % 2));
            multiply_add(left, rows.query[k], b[0], b[1]);
            multiply_add(right, rows.query[k], b[2], b[3]);
        }
    }
}

// Scores become weights against the rows' new maxima; earlier outputs and sums follow.
template <int COUNT>
__device__ __forceinline__ void soften(float (&scores)[2 * COUNT][4], Rows& rows, int first_key) {
    const int pair = threadIdx.x % 4 * 2;
    float top[2] = {rows.top[0], rows.top[1]}, sum[2] = {0.0f, 0.0f};
#pragma unroll
    for (int n = 0; n < 2 * COUNT; ++n) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            const bool seen = sees(rows.position[i / 2], first_key + 8 * n + pair + i % 2);
            scores[n][i] = seen ? log2_score(scores[n][i]) : minus_infinity();
            top[i / 2] = fmaxf(top[i / 2], scores[n][i]);
        }
    }
#pragma unroll
    for (int side = 0; side < 2; ++side) {
        top[side] = fmaxf(top[side], __shfl_xor_sync(0xffffffffu, top[side], 1));
        top[side] = fmaxf(top[side], __shfl_xor_sync(0xffffffffu, top[side], 2));
    }
    // NOTE: -inf - -inf is NaN: a row that saw nothing is measured from 0.
    const float base[2] = {top[0] == minus_infinity() ? 0.0f : top[0], top[1] == minus_infinity() ? 0.0f : top[1]};
#pragma unroll
    for (int n = 0; n < 2 * COUNT; ++n) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            scores[n][i] = fast_exp2(scores[n][i] - base[i / 2]);
            sum[i / 2] += scores[n][i];
        }
    }
    float factor[2];
#pragma unroll
    for (int side = 0; side < 2; ++side) {
        sum[side] += __shfl_xor_sync(0xffffffffu, sum[side], 1);
        sum[side] += __shfl_xor_sync(0xffffffffu, sum[side], 2);
        factor[side] = fast_exp2(rows.top[side] - base[side]);
        rows.sum[side] = rows.sum[side] * factor[side] + sum[side];
        rows.top[side] = top[side];
    }
#pragma unroll
    for (int n = 0; n < HEAD_DIM / 8; ++n) {
#pragma unroll
        for (int i = 0; i < 4; ++i) rows.out[n][i] *= factor[i / 2];
    }
}

template <int COUNT>
__device__ __forceinline__ void mix(Rows& rows, const float (&weights)[2 * COUNT][4], Element* values, int slice) {
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int s = 0; s < COUNT; ++s) {
        const float(&left)[4] = weights[2 * s];
        const float(&right)[4] = weights[2 * s + 1];
        const unsigned a[4] = {pack(left[0], left[1]), pack(left[2], left[3]), pack(right[0], right[1]),
                               pack(right[2], right[3])};
        const int key = (slice + s) * 16 + lane / 8 % 2 * 8 + lane % 8;
#pragma unroll
        for (int n = 0; n < HEAD_DIM / 16; ++n) {
            unsigned b[4];
            load_matrices_transposed(b, chunk_address(values, key, 2 * n + lane / 16));
            multiply_add(rows.out[2 * n], a, b[0], b[1]);
            multiply_add(rows.out[2 * n + 1], a, b[2], b[3]);
        }
    }
}

// Runs over the block's keys: the next keys are copied while values are mixed, the values while keys are scored.
template <int COUNT>
__device__ __forceinline__ void attend(Rows& rows, const Work& work, const Pools& pools, Element* keys, Element* values,
                                       int slice, bool active) {
    load_tile(keys, pools.keys, pools, work, work.tile_begin);
    for (int tile = work.tile_begin; tile < work.tile_end; ++tile) {
        float scores[2 * COUNT][4];
        wait_for_copies();
        __syncthreads();
        load_tile(values, pools.values, pools, work, tile);
        if (active) {
            score<COUNT>(scores, rows, keys, slice);
            soften<COUNT>(scores, rows, tile * KEYS + slice * 16);
        }
        wait_for_copies();
        __syncthreads();
        if (tile + 1 < work.tile_end) load_tile(keys, pools.keys, pools, work, tile + 1);
        if (active) mix<COUNT>(rows, scores, values, slice);
    }
}

__device__ __forceinline__ void emit_rows(const Rows& rows, const Work& work, int first, Element* out, float* scratch) {
    const int group = threadIdx.x % 32 / 4, pair = threadIdx.x % 4 * 2;
#pragma unroll
    for (int side = 0; side < 2; ++side) {
        const int row = first + group + 8 * side;
        if (row >= work.rows) continue;
#pragma unroll
        for (int n = 0; n < HEAD_DIM / 8; ++n) {
            emit(work, row, 8 * n + pair, rows.out[n][2 * side], rows.out[n][2 * side + 1], rows.top[side],
                 rows.sum[side], out, scratch);
        }
    }
}

// Every warp saw other keys of the same rows. `merged` is shared memory for WARPS * 16 * HEAD_DIM floats.
__device__ __forceinline__ void emit_merged(const Rows& rows, const Work& work, Element* out, float* scratch,
                                            float* merged) {
    __shared__ float tops[WARPS][16], sums[WARPS][16];
    const int warp = threadIdx.x / 32, group = threadIdx.x % 32 / 4, pair = threadIdx.x % 4 * 2;
    __syncthreads();
#pragma unroll
    for (int side = 0; side < 2; ++side) {
        const int row = group + 8 * side;
        tops[warp][row] = rows.top[side];
        sums[warp][row] = rows.sum[side];
        float* to = merged + (warp * 16 + row) * HEAD_DIM + pair;
#pragma unroll
        for (int n = 0; n < HEAD_DIM / 8; ++n) {
            to[8 * n] = rows.out[n][2 * side];
            to[8 * n + 1] = rows.out[n][2 * side + 1];
        }
    }
    __syncthreads();
    for (int i = threadIdx.x; i < work.rows * (HEAD_DIM / 2); i += 32 * WARPS) {
        const int row = i / (HEAD_DIM / 2), column = i % (HEAD_DIM / 2) * 2;
        float top = minus_infinity(), sum = 0.0f, low = 0.0f, high = 0.0f;
        for (int w = 0; w < WARPS; ++w) top = fmaxf(top, tops[w][row]);
        for (int w = 0; w < WARPS; ++w) {
            const float factor = fast_exp2(tops[w][row] - top);
            const float* from = merged + (w * 16 + row) * HEAD_DIM + column;
            sum += factor * sums[w][row];
            low += factor * from[0];
            high += factor * from[1];
        }
        emit(work, row, column, low, high, top, sum, out, scratch);
    }
}

extern "C" __global__ void __launch_bounds__(32 * WARPS, 3)
    paged_attention(const Element* queries, const Element* k_cache, const Element* v_cache, const int* cu_seqlens,
                    const int* past_lens, const int* block_table, const float*, int sequences, int max_blocks,
                    int blocks, int tokens, Element* out, float* scratch) {
    extern __shared__ __align__(128) unsigned char memory[];
    const Sizes sizes = {sequences, max_blocks, blocks, tokens};
    Work work;
    if (!find_work(work, cu_seqlens, past_lens, sizes)) return;
    Element* keys = reinterpret_cast<Element*>(memory);
    Element* values = keys + KEYS * STRIDE;
    const Pools pools = {k_cache, v_cache, block_table, sizes};
    const int warp = threadIdx.x / 32;
    Rows rows;
    if (work.rows > 16) {
        load_rows(rows, work, queries, warp * 16);
        attend<SLICES>(rows, work, pools, keys, values, 0, warp * 16 < work.rows);
        emit_rows(rows, work, warp * 16, out, scratch);
        __syncthreads();
    } else {
        load_rows(rows, work, queries, 0);
        attend<1>(rows, work, pools, keys, values, warp, true);
        emit_merged(rows, work, out, scratch, reinterpret_cast<float*>(memory));
    }
    combine_parts(work, out, scratch, reinterpret_cast<float*>(memory));
}
