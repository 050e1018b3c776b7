#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <memory>
#include <utility>
#include <vector>

namespace fuseline {

// One value that is replaced as a whole while others read it: hazard pointers (Michael 2004), with a slot per reader.
//
// A reader writes into its slot what it is about to read, and looks again whether it is still the current one; the writer
// replaces the current one first and looks into the slots afterwards. All four are sequentially consistent, so one of the two
// sees the other: either the reader takes the newer one, or the writer keeps the older. No reader ever waits: it looks again only when
// a new one was published in between.
//
// One thread writes (Publish, Reclaim, the destructor); any thread reads, through a Reader of its own.
template <typename T>
class SnapshotStore {
  struct Slot {
    std::atomic<const T*> pinned = nullptr;
    std::atomic<bool> taken = true;
    Slot* next = nullptr;  // Set before the slot can be seen.
  };

 public:
  // Keeps what it points to from being freed, as long as it lives.
  class Pin {
   public:
    explicit Pin(Slot& slot) : slot_(slot) {}
    ~Pin() { slot_.pinned.store(nullptr, std::memory_order_release); }
    Pin(const Pin&) = delete;
    Pin& operator=(const Pin&) = delete;

    const T* get() const { return slot_.pinned.load(std::memory_order_relaxed); }  // Null while nothing was published.

   private:
    Slot& slot_;
  };

  // A slot. One pin at a time, one thread at a time.
  class Reader {
   public:
    explicit Reader(SnapshotStore& store) : store_(&store), slot_(store.TakeSlot()) {}
    Reader(Reader&& other) noexcept : store_(other.store_), slot_(std::exchange(other.slot_, nullptr)) {}
    Reader& operator=(Reader&&) = delete;
    ~Reader() {
      if (slot_ != nullptr) slot_->taken.store(false, std::memory_order_release);
    }

    Pin PinCurrent() {
      const T* seen = store_->current_.load();
      while (true) {
        slot_->pinned.store(seen);
        const T* const again = store_->current_.load();
        if (again == seen) return Pin(*slot_);
        seen = again;
      }
    }

   private:
    SnapshotStore* store_;
    Slot* slot_;
  };

  SnapshotStore() = default;
  SnapshotStore(const SnapshotStore&) = delete;
  SnapshotStore& operator=(const SnapshotStore&) = delete;
  ~SnapshotStore() {  // REQUIRES: no reader is left.
    delete current_.load();
    for (Slot* slot = slots_.load(); slot != nullptr;) delete std::exchange(slot, slot->next);
  }

  void Publish(std::unique_ptr<const T> next) {
    retired_.emplace_back(current_.exchange(next.release()));
    Reclaim();
  }

  // Frees what no reader holds any more. Returns how many are still held.
  std::size_t Reclaim() {
    std::erase_if(retired_, [this](const std::unique_ptr<const T>& old) {
      for (Slot* slot = slots_.load(); slot != nullptr; slot = slot->next) {
        if (old != nullptr && slot->pinned.load() == old.get()) return false;
      }
      return true;
    });
    return retired_.size();
  }

  const T* current() const { return current_.load(); }  // For the writer.

 private:
  Slot* TakeSlot() {
    for (Slot* slot = slots_.load(); slot != nullptr; slot = slot->next) {
      bool taken = false;
      if (slot->taken.compare_exchange_strong(taken, true)) return slot;
    }
    auto* const slot = new Slot;
    slot->next = slots_.load();
    while (!slots_.compare_exchange_weak(slot->next, slot)) {
    }
    return slot;
  }

  std::atomic<const T*> current_ = nullptr;
  std::atomic<Slot*> slots_ = nullptr;  // Only grows; as many as there ever were readers at once.
  std::vector<std::unique_ptr<const T>> retired_;  // The writer's.
};

}  // namespace fuseline
