#include "workspace.h"

#include <atomic>
#include <cstdlib>
#include <cstring>

namespace peregrine {

namespace {

// The first bytes of every buffer hold its capacity. A slot owns the buffer in it; taking it out is an exchange, so
// that calls on several threads never share one.
constexpr size_t kHeader = 64;
std::atomic<unsigned char*> slots[8];
std::atomic<int64_t> allocated{0};

size_t& capacity_of(unsigned char* buffer) { return *reinterpret_cast<size_t*>(buffer); }

unsigned char* allocate(size_t bytes) {
  const size_t capacity = (bytes + bytes / 4 + kHeader + 4095) / 4096 * 4096;
  auto* buffer = static_cast<unsigned char*>(aligned_alloc(64, capacity));
  if (buffer != nullptr) capacity_of(buffer) = capacity;
  allocated.fetch_add(1, std::memory_order_relaxed);
  return buffer;
}

// Under the address sanitizer nobody reads what an earlier call left, unnoticed: it is not a number.
void spoil(unsigned char* buffer) {
#if defined(__SANITIZE_ADDRESS__)
  __asan_unpoison_memory_region(buffer, capacity_of(buffer));
  memset(buffer + kHeader, 0xff, capacity_of(buffer) - kHeader);
#else
  (void)buffer;
#endif
}

}  // namespace

int64_t workspace_allocations() { return allocated.load(std::memory_order_relaxed); }

Workspace::Workspace(size_t bytes) {
  unsigned char* buffer = nullptr;
  for (auto& slot : slots) {
    buffer = slot.exchange(nullptr, std::memory_order_acquire);
    if (buffer != nullptr) break;
  }
  if (buffer != nullptr && capacity_of(buffer) < bytes + kHeader) {
    free(buffer);
    buffer = nullptr;
  }
  if (buffer == nullptr) buffer = allocate(bytes);
  if (buffer == nullptr) return;
  spoil(buffer);
  data_ = buffer + kHeader;
}

Workspace::~Workspace() {
  if (data_ == nullptr) return;
  unsigned char* buffer = data_ - kHeader;
  for (auto& slot : slots) {
    unsigned char* empty = nullptr;
    if (slot.compare_exchange_strong(empty, buffer, std::memory_order_release, std::memory_order_relaxed)) return;
  }
  free(buffer);
}

}  // namespace peregrine
