// The memory of a call: its plan, the states of splits that are computed apart, and a slot for each worker.
#pragma once

#include "attention_plan.h"
#include "kernels.h"
#include "workspace.h"

namespace peregrine {

// What one worker needs at a time.
struct WorkerSlot {
  float* head;     // [2][padded dim]
  float* queries;  // [rows][padded dim]
  int64_t* first;  // [rows]
  int64_t* last;
  AttendScratch scratch;
  SoftmaxState total, part;
};

class AttentionMemory {
 public:
  // For query blocks of at most `rows` rows.
  AttentionMemory(const Kernels& kernels, int64_t dim, int64_t rows);

  int64_t padded_dim() const { return padded_; }

  // Counts or places all of it.
  void place(Carver* carver, AttentionPlan* plan, int64_t workers);

  WorkerSlot slot(size_t worker) const;
  // The state of a split that is computed apart.
  SoftmaxState part(int64_t index) const;

 private:
  SoftmaxState place_state(Carver* carver, int64_t count) const;
  WorkerSlot place_slot(Carver* carver) const;
  size_t slot_bytes() const;

  const Kernels& kernels_;
  const int64_t padded_, width_, rows_;
  SoftmaxState parts_{};
  unsigned char* slots_ = nullptr;
};

}  // namespace peregrine
