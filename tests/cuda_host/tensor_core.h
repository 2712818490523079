// Tensor-core instructions of sm_80 with the fragment layouts of the PTX manual ("Matrix multiply-accumulate
// operation using mma instruction", shape .m16n8k16; "ldmatrix"). With g = lane / 4 and t = lane % 4:
//   A (16x16): a0 = A[g][2t..], a1 = A[g+8][2t..], a2 = A[g][2t+8..], a3 = A[g+8][2t+8..], two elements a register
//   B (16x8):  b0 = B[2t..][g], b1 = B[2t+8..][g]
//   C (16x8):  c0, c1 = C[g][2t..], c2, c3 = C[g+8][2t..]
#pragma once

#include "warp.h"

namespace cuda_host {

inline float low_half(unsigned pair, bool bfloat16) {
    return bfloat16 ? bfloat16_to_float(pair & 0xffff) : half_to_float(pair & 0xffff);
}
inline float element(unsigned pair, unsigned index, bool bfloat16) {
    return low_half(index & 1 ? pair >> 16 : pair, bfloat16);
}

struct Fragments {
    unsigned a[4], b[2];
};

// c += A B, products and sums in float32 (a GPU's order of summation is not documented).
inline void mma_m16n8k16(float (&c)[4], const unsigned (&a)[4], const unsigned (&b)[2], bool bfloat16) {
    const Exchange<Fragments> exchange(0xffffffffu, {{a[0], a[1], a[2], a[3]}, {b[0], b[1]}});
    const unsigned group = lane() / 4, column = lane() % 4 * 2;
    for (unsigned i = 0; i < 4; ++i) {
        const unsigned row_half = i / 2, n = column + i % 2;
        float sum = c[i];
        for (unsigned k = 0; k < 16; ++k) {
            const unsigned owner = k % 8 / 2, k_half = k / 8;
            const unsigned left = exchange.from(group * 4 + owner).a[row_half + 2 * k_half];
            const unsigned right = exchange.from(n * 4 + owner).b[k_half];
            sum += element(left, k, bfloat16) * element(right, k, bfloat16);
        }
        c[i] = sum;
    }
    exchange.close();
}

// ldmatrix.sync.aligned.m8n8.x4[.trans].shared.b16: lanes 8i..8i+7 give the addresses of the rows of matrix i, each
// 16 bytes and so aligned. Register i of a lane is M_i[g][2t..], transposed M_i[2t..][g].
inline void ldmatrix_x4(unsigned (&out)[4], const void* row, bool transposed) {
    if (reinterpret_cast<uintptr_t>(row) % 16) fail("ldmatrix of a row that is not aligned to 16 bytes");
    const Exchange<const void*> exchange(0xffffffffu, row);
    const unsigned group = lane() / 4, pair = lane() % 4 * 2;
    for (unsigned i = 0; i < 4; ++i) {
        uint16_t low, high;
        const auto read = [&](unsigned r, unsigned c, uint16_t* to) {
            std::memcpy(to, static_cast<const unsigned char*>(exchange.from(8 * i + r)) + 2 * c, 2);
        };
        if (transposed) {
            read(pair, group, &low);
            read(pair + 1, group, &high);
        } else {
            read(group, pair, &low);
            read(group, pair + 1, &high);
        }
        out[i] = low | static_cast<unsigned>(high) << 16;
    }
    exchange.close();
}

// cp.async.cg.shared.global of 16 bytes, the first `bytes` from `source` and the rest zeros. Nothing is copied before
// the same thread waits: what is read too early is old.
inline void copy_async_16(void* shared, const void* source, unsigned bytes) {
    if (reinterpret_cast<uintptr_t>(shared) % 16) fail("cp.async to an address that is not aligned to 16 bytes");
    if (bytes && reinterpret_cast<uintptr_t>(source) % 16) fail("cp.async from an address not aligned to 16 bytes");
    Fiber& self = fibers[current];
    if (self.copies == kMaxCopies) fail("more cp.async without a wait than the host has room for");
    self.pending[self.copies++] = {shared, source, bytes};
}

// cp.async.wait_all.
inline void wait_copies() {
    Fiber& self = fibers[current];
    for (unsigned i = 0; i < self.copies; ++i) {
        const Copy& copy = self.pending[i];
        std::memset(copy.to, 0, 16);
        if (copy.bytes) std::memcpy(copy.to, copy.from, copy.bytes);
    }
    self.copies = 0;
}

}  // namespace cuda_host
