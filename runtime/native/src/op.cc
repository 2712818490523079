#include "op.h"

#include <cstdlib>

namespace peregrine {

OrtStatus* Context::input(size_t index, Tensor* tensor) const {
  size_t count = 0;
  if (OrtStatus* status = ort.KernelContext_GetInputCount(context_, &count)) return status;
  const OrtValue* value = nullptr;
  if (index < count) {
    if (OrtStatus* status = ort.KernelContext_GetInput(context_, index, &value)) return status;
  }
  *tensor = Tensor{};
  if (value == nullptr) return nullptr;
  OrtTensorTypeAndShapeInfo* info = nullptr;
  if (OrtStatus* status = ort.GetTensorTypeAndShape(value, &info)) return status;
  OrtStatus* status = ort.GetDimensionsCount(info, &tensor->rank);
  if (status == nullptr && tensor->rank > Tensor::kMaxRank) {
    status = invalid("input %zu has %zu dimensions", index, tensor->rank);
  }
  if (status == nullptr) status = ort.GetDimensions(info, tensor->dims, tensor->rank);
  ort.ReleaseTensorTypeAndShapeInfo(info);
  if (status != nullptr) return status;
  return ort.GetTensorMutableData(const_cast<OrtValue*>(value), &tensor->data);
}

OrtStatus* Context::output(size_t index, const int64_t* dims, size_t rank, void** data) const {
  OrtValue* value = nullptr;
  if (OrtStatus* status = ort.KernelContext_GetOutput(context_, index, dims, rank, &value)) return status;
  if (value == nullptr) return invalid("output %zu is missing", index);
  return ort.GetTensorMutableData(value, data);
}

void attribute(const OrtKernelInfo* info, const char* name, int64_t* value) {
  int64_t given = 0;
  if (OrtStatus* status = ort.KernelInfoGetAttribute_int64(info, name, &given)) {
    ort.ReleaseStatus(status);
  } else {
    *value = given;
  }
}

void attribute(const OrtKernelInfo* info, const char* name, float* value) {
  float given = 0;
  if (OrtStatus* status = ort.KernelInfoGetAttribute_float(info, name, &given)) {
    ort.ReleaseStatus(status);
  } else {
    *value = given;
  }
}

size_t copy_aliases(const Alias* aliases, size_t count, int** input_index, int** output_index) {
  *input_index = static_cast<int*>(malloc(count * sizeof(int)));
  *output_index = static_cast<int*>(malloc(count * sizeof(int)));
  if (*input_index == nullptr || *output_index == nullptr) {
    release_aliases(*input_index, *output_index);
    *input_index = *output_index = nullptr;
    return 0;
  }
  for (size_t i = 0; i < count; ++i) {
    (*input_index)[i] = aliases[i].input;
    (*output_index)[i] = aliases[i].output;
  }
  return count;
}

void release_aliases(int* input_index, int* output_index) {
  free(input_index);
  free(output_index);
}

}  // namespace peregrine
