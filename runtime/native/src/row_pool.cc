#include "row_pool.h"

#include <pthread.h>

#include <algorithm>
#include <atomic>

namespace peregrine {

namespace {

// NOTE: plain POSIX threads: the library may be linked without a C++ runtime.

struct Rows {
  void (*run)(void*, int64_t, int);
  void* user;
  int64_t count;
  int threads;
  std::atomic<int64_t> next;
};

pthread_mutex_t calls = PTHREAD_MUTEX_INITIALIZER;  // one caller at a time
pthread_mutex_t state = PTHREAD_MUTEX_INITIALIZER;  // of what follows
pthread_cond_t work = PTHREAD_COND_INITIALIZER;
pthread_cond_t done = PTHREAD_COND_INITIALIZER;
Rows* open_rows = nullptr;  // null: nothing for helpers to do
int64_t opened = 0;         // times that rows were opened
int helpers_inside = 0;
int helpers = 0;

void take_rows(Rows* rows, int thread) {
  for (;;) {
    const int64_t index = rows->next.fetch_add(1, std::memory_order_relaxed);
    if (index >= rows->count) return;
    rows->run(rows->user, index, thread);
  }
}

void* help(void* argument) {
  const auto thread = static_cast<int>(reinterpret_cast<intptr_t>(argument));
  int64_t seen = 0;
  pthread_mutex_lock(&state);
  for (;;) {
    while (open_rows == nullptr || opened == seen) pthread_cond_wait(&work, &state);
    seen = opened;
    Rows* rows = open_rows;
    if (thread >= rows->threads) continue;
    ++helpers_inside;
    pthread_mutex_unlock(&state);
    take_rows(rows, thread);
    pthread_mutex_lock(&state);
    if (--helpers_inside == 0) pthread_cond_signal(&done);
  }
  return nullptr;
}

// A helper that cannot be started is done without.
void start_helpers(int wanted) {
  while (helpers < wanted) {
    pthread_t thread;
    if (pthread_create(&thread, nullptr, help, reinterpret_cast<void*>(static_cast<intptr_t>(helpers + 1))) != 0) return;
    pthread_detach(thread);
    ++helpers;
  }
}

}  // namespace

void for_each_row(int threads, int64_t count, void (*run)(void*, int64_t, int), void* user) {
  Rows rows{run, user, count, std::min(threads, kMaxPoolThreads), {0}};
  if (rows.threads < 2 || count < 2) {
    take_rows(&rows, 0);
    return;
  }
  pthread_mutex_lock(&calls);
  pthread_mutex_lock(&state);
  start_helpers(rows.threads - 1);
  open_rows = &rows;
  ++opened;
  pthread_cond_broadcast(&work);
  pthread_mutex_unlock(&state);
  take_rows(&rows, 0);
  pthread_mutex_lock(&state);
  open_rows = nullptr;
  while (helpers_inside > 0) pthread_cond_wait(&done, &state);
  pthread_mutex_unlock(&state);
  pthread_mutex_unlock(&calls);
}

}  // namespace peregrine
