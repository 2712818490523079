// Scratch memory for one call, kept between calls so that a step of many layers touches the same warm pages.
#pragma once

#include <cstddef>

namespace peregrine {

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

// Adds up the parts of a workspace and hands them out. With a null base it only counts.
class Carver {
 public:
  explicit Carver(unsigned char* base) : base_(base) {}

  template <class T>
  T* take(size_t count) {
    T* part = base_ == nullptr ? nullptr : reinterpret_cast<T*>(base_ + used_);
    used_ += (count * sizeof(T) + 63) / 64 * 64;
    return part;
  }
  size_t used() const { return used_; }

 private:
  unsigned char* base_;
  size_t used_ = 0;
};

}  // namespace peregrine
