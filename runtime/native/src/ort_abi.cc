#include "ort_abi.h"

#include <cstdarg>
#include <cstdio>

namespace peregrine {

Ort ort;

namespace {
template <class Function>
void bind(Function& slot, const OrtApi* api, size_t position) {
  slot = reinterpret_cast<Function>(api->entries[position]);
}
constexpr int kInvalidArgument = 2;
}  // namespace

bool bind_ort(const OrtApiBase* base) {
  const OrtApi* api = base->GetApi(kApiVersion);
  if (api == nullptr) return false;
  bind(ort.CreateStatus, api, 0);
  bind(ort.CreateCustomOpDomain, api, 26);
  bind(ort.CustomOpDomain_Add, api, 27);
  bind(ort.AddCustomOpDomain, api, 28);
  bind(ort.GetTensorMutableData, api, 51);
  bind(ort.GetDimensionsCount, api, 61);
  bind(ort.GetDimensions, api, 62);
  bind(ort.GetTensorTypeAndShape, api, 65);
  bind(ort.KernelInfoGetAttribute_float, api, 85);
  bind(ort.KernelInfoGetAttribute_int64, api, 86);
  bind(ort.KernelContext_GetInputCount, api, 88);
  bind(ort.KernelContext_GetInput, api, 90);
  bind(ort.KernelContext_GetOutput, api, 91);
  bind(ort.ReleaseStatus, api, 93);
  bind(ort.ReleaseTensorTypeAndShapeInfo, api, 99);
  bind(ort.KernelContext_ParallelFor, api, 274);
  return true;
}

OrtStatus* invalid(const char* format, ...) {
  char message[512];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(message, sizeof message, format, arguments);
  va_end(arguments);
  return ort.CreateStatus(kInvalidArgument, message);
}

}  // namespace peregrine
