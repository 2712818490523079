// Top-p and top-k without a sort, and the draw among what they leave.
//
// Tokens rank by falling logit, equal logits by rising id. Those that may be drawn are the first so many of that
// order, so that one logit and a number of its ties tell them. That logit is found digit by digit, as radix selection
// does: a histogram of counts and masses over 1024 bins, the bin where a limit is crossed, and again inside it. The
// first digit is the distance from the best logit, which spreads real logits evenly; the others are of its bits.
#pragma once

#include "distribution.cuh"

constexpr int kBins = 1024;

struct Limits {
    u32 ranks;  // top-k
    u64 mass;   // a token goes when the mass before it is more
};

// Which tokens may be drawn: those with a greater key, and the first `ties` (by id) of those with this one.
struct Cut {
    u32 key, ties;
    u64 tie_mass;  // of one tie
    u64 mass;      // of all that may be drawn
};

// Where a limit is crossed: a bin, and the tokens before it.
struct Place {
    u32 bin, count;
    u64 mass;
};

// NOTE: 64-bit sums in two halves: shared memory has native atomics for 32 bits only, and few masses need the upper.
struct Histogram {
    u32 count[kBins], low[kBins], high[kBins];

    __device__ void clear() {
        __syncthreads();
        for (int bin = threadIdx.x; bin < kBins; bin += blockDim.x) count[bin] = low[bin] = high[bin] = 0;
        __syncthreads();
    }
    __device__ void add(u32 bin, u64 mass) {
        atomicAdd(&count[bin], 1u);
        const u32 lower = static_cast<u32>(mass);
        const u32 carry = atomicAdd(&low[bin], lower) + lower < lower;
        const u32 upper = static_cast<u32>(mass >> 32) + carry;
        if (upper) atomicAdd(&high[bin], upper);
    }
    __device__ u64 mass(u32 bin) const { return static_cast<u64>(high[bin]) << 32 | low[bin]; }
};

// Moves `at` to the first bin that crosses a limit; false where none does.
__device__ inline bool cross(const Histogram& bins, const Limits& limits, Place& at) {
    __shared__ Place found;
    __shared__ bool crossed;
    __syncthreads();
    if (threadIdx.x < kWarp) {
        const u32 lane = threadIdx.x;
        u32 count = at.count, over = 0;
        u64 mass = at.mass;
        for (u32 first = 0; first < kBins && !over; first += kWarp) {
            const u32 own_count = bins.count[first + lane];
            const u64 own_mass = bins.mass(first + lane);
            const u32 to_count = count + warp_inclusive_sum(own_count);
            const u64 to_mass = mass + warp_inclusive_sum(own_mass);
            over = __ballot_sync(kAllLanes, to_count > limits.ranks || to_mass > limits.mass);
            if (over && lane == __ffs(over) - 1) found = {first + lane, to_count - own_count, to_mass - own_mass};
            count = __shfl_sync(kAllLanes, to_count, kWarp - 1);
            mass = __shfl_sync(kAllLanes, to_mass, kWarp - 1);
        }
        if (lane == 0) crossed = over != 0;
    }
    __syncthreads();
    const bool result = crossed;
    if (result) at = found;
    return result;
}

// The first digit: how far a logit is below the best.
struct Distance {
    float best, scale;

    __device__ explicit Distance(const Extremes& row) : best(row.best) {
        const float reach = fminf(row.best - row.lowest, kReach);
        scale = reach > 1e-20f ? kBins / reach : 0.0f;
    }
    __device__ u32 bin(float z) const { return Min()(static_cast<u32>((best - z) * scale), kBins - 1u); }
};

// Calls `visit(key, mass)` for each token of a bin of distances that has any mass.
template <class Visit>
__device__ void visit_bin(const float* z, int vocab, const Distance& distance, u32 bin, Visit visit) {
    for (int i = threadIdx.x; i < vocab; i += blockDim.x) {
        const float value = z[i];
        if (!(distance.best - value <= kReach) || distance.bin(value) != bin) continue;
        const u64 mass = mass_of(value, distance.best);
        if (mass) visit(ordered(value), mass);
    }
}

__device__ inline Cut select(const float* z, int vocab, const Extremes& row, const Limits& limits, u64 total) {
    __shared__ Histogram bins;
    const Distance distance(row);
    bins.clear();
    for (int i = threadIdx.x; i < vocab; i += blockDim.x) {
        const u64 mass = mass_of(z[i], row.best);
        if (mass) bins.add(distance.bin(z[i]), mass);
    }
    Place at = {0, 0, 0};
    if (!cross(bins, limits, at)) return {0, 0, 0, total};
    const u32 chosen = at.bin;
    u32 low = 0xffffffffu, high = 0;
    visit_bin(z, vocab, distance, chosen, [&](u32 key, u64) {
        low = Min()(low, key);
        high = Max()(high, key);
    });
    low = block_reduce(low, Min());
    high = block_reduce(high, Max());
    for (u32 width = 0; width != 1;) {
        width = (high - low) / kBins + 1;
        bins.clear();
        visit_bin(z, vocab, distance, chosen, [&](u32 key, u64 mass) {
            if (low <= key && key <= high) bins.add((high - key) / width, mass);
        });
        cross(bins, limits, at);
        high -= at.bin * width;
        low = Max()(low, high - Min()(high, width - 1));
    }
    const u32 equals = bins.count[at.bin];
    const u64 tie_mass = bins.mass(at.bin) / equals;
    const u64 within = Min()(static_cast<u64>(limits.ranks - at.count), (limits.mass - at.mass) / tie_mass + 1);
    const u32 ties = static_cast<u32>(Min()(static_cast<u64>(equals), within));
    return {high, ties, tie_mass, at.mass + ties * tie_mass};
}

// The token, in order of ids, at which the mass of those that may be drawn first exceeds `target`.
__device__ inline int pick(const float* z, int vocab, float best, const Cut& cut, u64 target) {
    __shared__ u64 masses[kWarp];
    __shared__ u32 equals[kWarp];
    const u32 warps = blockDim.x / kWarp, warp = threadIdx.x / kWarp;
    u32 ties = cut.ties;
    int low = 0, high = vocab;
    while (high - low > 1) {
        const int piece = (high - low + warps - 1) / warps;
        const int first = low + warp * piece, end = Min()(first + piece, high);
        u64 mass = 0;
        u32 equal = 0;
        for (int i = first + threadIdx.x % kWarp; i < end; i += kWarp) {
            const u32 key = ordered(z[i]);
            if (key > cut.key) mass += mass_of(z[i], best);
            equal += key == cut.key;
        }
        mass = warp_reduce(mass, Sum());
        equal = warp_reduce(equal, Sum());
        if (threadIdx.x % kWarp == 0) {
            masses[warp] = mass;
            equals[warp] = equal;
        }
        __syncthreads();
        u32 part = 0;
        for (; part + 1 < warps; ++part) {
            const u32 kept = Min()(equals[part], ties);
            const u64 inside = masses[part] + kept * cut.tie_mass;
            if (target < inside) break;
            target -= inside;
            ties -= kept;
        }
        low += part * piece;
        high = Min()(low + piece, high);
        __syncthreads();
    }
    return low;
}
