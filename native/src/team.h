// Threads that go through one piece of work together, phase by phase. Internal.
#pragma once

#include <atomic>
#include <cstdint>
#include <thread>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "receptance/kernels.h"

namespace receptance {

// All threads run the same code; `share` hands out the parts of a phase and ends with all of them
// done. Handing work to PyTorch's threads anew for each of the hundred phases of a token would cost
// microseconds each; a wait here costs tenths of one.
//
// The pieces of a parallel_for must run at the same time, as they do on PyTorch's OpenMP threads.
class Team {
 public:
  // Runs body(team) on all threads, or on as many as `most`, for which there is work.
  template <typename Body>
  static void run(const Threads& threads, int64_t most, const Body& body) {
    if (most > most_members) most = most_members;
    const int64_t n = threads.count < most ? threads.count : (most > 1 ? most : 1);
    Shared shared;
    struct Context {
      Shared& shared;
      const Body& body;
      int64_t n;
    } context{shared, body, n};
    const Task task = [](int64_t begin, int64_t end, void* pointer) {
      const Context& context = *static_cast<Context*>(pointer);
      Team team(context.shared, end - begin, context.n);
      context.body(team);
    };
    threads.parallel_for(0, n, 1, task, &context);
  }

  // How many threads there are, and which of them this is.
  int64_t size() const { return members_; }
  int64_t rank() const { return rank_; }

  // Calls f(i) for each i of [0, n), each on one of the threads; returns when all are done. A
  // thread has a range of its own, so that memory is read in long streams; one that is done early
  // helps the others.
  template <typename F>
  void share(int64_t n, const F& f) {
    for (int64_t i = 0; i < members_; ++i) {
      const int64_t whose = (rank_ + i) % members_;
      const int64_t begin = n * whose / members_, end = n * (whose + 1) / members_;
      for (;;) {
        const int64_t at = begin + shared_.taken[whose].n.fetch_add(1, std::memory_order_relaxed);
        if (at >= end) break;
        f(at);
      }
    }
    wait_for_all();
  }

 private:
  static constexpr int64_t most_members = 256;
  static constexpr int n_spins = 2000;  // tens of microseconds: then the processor may be lent away

  struct alignas(64) Counter {
    std::atomic<int64_t> n{0};
  };

  struct Shared {
    Counter taken[most_members];       // of each member's range in this phase
    Counter pieces, members, arrived;  // how many there are
    std::atomic<int32_t> phase{0};
  };

  // A task may be given several of the n pieces, where there are fewer threads than were promised:
  // when all n are given out, all members are here.
  Team(Shared& shared, int64_t n_pieces, int64_t n) : shared_(shared) {
    rank_ = shared.members.n.fetch_add(1);
    shared.pieces.n.fetch_add(n_pieces);
    for (int i = 0; shared.pieces.n.load() < n; ++i) {
      i < n_spins ? pause() : std::this_thread::yield();
    }
    members_ = shared.members.n.load();
  }

  void wait_for_all() {
    const int32_t phase = shared_.phase.load(std::memory_order_relaxed);
    if (shared_.arrived.n.fetch_add(1, std::memory_order_acq_rel) + 1 == members_) {
      shared_.arrived.n.store(0, std::memory_order_relaxed);
      for (int64_t i = 0; i < members_; ++i) {
        shared_.taken[i].n.store(0, std::memory_order_relaxed);
      }
      shared_.phase.store(phase + 1, std::memory_order_release);
      shared_.phase.notify_all();
      return;
    }
    for (int i = 0; i < n_spins; ++i) {
      if (shared_.phase.load(std::memory_order_acquire) != phase) return;
      pause();
    }
    shared_.phase.wait(phase, std::memory_order_acquire);
  }

  static void pause() {
#if defined(__x86_64__)
    _mm_pause();
#elif defined(__aarch64__)
    asm volatile("isb");
#endif
  }

  Shared& shared_;
  int64_t rank_, members_;
};

}  // namespace receptance
