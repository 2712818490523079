#include "linear_run.h"

#include <algorithm>
#include <atomic>

#include "isa.h"
#include "linear_isa.h"
#include "spin.h"
#include "threads.h"
#include "workspace.h"

namespace peregrine {

namespace {

// Multiply-adds for which it pays to wake another thread.
constexpr int64_t kParallelCost = 1 << 16;
// Of activations that all tiles read in turn: they stay in the second-level cache.
constexpr int64_t kCachedBytes = 384 << 10;
constexpr int64_t kLeastRows = 32;  // of a chunk
constexpr int64_t kHalfTile = kTileRows / 2;

// A worker's share of the units; others take from it once they are done with their own.
struct alignas(64) Share {
  std::atomic<int64_t> next;
  int64_t end;
};

// Panels that are being made: the next to make, and how many are finished.
struct alignas(64) Panels {
  std::atomic<int64_t> next, finished;
};

class LinearRun {
 public:
  LinearRun(const Context& context, const LinearCall& call)
      : context_(context), call_(call), form_(*call.form), kernels_(*active_linear_kernels()) {
    count_ = (call.count + kernels_.rows - 1) / kernels_.rows;
    const int64_t cost = call.count * form_.rows * form_.columns;
    const int64_t most = form_.tiles * ((call.count + kLeastRows - 1) / kLeastRows);
    workers_ = std::clamp<int64_t>(cost / kParallelCost, 1, std::min(worker_limit(), most));
    int64_t rows = std::max(kLeastRows, kCachedBytes / form_.columns);
    const int64_t wanted = (4 * workers_ + form_.tiles - 1) / form_.tiles;
    if (workers_ > 1) rows = std::min(rows, std::max(kLeastRows, (call.count + wanted - 1) / wanted));
    chunks_ = (call.count + rows - 1) / rows;
  }

  OrtStatus* run() {
    Carver counter(nullptr);
    place(&counter);
    Workspace workspace(counter.used());
    if (workspace.data() == nullptr) return invalid("Linear: out of memory (%zu bytes)", counter.used());
    Carver carver(workspace.data());
    place(&carver);
    panels_->next.store(0, std::memory_order_relaxed);
    panels_->finished.store(0, std::memory_order_relaxed);
    const int64_t units = form_.tiles * chunks_;
    for (int64_t i = 0; i < workers_; ++i) {
      shares_[i].next.store(units * i / workers_, std::memory_order_relaxed);
      shares_[i].end = units * (i + 1) / workers_;
    }
    return context_.parallel_for(static_cast<size_t>(workers_), [&](size_t index) {
      const auto worker = static_cast<int64_t>(index);
      make_panels(normed_ + worker * form_.columns);
      for (int64_t i = 0; i < workers_; ++i) {
        Share& share = shares_[(worker + i) % workers_];
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
    normed_ = carver->take<float>(static_cast<size_t>(call_.gain == nullptr ? 0 : workers_ * form_.columns));
    panels_ = carver->take<Panels>(1);
    shares_ = carver->take<Share>(static_cast<size_t>(workers_));
  }

  // The first row of a panel; panels are as even as can be.
  int64_t row_of(int64_t panel) const { return call_.count * panel / count_; }

  Panel panel_at(int64_t panel) const {
    const int64_t row = row_of(panel), group = row * form_.groups;
    return {x_.values + row * form_.columns, x_.scales + group, x_.starts + group, x_.sums + group,
            row_of(panel + 1) - row};
  }

  // Returns when all panels are made.
  // NOTE: whoever waits here waits for threads that are at work, never for one that has yet to start.
  void make_panels(float* normed) const {
    for (int64_t panel; (panel = panels_->next.fetch_add(1, std::memory_order_relaxed)) < count_;) {
      make_panel(panel, normed);
      panels_->finished.fetch_add(1, std::memory_order_release);
    }
    spin_until([&] { return panels_->finished.load(std::memory_order_acquire) == count_; });
  }

  void make_panel(int64_t number, float* normed) const {
    const int bias = form_.bits == 8 ? kernels_.bias : 0;
    const Panel panel = panel_at(number);
    const float* x = call_.x + row_of(number) * form_.columns;
    for (int64_t row = 0; row < panel.rows; ++row, x += form_.columns) {
      if (call_.gain != nullptr) kernels_.normalise(x, call_.gain, call_.norm_eps, form_.columns, normed);
      kernels_.quantise(form_, bias, call_.gain == nullptr ? x : normed, panel, row);
    }
  }

  void multiply(int64_t unit) const {
    const int64_t tile = unit % form_.tiles, chunk = unit / form_.tiles;
    const int64_t begin = count_ * chunk / chunks_, end = count_ * (chunk + 1) / chunks_;
    const int64_t columns = std::min<int64_t>(kTileRows, form_.rows - tile * kTileRows);
    float first[kTileRows] = {};
    if (call_.bias != nullptr) std::copy_n(call_.bias + tile * kTileRows, columns, first);
    TileCall part;
    part.form = &form_;
    part.tile = call_.weight + tile * form_.tile_bytes;
    part.first = first;
    // The first chunk's panels together fetch the next tile.
    const bool fetch = chunk == 0 && tile + 1 < form_.tiles;
    const int64_t wanted = form_.tile_bytes / 64, steps = (end - begin) * form_.groups;
    part.lines = fetch ? (wanted + steps - 1) / steps : 0;
    part.ahead = part.tile + form_.tile_bytes;
    for (int64_t panel = begin; panel < end; ++panel) {
      part.x = panel_at(panel);
      if (call_.epilogue == LinearEpilogue::kSwiGlu) {
        gated(part, row_of(panel), tile);
      } else if (columns == kTileRows) {
        whole(part, row_of(panel), tile);
      } else {
        narrow(part, row_of(panel), tile, columns);
      }
      part.ahead += part.lines * form_.groups * 64;
      if (part.ahead >= part.tile + 2 * form_.tile_bytes) part.lines = 0;
    }
  }

  void whole(TileCall& part, int64_t row, int64_t tile) const {
    const int64_t at = row * call_.width + tile * kTileRows;
    part.low = call_.y + at;
    part.high = part.low + kHalfTile;
    part.residual = call_.residual == nullptr ? nullptr : call_.residual + at;
    part.stride = call_.width;
    kernels_.multiply(part);
  }

  // The last tile, where the matrix has fewer rows than a tile.
  void narrow(TileCall& part, int64_t row, int64_t tile, int64_t columns) const {
    float result[kMostPanelRows * kTileRows], residual[kMostPanelRows * kTileRows] = {};
    const int64_t at = row * call_.width + tile * kTileRows;
    if (call_.residual != nullptr) {
      for (int64_t r = 0; r < part.x.rows; ++r) {
        std::copy_n(call_.residual + at + r * call_.width, columns, residual + r * kTileRows);
      }
    }
    part.low = result;
    part.high = result + kHalfTile;
    part.residual = call_.residual == nullptr ? nullptr : residual;
    part.stride = kTileRows;
    kernels_.multiply(part);
    for (int64_t r = 0; r < part.x.rows; ++r) {
      std::copy_n(result + r * kTileRows, columns, call_.y + at + r * call_.width);
    }
  }

  void gated(TileCall& part, int64_t row, int64_t tile) const {
    float gates[kMostPanelRows * kHalfTile], ups[kMostPanelRows * kHalfTile];
    part.low = gates;
    part.high = ups;
    part.residual = nullptr;
    part.stride = kHalfTile;
    kernels_.multiply(part);
    active_kernels()->silu_mul(gates, ups, gates, static_cast<size_t>(part.x.rows * kHalfTile));
    for (int64_t r = 0; r < part.x.rows; ++r) {
      std::copy_n(gates + r * kHalfTile, kHalfTile, call_.y + (row + r) * call_.width + tile * kHalfTile);
    }
  }

  const Context& context_;
  const LinearCall& call_;
  const LinearForm& form_;
  const LinearKernels& kernels_;
  int64_t count_;  // of panels
  int64_t workers_, chunks_;
  Panel x_;        // of all rows
  float* normed_;  // a row for each worker
  Panels* panels_;
  Share* shares_;
};

}  // namespace

OrtStatus* run_linear(const Context& context, const LinearCall& call) {
  return call.count == 0 ? nullptr : LinearRun(context, call).run();
}

}  // namespace peregrine
