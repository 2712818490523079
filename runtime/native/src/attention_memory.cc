#include "attention_memory.h"

namespace peregrine {

namespace {
int64_t round_up(int64_t n, int64_t multiple) { return (n + multiple - 1) / multiple * multiple; }
}  // namespace

AttentionMemory::AttentionMemory(const Kernels& kernels, int64_t dim, int64_t rows)
    : kernels_(kernels), padded_(round_up(dim, kernels.lanes)), width_(round_up(dim, 2 * kernels.lanes)), rows_(rows) {}

void AttentionMemory::place(Carver* carver, AttentionPlan* plan, int64_t workers) {
  plan->place(carver);
  parts_ = place_state(carver, plan->part_count());
  slots_ = carver->take<unsigned char>(slot_bytes() * static_cast<size_t>(workers));
}

SoftmaxState AttentionMemory::place_state(Carver* carver, int64_t count) const {
  const auto rows = static_cast<size_t>(count * rows_);
  SoftmaxState state;
  state.max = carver->take<float>(rows);
  state.sum = carver->take<float>(rows);
  state.accumulator = carver->take<float>(rows * static_cast<size_t>(padded_));
  return state;
}

WorkerSlot AttentionMemory::place_slot(Carver* carver) const {
  const auto rows = static_cast<size_t>(rows_), padded = static_cast<size_t>(padded_);
  const auto width = static_cast<size_t>(width_), group = static_cast<size_t>(kernels_.row_group);
  WorkerSlot slot;
  slot.head = carver->take<float>(2 * padded);
  slot.queries = carver->take<float>(rows * padded);
  slot.first = carver->take<int64_t>(rows);
  slot.last = carver->take<int64_t>(rows);
  slot.scratch.queries = carver->take<float>(rows * width);
  slot.scratch.keys = carver->take<float>(kTile * width);
  slot.scratch.values = carver->take<float>(kTile * width);
  slot.scratch.sums = carver->take<float>(rows * static_cast<size_t>(kernels_.lanes));
  slot.scratch.scores = carver->take<float>(group * kTile);
  slot.scratch.weights = carver->take<float>(group * kTile);
  slot.total = place_state(carver, 1);
  slot.part = place_state(carver, 1);
  return slot;
}

size_t AttentionMemory::slot_bytes() const {
  Carver counter(nullptr);
  place_slot(&counter);
  return counter.used();
}

WorkerSlot AttentionMemory::slot(size_t worker) const {
  Carver carver(slots_ + worker * slot_bytes());
  return place_slot(&carver);
}

SoftmaxState AttentionMemory::part(int64_t index) const {
  const int64_t row = index * rows_;
  return {parts_.max + row, parts_.sum + row, parts_.accumulator + row * padded_};
}

}  // namespace peregrine
