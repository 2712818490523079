#include "sampling.h"

#include <algorithm>
#include <cmath>

#include "isa.h"
#include "row_pool.h"
#include "sampling_draw.h"
#include "workspace.h"

namespace peregrine {

namespace {

// As runtime/sampling/reference.py has them.
constexpr float kForbidden = -1e9f;
constexpr float kMaskedEos = -1e7f;
constexpr float kLargestLogit = 1e30f;
constexpr double kLargestExponent = 69.0;

// NOTE: ids come from requests; one outside the vocabulary must not become an address.
bool valid(int64_t token, int64_t vocab) { return token >= 0 && token < vocab; }

void constrain(float* z, int64_t vocab, const SamplingRow& row, float* saved) {
  if (row.allowed_length == 0) return;
  for (int64_t i = 0; i < row.allowed_length; ++i) {
    if (valid(row.allowed[i], vocab)) saved[row.allowed[i]] = z[row.allowed[i]];
  }
  std::fill(z, z + vocab, kForbidden);
  for (int64_t i = 0; i < row.allowed_length; ++i) {
    if (valid(row.allowed[i], vocab)) z[row.allowed[i]] = saved[row.allowed[i]];
  }
}

void penalise(float* z, int64_t vocab, const SamplingRow& row) {
  for (int64_t i = 0; i < row.counted_length; ++i) {
    if (!valid(row.counted[i], vocab)) continue;
    float& logit = z[row.counted[i]];
    const float scaled = logit > 0.0f ? logit / row.repetition_penalty : logit * row.repetition_penalty;
    const auto frequent = static_cast<float>(static_cast<double>(row.counts[i]) * row.frequency_penalty);
    logit = scaled - frequent - row.presence_penalty;
  }
}

void adjust_eos(float* z, const SamplingBatch& batch, const SamplingRow& row) {
  const bool masked = row.generated < row.min_new_tokens - 1;
  if (row.log_decay == 0.0 && !masked) return;
  const double later = static_cast<double>(std::max<int64_t>(row.generated - row.decay_start, 0));
  const auto growth = static_cast<float>(std::expm1(std::min(later * row.log_decay, kLargestExponent)));
  for (int64_t i = 0; i < batch.eos_count; ++i) {
    if (!valid(batch.eos[i], batch.vocab)) continue;
    float& logit = z[batch.eos[i]];
    const float grown = logit + std::fabs(logit) * growth;
    logit = masked ? kMaskedEos : (kLargestLogit < grown ? kLargestLogit : grown);
  }
}

// What a grammar does not allow has no weight, whatever was done to it before.
void apply_mask(float* z, int64_t vocab, const uint32_t* mask) {
  if (mask == nullptr) return;
  for (int64_t begin = 0; begin < vocab; begin += 32, ++mask) {
    if (*mask == ~0u) continue;
    const int64_t count = std::min<int64_t>(vocab - begin, 32);
    for (int64_t i = 0; i < count; ++i) z[begin + i] = (*mask >> i) & 1u ? z[begin + i] : -INFINITY;
  }
}

// Divides by the temperature and adds up the weights, block by block.
WeighedRow weigh_row(float* z, int64_t vocab, float temperature, const DrawScratch& scratch) {
  const Kernels& kernels = *active_kernels();
  WeighedRow weighed{z, vocab, -INFINITY, 0.0};
  for (int64_t begin = 0, block = 0; begin < vocab; begin += kSamplingBlock, ++block) {
    const auto count = static_cast<size_t>(std::min(vocab - begin, kSamplingBlock));
    scratch.block_maxima[block] = kernels.temper(z + begin, count, temperature);
    weighed.max = std::max(weighed.max, scratch.block_maxima[block]);
  }
  for (int64_t begin = 0, block = 0; begin < vocab; begin += kSamplingBlock, ++block) {
    const auto count = static_cast<size_t>(std::min(vocab - begin, kSamplingBlock));
    scratch.block_sums[block] = kernels.weigh(z + begin, count, weighed.max, nullptr);
    weighed.total += scratch.block_sums[block];
  }
  return weighed;
}

struct Job {
  const SamplingBatch& batch;
  int64_t* tokens;
  double* logprobs;
  unsigned char* scratch;
  size_t scratch_bytes;  // of one thread
  bool filtered;
};

DrawScratch carve(Carver& carver, int64_t vocab, bool filtered) {
  const auto blocks = static_cast<size_t>((vocab + kSamplingBlock - 1) / kSamplingBlock);
  const size_t room = filtered ? static_cast<size_t>(vocab) : 0;
  DrawScratch scratch;
  scratch.block_sums = carver.take<double>(blocks);
  scratch.block_maxima = carver.take<float>(blocks);
  scratch.logits = carver.take<float>(room);
  scratch.weights = carver.take<float>(room);
  scratch.candidates = carver.take<Candidate>(room);
  scratch.partitioned = carver.take<Candidate>(room);
  return scratch;
}

void sample_one(void* user, int64_t index, int thread) {
  const Job& job = *static_cast<Job*>(user);
  const SamplingBatch& batch = job.batch;
  const SamplingRow& row = batch.table[batch.rows[index]];
  float* z = batch.logits + batch.places[index] * batch.vocab;
  Carver carver(job.scratch + static_cast<size_t>(thread) * job.scratch_bytes);
  const DrawScratch scratch = carve(carver, batch.vocab, job.filtered);

  constrain(z, batch.vocab, row, scratch.logits);
  penalise(z, batch.vocab, row);
  adjust_eos(z, batch, row);
  apply_mask(z, batch.vocab, row.mask);
  const WeighedRow weighed = weigh_row(z, batch.vocab, row.temperature, scratch);
  job.tokens[index] = -1;
  job.logprobs[index] = 0.0;
  if (!std::isfinite(weighed.total)) return;
  int64_t token;
  if (row.top_k == 1) {
    token = best_token(weighed, scratch);
  } else {
    const double uniform = uniform_of(row.seed, static_cast<uint64_t>(row.sample), static_cast<uint64_t>(row.generated));
    token = row.filtered ? draw_filtered(weighed, scratch, row, uniform) : draw_any(weighed, scratch, uniform);
  }
  job.tokens[index] = token;
  job.logprobs[index] = static_cast<double>(z[token] - weighed.max) - std::log(weighed.total);
}

}  // namespace

bool sample_batch(const SamplingBatch& batch, int threads, int64_t* tokens, double* logprobs) {
  bool filtered = false;
  for (int64_t i = 0; i < batch.count; ++i) {
    const SamplingRow& row = batch.table[batch.rows[i]];
    filtered |= (row.filtered != 0 && row.top_k != 1) || row.allowed_length > 0;
  }
  threads = std::clamp<int>(threads, 1, kMaxPoolThreads);
  Carver counted(nullptr);
  carve(counted, batch.vocab, filtered);
  const Workspace workspace(counted.used() * static_cast<size_t>(threads));
  if (workspace.data() == nullptr) return false;
  Job job{batch, tokens, logprobs, workspace.data(), counted.used(), filtered};
  for_each_row(threads, batch.count, sample_one, &job);
  return true;
}

}  // namespace peregrine
