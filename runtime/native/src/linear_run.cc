#include "linear_run.h"

#include <algorithm>
#include <atomic>

#include "isa.h"
#include "linear_isa.h"
#include "threads.h"
#include "workspace.h"

namespace peregrine {

namespace {

// Multiply-adds, and values to quantise, for which it pays to wake another thread.
constexpr int64_t kParallelCost = 1 << 16;
constexpr int64_t kParallelValues = 1 << 16;
// Of activations that all tiles read in turn: they stay in the second-level cache.
constexpr int64_t kCachedBytes = 384 << 10;
constexpr int64_t kLeastRows = 32;
constexpr int64_t kHalfTile = kTileRows / 2;
// Rows of a tile that an epilogue takes at once.
constexpr int64_t kEpilogueRows = 64;

// A worker's share of the units; others take from it once they are done with their own.
struct alignas(64) Share {
  std::atomic<int64_t> next;
  int64_t end;
};

class LinearRun {
 public:
  LinearRun(const Context& context, const LinearCall& call)
      : context_(context), call_(call), form_(*call.form), kernels_(*active_linear_kernels()) {
    const int64_t cost = call.count * form_.rows * form_.columns;
    const int64_t most = form_.tiles * ((call.count + kLeastRows - 1) / kLeastRows);
    workers_ = std::clamp<int64_t>(cost / kParallelCost, 1, std::min(worker_limit(), most));
    chunk_ = std::max(kLeastRows, kCachedBytes / form_.columns);
    const int64_t wanted = (4 * workers_ + form_.tiles - 1) / form_.tiles;
    if (workers_ > 1) chunk_ = std::min(chunk_, std::max(kLeastRows, (call.count + wanted - 1) / wanted));
    chunk_ = (chunk_ + 3) / 4 * 4;
  }

  OrtStatus* run() {
    Carver counter(nullptr);
    place(&counter);
    Workspace workspace(counter.used());
    if (workspace.data() == nullptr) return invalid("Linear: out of memory (%zu bytes)", counter.used());
    Carver carver(workspace.data());
    place(&carver);
    if (OrtStatus* status = quantise()) return status;
    const int64_t units = form_.tiles * ((call_.count + chunk_ - 1) / chunk_);
    for (int64_t i = 0; i < workers_; ++i) {
      shares_[i].next.store(units * i / workers_, std::memory_order_relaxed);
      shares_[i].end = units * (i + 1) / workers_;
    }
    return context_.parallel_for(static_cast<size_t>(workers_), [&](size_t worker) {
      for (int64_t i = 0; i < workers_; ++i) {
        Share& share = shares_[(static_cast<int64_t>(worker) + i) % workers_];
        for (int64_t unit; (unit = share.next.fetch_add(1, std::memory_order_relaxed)) < share.end;) multiply(unit);
      }
    });
  }

 private:
  void place(Carver* carver) {
    const auto values = static_cast<size_t>(call_.count * form_.columns);
    const auto groups = static_cast<size_t>(call_.count * form_.groups);
    x_.values = carver->take<int8_t>(values);
    x_.scales = carver->take<float>(groups);
    x_.starts = carver->take<int32_t>(groups);
    x_.sums = carver->take<float>(groups);
    shares_ = carver->take<Share>(static_cast<size_t>(workers_));
  }

  QuantRows rows_at(int64_t row) const {
    const int64_t group = row * form_.groups;
    return {x_.values + row * form_.columns, x_.scales + group, x_.starts + group, x_.sums + group};
  }

  OrtStatus* quantise() const {
    const int bias = form_.bits == 8 ? kernels_.bias : 0;
    const int64_t values = call_.count * form_.columns;
    const int64_t pieces = values < kParallelValues ? 1 : std::min(workers_, call_.count);
    return context_.parallel_for(static_cast<size_t>(pieces), [&](size_t piece) {
      const auto p = static_cast<int64_t>(piece);
      for (int64_t row = call_.count * p / pieces; row < call_.count * (p + 1) / pieces; ++row) {
        kernels_.quantise(form_, bias, call_.x + row * form_.columns, rows_at(row));
      }
    });
  }

  void multiply(int64_t unit) const {
    const int64_t tile = unit % form_.tiles, row = unit / form_.tiles * chunk_;
    TileCall part;
    part.form = &form_;
    part.tile = call_.weight + tile * form_.tile_bytes;
    part.ahead = row == 0 && tile + 1 < form_.tiles ? part.tile + form_.tile_bytes : nullptr;
    const int64_t columns = std::min<int64_t>(kTileRows, form_.rows - tile * kTileRows);
    float first[kTileRows] = {};
    if (call_.bias != nullptr) std::copy_n(call_.bias + tile * kTileRows, columns, first);
    part.first = first;
    const int64_t end = std::min(call_.count, row + chunk_);
    if (call_.epilogue == LinearEpilogue::kSwiGlu) {
      gated(part, row, end, tile);
    } else if (columns == kTileRows) {
      part.x = rows_at(row);
      part.rows = end - row;
      part.low = call_.y + row * call_.width + tile * kTileRows;
      part.high = part.low + kHalfTile;
      part.stride = call_.width;
      kernels_.multiply(part);
    } else {
      narrow(part, row, end, tile, columns);
    }
  }

  // The last tile, where the matrix has fewer rows than a tile.
  void narrow(TileCall& part, int64_t row, int64_t end, int64_t tile, int64_t columns) const {
    float result[kEpilogueRows * kTileRows];
    part.low = result;
    part.high = result + kHalfTile;
    part.stride = kTileRows;
    for (; row < end; row += part.rows) {
      take_rows(part, row, end);
      for (int64_t r = 0; r < part.rows; ++r) {
        std::copy_n(result + r * kTileRows, columns, call_.y + (row + r) * call_.width + tile * kTileRows);
      }
    }
  }

  void gated(TileCall& part, int64_t row, int64_t end, int64_t tile) const {
    float gates[kEpilogueRows * kHalfTile], ups[kEpilogueRows * kHalfTile];
    const int64_t column = tile * kHalfTile;
    part.low = gates;
    part.high = ups;
    part.stride = kHalfTile;
    const Kernels& vectors = *active_kernels();
    for (; row < end; row += part.rows) {
      take_rows(part, row, end);
      vectors.silu_mul(gates, ups, gates, static_cast<size_t>(part.rows * kHalfTile));
      for (int64_t r = 0; r < part.rows; ++r) {
        std::copy_n(gates + r * kHalfTile, kHalfTile, call_.y + (row + r) * call_.width + column);
      }
    }
  }

  void take_rows(TileCall& part, int64_t row, int64_t end) const {
    part.x = rows_at(row);
    part.rows = std::min(kEpilogueRows, end - row);
    kernels_.multiply(part);
    part.ahead = nullptr;
  }

  const Context& context_;
  const LinearCall& call_;
  const LinearForm& form_;
  const LinearKernels& kernels_;
  int64_t workers_, chunk_;
  QuantRows x_;
  Share* shares_;
};

}  // namespace

OrtStatus* run_linear(const Context& context, const LinearCall& call) {
  return call.count == 0 ? nullptr : LinearRun(context, call).run();
}

}  // namespace peregrine
