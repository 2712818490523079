// What the shared library exports: RegisterCustomOps for onnxruntime, and a few functions for ctypes.
#include "attention_op.h"
#include "embedding_op.h"
#include "isa.h"
#include "linear_isa.h"
#include "linear_op.h"
#include "ort_abi.h"
#include "sampling.h"
#include "silu_mul_op.h"
#include "workspace.h"

#define PEREGRINE_EXPORT extern "C" __attribute__((visibility("default")))

namespace {

constexpr int kAbiVersion = 3;
constexpr const char* kDomain = "peregrine";

constexpr peregrine::CustomOp<peregrine::PagedAttention<peregrine::kFloat>> kAttentionFloat;
constexpr peregrine::CustomOp<peregrine::PagedAttention<peregrine::kHalf>> kAttentionHalf;
constexpr peregrine::CustomOp<peregrine::PagedAttention<peregrine::kBfloat>> kAttentionBfloat;
constexpr peregrine::CustomOp<peregrine::SiluMul> kSiluMul;
constexpr peregrine::CustomOp<peregrine::Linear> kLinear;
constexpr peregrine::CustomOp<peregrine::QuantEmbedding> kQuantEmbedding;
constexpr const OrtCustomOp* kOps[] = {&kAttentionFloat, &kAttentionHalf, &kAttentionBfloat,
                                        &kSiluMul,       &kLinear,        &kQuantEmbedding};

}  // namespace

PEREGRINE_EXPORT OrtStatus* RegisterCustomOps(OrtSessionOptions* options, const OrtApiBase* base) {
  using namespace peregrine;
  if (!bind_ort(base)) {
    // NOTE: version 1 of the table has CreateStatus at the same place.
    const OrtApi* oldest = base->GetApi(1);
    auto create = reinterpret_cast<OrtStatus* (*)(int, const char*)>(oldest->entries[0]);
    return create(1, "this onnxruntime is too old for Peregrine's ops");
  }
  if (active_kernels() == nullptr) {
    return invalid("PEREGRINE_CPU_ISA names an instruction set that this build or processor does not have");
  }
  OrtCustomOpDomain* domain = nullptr;
  if (OrtStatus* status = ort.CreateCustomOpDomain(kDomain, &domain)) return status;
  for (const OrtCustomOp* op : kOps) {
    if (OrtStatus* status = ort.CustomOpDomain_Add(domain, op)) return status;
  }
  return ort.AddCustomOpDomain(options, domain);
}

// Changes with the signature or meaning of an op or of an exported function.
PEREGRINE_EXPORT int peregrine_abi_version() { return kAbiVersion; }

// The instruction set in use, or null if PEREGRINE_CPU_ISA asks for one that is not there.
PEREGRINE_EXPORT const char* peregrine_active_isa() {
  const peregrine::Kernels* kernels = peregrine::active_kernels();
  return kernels == nullptr ? nullptr : kernels->name;
}

PEREGRINE_EXPORT int peregrine_has_isa(const char* name) { return peregrine::find_kernels(name) != nullptr; }

// Switches this process to another instruction set; 0 if it is not there.
PEREGRINE_EXPORT int peregrine_force_isa(const char* name) { return peregrine::force_kernels(name); }

// The kernels that the linear op runs: avx512vnni, avxvnni, avx2 or portable.
PEREGRINE_EXPORT const char* peregrine_linear_isa() { return peregrine::active_linear_kernels()->name; }

// Switches this process to other kernels of the linear op, or with null back to the best; 0 if they are not there.
PEREGRINE_EXPORT int peregrine_force_linear_isa(const char* name) { return peregrine::force_linear_kernels(name); }

// binary16 <-> float32 as the cache uses them.
PEREGRINE_EXPORT void peregrine_to_half(const float* input, uint16_t* output, size_t count) {
  peregrine::active_kernels()->to_half(input, output, count);
}

PEREGRINE_EXPORT void peregrine_to_float(const uint16_t* input, float* output, size_t count) {
  peregrine::active_kernels()->to_float(input, output, count);
}

// Draws a token for each row of a batch; see sampling.h. 0 if memory ran out.
PEREGRINE_EXPORT int peregrine_sample(const peregrine::SamplingBatch* batch, int threads, int64_t* tokens,
                                      double* logprobs) {
  return peregrine::sample_batch(*batch, threads, tokens, logprobs);
}

// Times that scratch memory was taken from the system: what a step needs is to be there after the first ones.
PEREGRINE_EXPORT int64_t peregrine_workspace_allocations() { return peregrine::workspace_allocations(); }
