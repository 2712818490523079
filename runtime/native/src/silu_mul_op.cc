#include "silu_mul_op.h"

#include <algorithm>

#include "isa.h"
#include "threads.h"

namespace peregrine {

namespace {
// Elements below which waking another thread costs more than it saves.
constexpr int64_t kParallelElements = 1 << 15;
// A share of a row is a multiple of this, so that no two threads write to one cache line.
constexpr int64_t kColumns = 64;
}  // namespace

OrtStatus* SiluMul::create(const OrtKernelInfo*, SiluMul** kernel) { return new_kernel(kernel); }

OrtStatus* SiluMul::compute(Context& context) const {
  Tensor input;
  if (OrtStatus* status = context.input(0, &input)) return status;
  if (input.rank != 2 || input.dims[1] % 2 != 0) return invalid("SiluMul: the input must have shape [rows, 2 * width]");
  const int64_t rows = input.dims[0], width = input.dims[1] / 2, dims[] = {rows, width};
  void* data = nullptr;
  if (OrtStatus* status = context.output(0, dims, 2, &data)) return status;
  const auto* from = input.as<const float>();
  auto* to = static_cast<float*>(data);
  const Kernels& kernels = *active_kernels();
  const int64_t chunks = (width + kColumns - 1) / kColumns, units = rows * chunks;
  const int64_t pieces = rows * width < kParallelElements ? 1 : std::min(worker_limit(), units);
  if (units == 0) return nullptr;
  return context.parallel_for(static_cast<size_t>(pieces), [&](size_t piece) {
    const auto p = static_cast<int64_t>(piece);
    const int64_t end = units * (p + 1) / pieces;
    for (int64_t unit = units * p / pieces; unit < end;) {
      const int64_t row = unit / chunks, stop = std::min(end, (row + 1) * chunks);
      const int64_t first = (unit - row * chunks) * kColumns, last = std::min(width, (stop - row * chunks) * kColumns);
      const float* gate = from + row * 2 * width;
      kernels.silu_mul(gate + first, gate + width + first, to + row * width + first, static_cast<size_t>(last - first));
      unit = stop;
    }
  });
}

}  // namespace peregrine
