// One row of logits to one token, one block a row: LightLLM's pipeline as runtime/sampling/reference.py spells it out.
//
// Blocks have a multiple of 32 threads, 64 at least. The structures are packed by runtime/cuda/row_parameters.py.

#include "distribution.cuh"
#include "philox.cuh"
#include "selection.cuh"

// What a row keeps while it lives.
struct Row {
    u64 seed;
    double frequency, top_p;
    float temperature, repetition, presence;
    int top_k;
    u32 sample, flags;
};
static_assert(sizeof(Row) == 48, "as row_parameters.py packs it");

// A row of this step; a negative one is passed over.
struct Step {
    int row, place;  // of the row's state; of its logits
    u32 generated;   // output tokens so far
    float growth;    // of EOS, by the length decay
    u32 flags;
};
static_assert(sizeof(Step) == 20, "as row_parameters.py packs it");

struct Draw {
    int token;  // -1: the logits are not finite
    float logprob;
};

// Row flags.
constexpr u32 kPenalised = 1, kConstrained = 2, kGreedy = 4, kFiltered = 8;
// Step flags.
constexpr u32 kDecays = 1, kMasksEos = 2;

constexpr float kForbidden = -1e9f, kMaskedEos = -1e7f, kLargestLogit = 1e30f;
constexpr u16 kLargestCount = 0xffff;

__device__ inline float penalised(float z, u32 count, const Row& row) {
    z = z > 0.0f ? z / row.repetition : z * row.repetition;
    z -= static_cast<float>(count * row.frequency);
    return z - row.presence;
}

__device__ inline void adjust(float* z, int vocab, const Row& row, const u16* counts, const u32* allowed) {
    for (int i = threadIdx.x; i < vocab; i += blockDim.x) {
        float value = z[i];
        if (row.flags & kConstrained && !(allowed[i / 32] >> i % 32 & 1)) value = kForbidden;
        if (row.flags & kPenalised && counts[i]) value = penalised(value, counts[i], row);
        z[i] = value;
    }
    __syncthreads();
}

__device__ inline void adjust_eos(float* z, const int* eos, int eos_count, const Step& step) {
    for (int i = threadIdx.x; i < eos_count; i += blockDim.x) {
        float& value = z[eos[i]];
        if (step.flags & kDecays) {
            const float raised = value + fabsf(value) * step.growth;
            value = raised > kLargestLogit ? kLargestLogit : raised;  // NaN stays NaN
        }
        if (step.flags & kMasksEos) value = kMaskedEos;
    }
    __syncthreads();
}

__device__ inline int draw(const float* z, int vocab, const Extremes& extremes, u64 total, const Row& row, u32 position) {
    Cut cut = {0, 0, 0, total};
    if (row.flags & kFiltered) {
        const u64 mass = row.top_p < 1.0 ? static_cast<u64>(row.top_p * static_cast<double>(total)) : ~0ull;
        cut = select(z, vocab, extremes, {row.top_k > 0 ? static_cast<u32>(row.top_k) : 0xffffffffu, mass}, total);
    }
    const double place = uniform(row.seed, row.sample, position) * static_cast<double>(cut.mass);
    return pick(z, vocab, extremes.best, cut, Min()(static_cast<u64>(place), cut.mass - 1));
}

// rows [max_rows], steps [gridDim.x], logits [places, vocab] (modified), counts [max_rows, vocab] of penalised rows,
// allowed [max_rows, ceil(vocab / 32)] one bit a token, last_token [max_rows], draws [gridDim.x].
extern "C" __global__ void __launch_bounds__(1024)
sample_rows(const Row* rows, const Step* steps, float* logits, u16* counts, const u32* allowed, const int* eos,
            int eos_count, int vocab, long long* last_token, Draw* draws) {
    const Step step = steps[blockIdx.x];
    if (step.row < 0) return;
    const Row row = rows[step.row];
    float* z = logits + static_cast<u64>(step.place) * vocab;
    u16* row_counts = counts + static_cast<u64>(step.row) * vocab;
    if (row.flags & (kPenalised | kConstrained)) {
        adjust(z, vocab, row, row_counts, allowed + static_cast<u64>(step.row) * ((vocab + 31) / 32));
    }
    if (step.flags) adjust_eos(z, eos, eos_count, step);
    const Extremes extremes = temper(z, vocab, row.temperature);
    if (!extremes.finite) {
        // NOTE: the token that is kept is a valid id: a step that is on its way already embeds it.
        if (threadIdx.x == 0) {
            draws[blockIdx.x] = {-1, 0.0f};
            last_token[step.row] = 0;
        }
        return;
    }
    const u64 total = total_mass(z, vocab, extremes.best);
    int token = extremes.token;
    if (!(row.flags & kGreedy)) token = draw(z, vocab, extremes, total, row, step.generated);
    if (threadIdx.x == 0) {
        draws[blockIdx.x] = {token, log_probability(z[token], extremes.best, total)};
        last_token[step.row] = token;
        if (row.flags & kPenalised && row_counts[token] < kLargestCount) ++row_counts[token];
    }
}

// logprobs[i] of the token targets[i] under the logits at places[i], as they are; NaN where they are not all finite.
extern "C" __global__ void __launch_bounds__(1024)
prompt_logprobs(float* logits, const int* places, const int* targets, float* logprobs, int vocab) {
    float* z = logits + static_cast<u64>(places[blockIdx.x]) * vocab;
    const Extremes extremes = temper(z, vocab, 1.0f);
    const bool finite = extremes.finite && fabsf(extremes.lowest) <= kLargestFloat;
    const u64 total = finite ? total_mass(z, vocab, extremes.best) : 0;
    if (threadIdx.x == 0) {
        const float logprob = finite ? log_probability(z[targets[blockIdx.x]], extremes.best, total) : 0.0f;
        logprobs[blockIdx.x] = finite ? logprob : __uint_as_float(0x7fc00000u);
    }
}

// pairs [pairs_count, 2]: distinct tokens with their counts, put where they belong in a row of counts.
extern "C" __global__ void place_counts(const int* pairs, int pair_count, u16* counts) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < pair_count) counts[pairs[2 * i]] = static_cast<u16>(pairs[2 * i + 1]);
}

// token_ids[i] is what row sources[i] sampled last, or host_ids[i] where sources[i] is negative.
extern "C" __global__ void gather_tokens(long long* token_ids, const long long* host_ids, const int* sources,
                                         const long long* last_token, int count) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < count) token_ids[i] = sources[i] >= 0 ? last_token[sources[i]] : host_ids[i];
}
