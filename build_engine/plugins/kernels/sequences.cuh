// The step contract's sequences: cu_seqlens [B + 1], past_lens [B], block_table [B, M] with -1 past the end.
#pragma once

// The sequence whose range of `starts` holds `index`, where start(b) = cu_seqlens[b] * scale / unit + b * padding
// never falls. Sequences without tokens are passed over unless they are padded.
__device__ __forceinline__ int find_sequence(const int* cu_seqlens, int sequences, int index, int scale, int unit,
                                             int padding) {
    int low = 0, high = sequences;
    while (high - low > 1) {
        const int middle = (low + high) / 2;
        if (cu_seqlens[middle] * scale / unit + middle * padding <= index) low = middle;
        else high = middle;
    }
    return low;
}
