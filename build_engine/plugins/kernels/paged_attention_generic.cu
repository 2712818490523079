// Paged attention for every even head size, without tensor cores. Arguments as in paged_attention_tensor.cu.
//
// Warp w takes the rows w, w + WARPS, ...; scores: a lane for each of the 32 keys of a tile; output: a lane for each
// pair of elements. Keys are staged in shared memory, values are read where they lie.
#include "attention_work.cuh"

#define WARPS 4
#define ROWS_PER_WARP (ROWS / WARPS)
#define PAIRS ((HEAD_DIM + 63) / 64)                          // of a lane
#define KEY_STRIDE (HEAD_DIM + (HEAD_DIM / 2 % 2 ? 4 : 2))  // an odd number of words: no bank conflicts

static_assert(KEYS == 32 && ROWS % WARPS == 0 && HEAD_DIM % 2 == 0, "a lane for each key, pairs of elements");

struct Row {
    float out[PAIRS][2];
    float top, sum, weight;
};

__device__ __forceinline__ void load_queries(float* to, const Work& work, const Element* queries) {
    for (int i = threadIdx.x; i < work.rows * HEAD_DIM; i += 32 * WARPS) {
        to[i] = to_float(queries[work.query(i / HEAD_DIM) + i % HEAD_DIM]);
    }
}

__device__ __forceinline__ void load_keys(unsigned* to, const Element* pool, const Work& work, const int* block_table,
                                          const Sizes& sizes, int tile) {
    for (int key = threadIdx.x / 32; key < KEYS; key += WARPS) {
        const long long from = cache_row(work, block_table, sizes, tile * KEYS + key);
        const unsigned* row = reinterpret_cast<const unsigned*>(pool + (from < 0 ? 0 : from));
        for (int pair = threadIdx.x % 32; pair < HEAD_DIM / 2; pair += 32) {
            to[key * (KEY_STRIDE / 2) + pair] = from < 0 ? 0 : row[pair];
        }
    }
}

// The lane's key against one row: its weight, and the row's new maximum and sum.
__device__ __forceinline__ void score(Row& row, const float* query, const unsigned* keys, int position, int key) {
    const unsigned* own = keys + threadIdx.x % 32 * (KEY_STRIDE / 2);
    float product = 0.0f;
    for (int pair = 0; pair < HEAD_DIM / 2; ++pair) {
        const float2 k = unpack(own[pair]);
        product += query[2 * pair] * k.x + query[2 * pair + 1] * k.y;
    }
    const float value = sees(position, key) ? log2_score(product) : minus_infinity();
    float top = fmaxf(row.top, value);
#pragma unroll
    for (int flip = 16; flip; flip /= 2) top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, flip));
    const float base = top == minus_infinity() ? 0.0f : top;
    row.weight = fast_exp2(value - base);
    float sum = row.weight;
#pragma unroll
    for (int flip = 16; flip; flip /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, flip);
    const float factor = fast_exp2(row.top - base);
    row.sum = row.sum * factor + sum;
    row.top = top;
#pragma unroll
    for (int i = 0; i < PAIRS; ++i) row.out[i][0] *= factor, row.out[i][1] *= factor;
}

__device__ __forceinline__ void mix(Row (&rows)[ROWS_PER_WARP], const unsigned* values, int key) {
    const int lane = threadIdx.x % 32;
    float weights[ROWS_PER_WARP];
#pragma unroll
    for (int r = 0; r < ROWS_PER_WARP; ++r) weights[r] = __shfl_sync(0xffffffffu, rows[r].weight, key);
#pragma unroll
    for (int i = 0; i < PAIRS; ++i) {
        if (lane + 32 * i >= HEAD_DIM / 2) continue;
        const float2 v = unpack(values[lane + 32 * i]);
#pragma unroll
        for (int r = 0; r < ROWS_PER_WARP; ++r) {
            rows[r].out[i][0] += weights[r] * v.x;
            rows[r].out[i][1] += weights[r] * v.y;
        }
    }
}

extern "C" __global__ void __launch_bounds__(32 * WARPS)
    paged_attention(const Element* queries, const Element* k_cache, const Element* v_cache, const int* cu_seqlens,
                    const int* past_lens, const int* block_table, const float*, int sequences, int max_blocks,
                    int blocks, int tokens, Element* out, float* scratch) {
    extern __shared__ __align__(128) unsigned char memory[];
    const Sizes sizes = {sequences, max_blocks, blocks, tokens};
    Work work;
    if (!find_work(work, cu_seqlens, past_lens, sizes)) return;
    float* query_rows = reinterpret_cast<float*>(memory);
    unsigned* keys = reinterpret_cast<unsigned*>(query_rows + ROWS * HEAD_DIM);
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    load_queries(query_rows, work, queries);
    Row rows[ROWS_PER_WARP];
#pragma unroll
    for (int r = 0; r < ROWS_PER_WARP; ++r) {
        rows[r].top = minus_infinity();
        rows[r].sum = rows[r].weight = 0.0f;
#pragma unroll
        for (int i = 0; i < PAIRS; ++i) rows[r].out[i][0] = rows[r].out[i][1] = 0.0f;
    }
    for (int tile = work.tile_begin; tile < work.tile_end; ++tile) {
        __syncthreads();
        load_keys(keys, k_cache, work, block_table, sizes, tile);
        __syncthreads();
        if (warp >= work.rows) continue;
#pragma unroll
        for (int r = 0; r < ROWS_PER_WARP; ++r) {
            const int row = r * WARPS + warp;
            if (row < work.rows) {
                score(rows[r], query_rows + row * HEAD_DIM, keys, work.position(row), tile * KEYS + lane);
            }
        }
        for (int key = 0; key < KEYS; ++key) {
            const long long from = cache_row(work, block_table, sizes, tile * KEYS + key);
            if (from >= 0) mix(rows, reinterpret_cast<const unsigned*>(v_cache + from), key);
        }
    }
#pragma unroll
    for (int r = 0; r < ROWS_PER_WARP; ++r) {
        const int row = r * WARPS + warp;
        if (row >= work.rows) continue;
#pragma unroll
        for (int i = 0; i < PAIRS; ++i) {
            const int column = 2 * (lane + 32 * i);
            if (column < HEAD_DIM) {
                emit(work, row, column, rows[r].out[i][0], rows[r].out[i][1], rows[r].top, rows[r].sum, out, scratch);
            }
        }
    }
    __syncthreads();
    combine_parts(work, out, scratch, reinterpret_cast<float*>(memory));
}
