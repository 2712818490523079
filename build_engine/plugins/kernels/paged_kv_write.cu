// Per-head RMSNorm (optional) and rotary embedding of packed Q, K, V; K and V go to the paged pools.
//
// qkv [T, (Q_HEADS + 2 KV_HEADS) * HEAD_DIM]; pools [blocks, KV_HEADS, BLOCK_SIZE, HEAD_DIM]; cos, sin float32
// [positions, ROTARY_DIM / 2]; queries out [T, Q_HEADS, HEAD_DIM], times Q_SCALE. A warp takes one head of one token.
// Rows behind cu_seqlens[B], blocks of -1 and whatever lies outside the buffers are left alone: TensorRT may time a
// plugin on arbitrary integers.
//
// Macros: ELEMENT_BF16, Q_HEADS, KV_HEADS, HEAD_DIM, BLOCK_SIZE, ROTARY_DIM, Q_SCALE, QK_NORM, NORM_EPS, WARPS.
#include "element.cuh"
#include "sequences.cuh"

#define HALF (ROTARY_DIM / 2)
#define PER_LANE ((HEAD_DIM + 63) / 64)

// A head's elements 2 * (lane + 32 i) and the one after it, normalised.
__device__ __forceinline__ void load_head(float2 (&x)[PER_LANE], const Element* head, const float* gain) {
    const unsigned* pairs = reinterpret_cast<const unsigned*>(head);
    const int lane = threadIdx.x % 32;
    float squares = 0.0f;
#pragma unroll
    for (int i = 0; i < PER_LANE; ++i) {
        const int pair = lane + 32 * i;
        x[i] = 2 * pair < HEAD_DIM ? unpack(pairs[pair]) : make_float2(0.0f, 0.0f);
        squares += x[i].x * x[i].x + x[i].y * x[i].y;
    }
    if (gain == nullptr) return;
#pragma unroll
    for (int flip = 16; flip; flip /= 2) squares += __shfl_xor_sync(0xffffffffu, squares, flip);
    const float factor = 1.0f / sqrtf(squares / HEAD_DIM + NORM_EPS);
#pragma unroll
    for (int i = 0; i < PER_LANE; ++i) {
        const int element = 2 * (lane + 32 * i);
        if (element >= HEAD_DIM) continue;
        x[i].x *= factor * gain[element];
        x[i].y *= factor * gain[element + 1];
    }
}

// `row` is the warp's own shared memory: pairs (i, i + HALF) meet there.
__device__ __forceinline__ float rotated(const float* row, int element, const float* cos, const float* sin) {
    if (element < HALF) return row[element] * cos[element] - row[element + HALF] * sin[element];
    if (element < 2 * HALF) {
        return row[element] * cos[element - HALF] + row[element - HALF] * sin[element - HALF];
    }
    return row[element];
}

__device__ __forceinline__ void store_head(Element* to, const float2 (&x)[PER_LANE], float factor) {
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int i = 0; i < PER_LANE; ++i) {
        const int pair = lane + 32 * i;
        if (2 * pair < HEAD_DIM) reinterpret_cast<unsigned*>(to)[pair] = pack(x[i].x * factor, x[i].y * factor);
    }
}

extern "C" __global__ void __launch_bounds__(32 * WARPS)
    paged_kv_write(const Element* qkv, const Element*, const Element*, const int* cu_seqlens, const int* past_lens,
                   const int* block_table, const float* cos, const float* sin,
#if QK_NORM
                   const float* q_norm, const float* k_norm,
#endif
                   int sequences, int max_blocks, int blocks, int positions, Element* queries, Element* k_cache,
                   Element* v_cache) {
    __shared__ float rows[WARPS][HEAD_DIM];
    const int token = blockIdx.x, warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const int head = blockIdx.y * WARPS + warp;
    if (token >= cu_seqlens[sequences] || head >= Q_HEADS + 2 * KV_HEADS) return;
    const int sequence = find_sequence(cu_seqlens, sequences, token, 1, 1, 0);
    const int position = past_lens[sequence] + token - cu_seqlens[sequence];
    if (position < 0 || position >= positions || position / BLOCK_SIZE >= max_blocks) return;
    const bool is_query = head < Q_HEADS, is_value = head >= Q_HEADS + KV_HEADS;
    const float* gain = nullptr;
#if QK_NORM
    if (!is_value) gain = is_query ? q_norm : k_norm;
#endif
    float2 x[PER_LANE];
    load_head(x, qkv + (static_cast<long long>(token) * (Q_HEADS + 2 * KV_HEADS) + head) * HEAD_DIM, gain);
    if (!is_value) {
        float* row = rows[warp];
#pragma unroll
        for (int i = 0; i < PER_LANE; ++i) {
            const int element = 2 * (lane + 32 * i);
            if (element < HEAD_DIM) row[element] = x[i].x, row[element + 1] = x[i].y;
        }
        __syncwarp();
        const long long table = static_cast<long long>(position) * HALF;
#pragma unroll
        for (int i = 0; i < PER_LANE; ++i) {
            const int element = 2 * (lane + 32 * i);
            if (element >= HEAD_DIM) continue;
            x[i].x = rotated(row, element, cos + table, sin + table);
            x[i].y = rotated(row, element + 1, cos + table, sin + table);
        }
    }
    if (is_query) {
        store_head(queries + (static_cast<long long>(token) * Q_HEADS + head) * HEAD_DIM, x, Q_SCALE);
        return;
    }
    const int block = block_table[static_cast<long long>(sequence) * max_blocks + position / BLOCK_SIZE];
    if (block < 0 || block >= blocks) return;
    const int kv_head = head - Q_HEADS - (is_value ? KV_HEADS : 0);
    const long long slot = (static_cast<long long>(block) * KV_HEADS + kv_head) * BLOCK_SIZE + position % BLOCK_SIZE;
    store_head((is_value ? v_cache : k_cache) + slot * HEAD_DIM, x, 1.0f);
}
