// parallel_for with a body that may be a lambda. Internal.
#pragma once

#include "receptance/kernels.h"

namespace receptance {

// Runs body(begin, end) on pieces of [begin, end), at least `grain` long, as threads.parallel_for.
template <typename Body>
void parallel_for(int64_t begin, int64_t end, int64_t grain, const Threads& threads,
                  const Body& body) {
  const Task task = [](int64_t piece_begin, int64_t piece_end, void* context) {
    (*static_cast<const Body*>(context))(piece_begin, piece_end);
  };
  threads.parallel_for(begin, end, grain, task, const_cast<Body*>(&body));
}

}  // namespace receptance
