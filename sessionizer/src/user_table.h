#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace fuseline {

// Hashes of users → their slots. Open addressing with eight bytes a place: one cache line answers nearly every question,
// which is what a look-up per event costs when there are millions of users. Deleting leaves no tombstones.
class UserTable {
 public:
  static constexpr std::uint32_t kNone = 0xffffffff;

  // The slot under `hash` for which `is_it(slot)` holds, or kNone.
  template <typename IsIt>
  std::uint32_t Find(std::uint64_t hash, IsIt is_it) const {
    if (places_.empty()) return kNone;
    const std::uint32_t tag = TagOf(hash);
    for (std::size_t i = tag & mask_; places_[i].slot != kNone; i = (i + 1) & mask_) {
      if (places_[i].tag == tag && is_it(places_[i].slot)) return places_[i].slot;
    }
    return kNone;
  }

  // Makes ready what Find will touch first. Changes nothing.
  void Prefetch(std::uint64_t hash) const {
    if (!places_.empty()) __builtin_prefetch(&places_[TagOf(hash) & mask_]);
  }

  // REQUIRES: it is not there.
  void Insert(std::uint64_t hash, std::uint32_t slot) {
    if ((size_ + 1) * 4 > places_.size() * 3) Grow();
    Put({TagOf(hash), slot});
    ++size_;
  }

  // REQUIRES: it is there.
  void Erase(std::uint64_t hash, std::uint32_t slot) {
    std::size_t hole = TagOf(hash) & mask_;
    while (places_[hole].slot != slot) hole = (hole + 1) & mask_;
    // What follows moves up, unless that would put it before its home.
    for (std::size_t i = (hole + 1) & mask_; places_[i].slot != kNone; i = (i + 1) & mask_) {
      const std::size_t home = places_[i].tag & mask_;
      if (((i - home) & mask_) < ((i - hole) & mask_)) continue;
      places_[hole] = places_[i];
      hole = i;
    }
    places_[hole] = Place();
    --size_;
  }

  std::size_t memory_bytes() const { return places_.capacity() * sizeof(Place); }

 private:
  struct Place {
    std::uint32_t tag = 0;
    std::uint32_t slot = kNone;
  };
  // The upper half: the standard library's hash is good there too, and 2^32 places are enough.
  static std::uint32_t TagOf(std::uint64_t hash) { return static_cast<std::uint32_t>(hash >> 32); }

  void Put(Place place) {
    std::size_t i = place.tag & mask_;
    while (places_[i].slot != kNone) i = (i + 1) & mask_;
    places_[i] = place;
  }
  void Grow() {
    std::vector<Place> old(places_.empty() ? 64 : places_.size() * 2);
    old.swap(places_);
    mask_ = places_.size() - 1;
    for (const Place& place : old) {
      if (place.slot != kNone) Put(place);
    }
  }

  std::vector<Place> places_;
  std::size_t mask_ = 0;
  std::size_t size_ = 0;
};

}  // namespace fuseline
