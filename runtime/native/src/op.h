// What an op has to provide, and the glue that turns it into an OrtCustomOp.
//
// To add an op: write a kernel class with
//   static constexpr const char* kName;
//   static constexpr Port kInputs[], kOutputs[];
//   static constexpr Alias kAliases[] and kAliasCount (0 if there are none);
//   static OrtStatus* create(const OrtKernelInfo*, Kernel** kernel);
//   OrtStatus* compute(Context&) const;          // called from several threads at once
// and list a CustomOp<Kernel> in library.cc. create() makes the kernel with new_kernel().
//
// The library uses nothing of the C++ runtime (no operator new, no exceptions, no guarded statics), so that it needs
// libc alone and exports no symbols of a runtime of its own.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <iterator>
#include <new>
#include <type_traits>

#include "ort_abi.h"

namespace peregrine {

struct Port {
  Element type;
  Presence presence = kRequired;
};

// Output `output` is the same memory as input `input`.
struct Alias {
  int input, output;
};

// A borrowed tensor: valid until the kernel returns.
struct Tensor {
  static constexpr size_t kMaxRank = 8;
  void* data = nullptr;  // null: an optional input that is absent
  size_t rank = 0;
  int64_t dims[kMaxRank] = {};

  bool present() const { return data != nullptr || rank != 0; }
  template <class T>
  T* as() const {
    return static_cast<T*>(data);
  }
};

// The inputs, outputs and thread pool of one call.
class Context {
 public:
  explicit Context(OrtKernelContext* context) : context_(context) {}

  OrtStatus* input(size_t index, Tensor* tensor) const;
  OrtStatus* output(size_t index, const int64_t* dims, size_t rank, void** data) const;

  // Runs body(i) for i in [0, total) on the session's threads; body must not throw.
  template <class Body>
  OrtStatus* parallel_for(size_t total, const Body& body) const {
    if (total == 1) {
      body(size_t{0});
      return nullptr;
    }
    auto call = [](void* user, size_t index) { (*static_cast<const Body*>(user))(index); };
    return ort.KernelContext_ParallelFor(context_, call, total, 0, const_cast<Body*>(&body));
  }

 private:
  OrtKernelContext* context_;
};

// Attributes; a missing one leaves `value` as it is.
void attribute(const OrtKernelInfo* info, const char* name, int64_t* value);
void attribute(const OrtKernelInfo* info, const char* name, float* value);

// A default-constructed kernel in *kernel.
template <class Kernel>
OrtStatus* new_kernel(Kernel** kernel) {
  void* memory = malloc(sizeof(Kernel));
  *kernel = memory == nullptr ? nullptr : new (memory) Kernel;
  return memory == nullptr ? invalid("%s: out of memory", Kernel::kName) : nullptr;
}

// Index arrays that onnxruntime frees again through release_aliases.
size_t copy_aliases(const Alias* aliases, size_t count, int** input_index, int** output_index);
void release_aliases(int* input_index, int* output_index);

template <class Kernel>
struct CustomOp : OrtCustomOp {
  constexpr CustomOp() : OrtCustomOp{} {
    version = kApiVersion;
    GetName = [](const OrtCustomOp*) { return Kernel::kName; };
    GetExecutionProviderType = [](const OrtCustomOp*) -> const char* { return nullptr; };
    GetInputType = [](const OrtCustomOp*, size_t i) -> int { return Kernel::kInputs[i].type; };
    GetInputTypeCount = [](const OrtCustomOp*) { return std::size(Kernel::kInputs); };
    GetOutputType = [](const OrtCustomOp*, size_t i) -> int { return Kernel::kOutputs[i].type; };
    GetOutputTypeCount = [](const OrtCustomOp*) { return std::size(Kernel::kOutputs); };
    GetInputCharacteristic = [](const OrtCustomOp*, size_t i) -> int { return Kernel::kInputs[i].presence; };
    GetOutputCharacteristic = [](const OrtCustomOp*, size_t i) -> int { return Kernel::kOutputs[i].presence; };
    GetInputMemoryType = [](const OrtCustomOp*, size_t) { return 0; };
    GetVariadicInputMinArity = GetVariadicOutputMinArity = [](const OrtCustomOp*) { return 1; };
    GetVariadicInputHomogeneity = GetVariadicOutputHomogeneity = [](const OrtCustomOp*) { return 1; };
    GetStartVersion = [](const OrtCustomOp*) { return 1; };
    GetEndVersion = [](const OrtCustomOp*) { return INT32_MAX; };
    CreateKernelV2 = [](const OrtCustomOp*, const OrtApi*, const OrtKernelInfo* info, void** kernel) {
      return Kernel::create(info, reinterpret_cast<Kernel**>(kernel));
    };
    KernelComputeV2 = [](void* kernel, OrtKernelContext* raw) {
      Context context(raw);
      return static_cast<const Kernel*>(kernel)->compute(context);
    };
    static_assert(std::is_trivially_destructible_v<Kernel>, "kernels are freed, not destroyed");
    KernelDestroy = free;
    if (Kernel::kAliasCount > 0) {
      GetAliasMap = GetMayInplace = [](int** input_index, int** output_index) {
        return copy_aliases(Kernel::kAliases, Kernel::kAliasCount, input_index, output_index);
      };
      ReleaseAliasMap = ReleaseMayInplace = release_aliases;
    }
  }
};

}  // namespace peregrine
