// Barriers, votes, shuffles and atomics. A warp exchanges values through a buffer between two barriers.
#pragma once

#include "fibers.h"
#include "numbers.h"

inline void __syncthreads() { cuda_host::block_barrier(); }
inline void __syncwarp(unsigned mask = 0xffffffffu) { cuda_host::warp_barrier(mask); }
inline void __threadfence() {}
inline void __threadfence_block() {}
inline void __threadfence_system() {}
inline unsigned __activemask() { return cuda_host::warp().alive; }

namespace cuda_host {

// The value that each lane of the warp gave; a lane that took no part has what lay there before.
template <class T>
struct Exchange {
    unsigned mask;
    Exchange(unsigned mask_, T value) : mask(mask_) {
        static_assert(sizeof(T) <= sizeof(Warp::exchange[0]), "too wide for a shuffle");
        std::memcpy(warp().exchange[lane()], &value, sizeof value);
        warp_barrier(mask);
    }
    T from(unsigned source) const {
        T out;
        std::memcpy(&out, warp().exchange[source % 32], sizeof out);
        return out;
    }
    // NOTE: called when all is read: the next exchange overwrites the buffer.
    void close() const { warp_barrier(mask); }
};

template <class T>
T shuffle(unsigned mask, T value, unsigned source) {
    const Exchange<T> exchange(mask, value);
    if (source != lane() && !(mask >> source & 1)) fail("a shuffle reads a lane outside its mask");
    const T out = exchange.from(source);
    exchange.close();
    return out;
}

template <class T, class F>
T reduce(unsigned mask, T value, F combine) {
    const Exchange<T> exchange(mask, value);
    T out{};
    bool first = true;
    for (unsigned i = 0; i < 32; ++i) {
        if (!(mask & warp().alive & (1u << i))) continue;
        out = first ? exchange.from(i) : combine(out, exchange.from(i));
        first = false;
    }
    exchange.close();
    return out;
}

inline void block_vote(int predicate, int* sum, int* all) {
    const int turn = vote_turn;
    vote_sum[turn] += predicate != 0;
    vote_all[turn] = vote_all[turn] && predicate;
    block_barrier();
    *sum = vote_sum[turn];
    *all = vote_all[turn];
    block_barrier();
    vote_turn = 1 - turn;
    vote_sum[vote_turn] = 0;
    vote_all[vote_turn] = 1;
    block_barrier();
}

}  // namespace cuda_host

template <class T>
T __shfl_sync(unsigned mask, T value, int source, int width = 32) {
    const unsigned own = cuda_host::lane();
    return cuda_host::shuffle(mask, value, (own & ~(width - 1)) | (source & (width - 1)));
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32) {
    const unsigned own = cuda_host::lane(), inside = own & (width - 1);
    return cuda_host::shuffle(mask, value, inside >= delta ? own - delta : own);
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32) {
    const unsigned own = cuda_host::lane(), inside = own & (width - 1);
    return cuda_host::shuffle(mask, value, inside + delta < static_cast<unsigned>(width) ? own + delta : own);
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int flips, int width = 32) {
    const unsigned own = cuda_host::lane(), source = own ^ flips;
    return cuda_host::shuffle(mask, value, source / width == own / width ? source : own);
}
inline unsigned __ballot_sync(unsigned mask, int predicate) {
    const unsigned bit = predicate ? 1u << cuda_host::lane() : 0;
    return cuda_host::reduce(mask, bit, [](unsigned a, unsigned b) { return a | b; });
}
inline int __any_sync(unsigned mask, int predicate) { return __ballot_sync(mask, predicate) != 0; }
inline int __all_sync(unsigned mask, int predicate) { return __ballot_sync(mask, !predicate) == 0; }
template <class T>
T __reduce_add_sync(unsigned mask, T value) {
    return cuda_host::reduce(mask, value, [](T a, T b) { return a + b; });
}
template <class T>
T __reduce_max_sync(unsigned mask, T value) {
    return cuda_host::reduce(mask, value, [](T a, T b) { return a < b ? b : a; });
}
template <class T>
T __reduce_min_sync(unsigned mask, T value) {
    return cuda_host::reduce(mask, value, [](T a, T b) { return b < a ? b : a; });
}
template <class T>
unsigned __match_any_sync(unsigned mask, T value) {
    const cuda_host::Exchange<T> exchange(mask, value);
    unsigned out = 0;
    for (unsigned i = 0; i < 32; ++i) {
        if ((mask & cuda_host::warp().alive & (1u << i)) && exchange.from(i) == value) out |= 1u << i;
    }
    exchange.close();
    return out;
}

inline int __syncthreads_count(int predicate) {
    int sum, all;
    cuda_host::block_vote(predicate, &sum, &all);
    return sum;
}
inline int __syncthreads_or(int predicate) { return __syncthreads_count(predicate) != 0; }
inline int __syncthreads_and(int predicate) {
    int sum, all;
    cuda_host::block_vote(predicate, &sum, &all);
    return all;
}

template <class T>
struct CudaHostSame {
    using type = T;
};
#define CUDA_HOST_ATOMIC(name, expression)                        \
    template <class T>                                            \
    T name(T* address, typename CudaHostSame<T>::type value) {    \
        const T old = *address;                                   \
        *address = expression;                                    \
        return old;                                               \
    }
CUDA_HOST_ATOMIC(atomicAdd, old + value)
CUDA_HOST_ATOMIC(atomicSub, old - value)
CUDA_HOST_ATOMIC(atomicMax, old < value ? value : old)
CUDA_HOST_ATOMIC(atomicMin, value < old ? value : old)
CUDA_HOST_ATOMIC(atomicExch, value)
CUDA_HOST_ATOMIC(atomicOr, old | value)
CUDA_HOST_ATOMIC(atomicAnd, old & value)
CUDA_HOST_ATOMIC(atomicXor, old ^ value)
CUDA_HOST_ATOMIC(atomicInc, old >= value ? 0 : old + 1)
#undef CUDA_HOST_ATOMIC
template <class T>
T atomicCAS(T* address, typename CudaHostSame<T>::type expected, typename CudaHostSame<T>::type value) {
    const T old = *address;
    if (old == expected) *address = value;
    return old;
}
