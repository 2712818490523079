// Scratch memory for one call, kept between calls so that a step of many layers touches the same warm pages.
#pragma once

#include <cstddef>
#include <cstdint>
#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#endif

namespace peregrine {

// Bytes behind each part that may not be touched, where somebody looks.
#if defined(__SANITIZE_ADDRESS__)
constexpr size_t kGap = 64;
inline void forbid(const void* from, size_t bytes) { __asan_poison_memory_region(from, bytes); }
#else
constexpr size_t kGap = 0;
inline void forbid(const void*, size_t) {}
#endif

class Workspace {
 public:
  explicit Workspace(size_t bytes);
  ~Workspace();
  Workspace(const Workspace&) = delete;
  Workspace& operator=(const Workspace&) = delete;

  // Aligned to 64 bytes; null if memory ran out.
  unsigned char* data() const { return data_; }

 private:
  unsigned char* data_ = nullptr;
};

// Buffers that workspaces have taken from the system so far.
int64_t workspace_allocations();

// Adds up the parts of a workspace and hands them out. With a null base it only counts.
class Carver {
 public:
  explicit Carver(unsigned char* base) : base_(base) {}

  template <class T>
  T* take(size_t count) {
    const size_t bytes = count * sizeof(T), room = (bytes + 63) / 64 * 64 + kGap;
    T* part = base_ == nullptr ? nullptr : reinterpret_cast<T*>(base_ + used_);
    if (kGap > 0 && part != nullptr) forbid(base_ + used_ + bytes, room - bytes);
    used_ += room;
    return part;
  }
  size_t used() const { return used_; }

 private:
  unsigned char* base_;
  size_t used_ = 0;
};

}  // namespace peregrine
