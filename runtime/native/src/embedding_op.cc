#include "embedding_op.h"

#include <algorithm>
#include <cstring>

#include "isa.h"
#include "threads.h"

namespace peregrine {

namespace {
// Values below which waking another thread costs more than it saves.
constexpr int64_t kParallelValues = 1 << 14;
}  // namespace

OrtStatus* QuantEmbedding::create(const OrtKernelInfo* info, QuantEmbedding** kernel) {
  LinearForm form;
  if (OrtStatus* status = read_form(info, kName, &form)) return status;
  if (OrtStatus* status = new_kernel(kernel)) return status;
  (*kernel)->form_ = form;
  return nullptr;
}

OrtStatus* QuantEmbedding::compute(Context& context) const {
  Tensor ids, weight;
  if (OrtStatus* status = context.input(0, &ids)) return status;
  if (OrtStatus* status = context.input(1, &weight)) return status;
  if (ids.rank != 1) return invalid("QuantEmbedding: ids must have shape [rows]");
  if (OrtStatus* status = check_weight(form_, kName, weight)) return status;
  const auto* wanted = ids.as<const int64_t>();
  const int64_t count = ids.dims[0], dims[] = {count, form_.columns};
  for (int64_t i = 0; i < count; ++i) {
    if (wanted[i] < 0 || wanted[i] >= form_.rows) {
      return invalid("QuantEmbedding: id %lld is not in [0, %lld)", static_cast<long long>(wanted[i]),
                     static_cast<long long>(form_.rows));
    }
  }
  void* data = nullptr;
  if (OrtStatus* status = context.output(0, dims, 2, &data)) return status;
  if (count == 0) return nullptr;
  const int64_t pieces = count * form_.columns < kParallelValues ? 1 : std::min(worker_limit(), count);
  return context.parallel_for(static_cast<size_t>(pieces), [&](size_t piece) {
    const auto p = static_cast<int64_t>(piece);
    for (int64_t i = count * p / pieces; i < count * (p + 1) / pieces; ++i) {
      const uint8_t* tile = weight.as<const uint8_t>() + wanted[i] / kTileRows * form_.tile_bytes;
      row(tile, wanted[i] % kTileRows, static_cast<float*>(data) + i * form_.columns);
    }
  });
}

void QuantEmbedding::row(const uint8_t* tile, int64_t column, float* output) const {
  const uint8_t* scales = tile + form_.level_bytes;
  const bool four = form_.bits == 4;
  for (int64_t k = 0; k < form_.columns; scales += form_.scale_bytes) {
    const float scale = scale_at(scales, column);
    const float offset = form_.offsets ? scale_at(scales, kTileRows + column) : 0.0f;
    for (const int64_t end = k + form_.group; k < end; ++k) {
      const int64_t step = four ? k / 8 : k / 4;
      const uint8_t byte = tile[(step * kTileRows + column) * 4 + k % 4];
      const int level = four ? byte >> (k & 4) & 15 : byte;
      output[k] = scale * static_cast<float>(level - form_.centre) + offset;
    }
  }
}

float QuantEmbedding::scale_at(const uint8_t* scales, int64_t index) const {
  float scale;
  if (form_.wide) {
    memcpy(&scale, scales + 4 * index, sizeof scale);
  } else {
    active_kernels()->to_float(reinterpret_cast<const uint16_t*>(scales) + index, &scale, 1);
  }
  return scale;
}

}  // namespace peregrine
