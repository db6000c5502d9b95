// Floats on cache-line boundaries, not initialized.
#pragma once

#include <cstddef>
#include <memory>
#include <new>

namespace basinvol {
namespace cpu {

class Buffer {
 public:
  Buffer() = default;
  explicit Buffer(std::size_t size)
      : size_(size), data_(static_cast<float*>(::operator new(size * sizeof(float), std::align_val_t{64}))) {}

  // Room for `size` floats; the contents are lost if it grows.
  void reserve(std::size_t size) {
    if (size > size_) *this = Buffer(size);
  }

  float* data() { return data_.get(); }
  const float* data() const { return data_.get(); }
  std::size_t size() const { return size_; }

 private:
  struct Delete {
    void operator()(float* data) const { ::operator delete(data, std::align_val_t{64}); }
  };
  std::size_t size_ = 0;
  std::unique_ptr<float, Delete> data_;
};

}  // namespace cpu
}  // namespace basinvol
