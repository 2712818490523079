#pragma once

#include <cstdint>

namespace peregrine {

// The most threads that a call is cut up for: the processors that this process may use, within reason. The session's
// pool may have fewer; the surplus shares then find nothing left to do.
int64_t worker_limit();

}  // namespace peregrine
