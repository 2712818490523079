// Calls the op library as onnxruntime and ctypes do, without either: for sanitizers, which would have to know both.
//
//   driver LIBRARY < cases > answers
//
// Every buffer of a case lies against a page that may not be touched. A case is computed by several callers at once,
// each with memory of its own, on threads that are started for it; their results must be the same. calls.py has the
// other side of the format.
#include <dlfcn.h>
#include <sched.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <string>
#include <thread>
#include <vector>

#include "ort_abi.h"

struct OrtStatus {
  std::string message;
};
struct OrtTensorTypeAndShapeInfo {
  std::vector<int64_t> dims;
};
struct OrtValue {
  OrtTensorTypeAndShapeInfo shape;
  void* data;
};
struct OrtKernelInfo {
  std::map<std::string, int64_t> integers;
  std::map<std::string, float> floats;
};
struct OrtKernelContext {
  std::vector<OrtValue> inputs, outputs;
  std::vector<bool> present;
  int threads;
};

// The library cuts its work for as many threads as there are processors: always these, wherever it runs.
extern "C" int sched_getaffinity(pid_t, size_t size, cpu_set_t* set) noexcept {
  memset(set, 0, size);
  for (int processor = 0; processor < 4; ++processor) CPU_SET(processor, set);
  return 0;
}

namespace {

[[noreturn]] void fail(const char* what) {
  fprintf(stderr, "driver: %s\n", what);
  _exit(3);
}

// ---- onnxruntime -----------------------------------------------------------------------------------------------------

std::map<std::string, std::vector<const OrtCustomOp*>> ops;

template <class Map, class Value>
OrtStatus* find(const Map& values, const char* name, Value* value) {
  const auto found = values.find(name);
  if (found == values.end()) return new OrtStatus{"no such attribute"};
  *value = found->second;
  return nullptr;
}

OrtStatus* parallel_for(const OrtKernelContext* context, void (*body)(void*, size_t), size_t total, size_t,
                        void* user) {
  // All begin together: a thread that came late would find nothing left to do.
  std::atomic<size_t> next{0};
  std::atomic<int> missing{context->threads};
  auto work = [&] {
    missing.fetch_sub(1);
    while (missing.load() > 0) std::this_thread::yield();
    for (size_t i; (i = next.fetch_add(1, std::memory_order_relaxed)) < total;) body(user, i);
  };
  std::vector<std::thread> helpers;
  for (int i = 1; i < context->threads; ++i) helpers.emplace_back(work);
  work();
  for (std::thread& helper : helpers) helper.join();
  return nullptr;
}

OrtStatus* get_output(OrtKernelContext* context, size_t index, const int64_t* dims, size_t rank, OrtValue** value) {
  *value = nullptr;
  if (index >= context->outputs.size()) return nullptr;
  const std::vector<int64_t> wanted(dims, dims + rank);
  if (wanted != context->outputs[index].shape.dims) return new OrtStatus{"the output has another shape"};
  *value = &context->outputs[index];
  return nullptr;
}

template <class Function>
void (*entry(Function function))() {
  return reinterpret_cast<void (*)()>(function);
}

// The positions are those that ort_abi.cc binds.
struct Table {
  void (*entries[278])();

  Table() {
    for (auto& slot : entries) slot = [] { fail("the library calls an entry of OrtApi that the driver does not have"); };
    entries[0] = entry(+[](int, const char* message) { return new OrtStatus{message}; });
    entries[26] = entry(+[](const char*, OrtCustomOpDomain**) -> OrtStatus* { return nullptr; });
    entries[27] = entry(+[](OrtCustomOpDomain*, const OrtCustomOp* op) -> OrtStatus* {
      ops[op->GetName(op)].push_back(op);
      return nullptr;
    });
    entries[28] = entry(+[](OrtSessionOptions*, OrtCustomOpDomain*) -> OrtStatus* { return nullptr; });
    entries[51] = entry(+[](OrtValue* value, void** data) -> OrtStatus* {
      *data = value->data;
      return nullptr;
    });
    entries[61] = entry(+[](const OrtTensorTypeAndShapeInfo* info, size_t* rank) -> OrtStatus* {
      *rank = info->dims.size();
      return nullptr;
    });
    entries[62] = entry(+[](const OrtTensorTypeAndShapeInfo* info, int64_t* dims, size_t rank) -> OrtStatus* {
      std::copy_n(info->dims.begin(), rank, dims);
      return nullptr;
    });
    entries[65] = entry(+[](const OrtValue* value, OrtTensorTypeAndShapeInfo** info) -> OrtStatus* {
      *info = new OrtTensorTypeAndShapeInfo(value->shape);
      return nullptr;
    });
    entries[85] = entry(+[](const OrtKernelInfo* info, const char* name, float* value) {
      return find(info->floats, name, value);
    });
    entries[86] = entry(+[](const OrtKernelInfo* info, const char* name, int64_t* value) {
      return find(info->integers, name, value);
    });
    entries[88] = entry(+[](const OrtKernelContext* context, size_t* count) -> OrtStatus* {
      *count = context->inputs.size();
      return nullptr;
    });
    entries[90] = entry(+[](const OrtKernelContext* context, size_t index, const OrtValue** value) -> OrtStatus* {
      *value = context->present[index] ? &context->inputs[index] : nullptr;
      return nullptr;
    });
    entries[91] = entry(get_output);
    entries[93] = entry(+[](OrtStatus* status) { delete status; });
    entries[99] = entry(+[](OrtTensorTypeAndShapeInfo* info) { delete info; });
    entries[274] = entry(parallel_for);
  }
};

const Table table;
const OrtApiBase base = {[](uint32_t) { return reinterpret_cast<const OrtApi*>(&table); }, [] { return "driver"; }};

// ---- memory ----------------------------------------------------------------------------------------------------------

// Bytes that end where a page begins that may not be touched, or begin where one ends.
class Guarded {
 public:
  Guarded(const std::string& bytes, bool at_end) {
    const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE)), room = (bytes.size() + page - 1) / page * page;
    size_ = room + 2 * page;
    void* memory = mmap(nullptr, size_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) fail("no memory");
    memory_ = static_cast<char*>(memory);
    if (room > 0 && mprotect(memory_ + page, room, PROT_READ | PROT_WRITE) != 0) fail("no memory");
    data_ = memory_ + page + (at_end ? room - bytes.size() : 0);
    memcpy(data_, bytes.data(), bytes.size());
  }
  ~Guarded() { munmap(memory_, size_); }
  Guarded(const Guarded&) = delete;
  Guarded& operator=(const Guarded&) = delete;

  char* data() const { return data_; }

 private:
  char* memory_;
  char* data_;
  size_t size_;
};

// ---- cases -----------------------------------------------------------------------------------------------------------

template <class T>
T read_number() {
  T value;
  if (fread(&value, sizeof value, 1, stdin) != 1) fail("the case ends early");
  return value;
}

std::string read_bytes() {
  std::string bytes(read_number<uint64_t>(), '\0');
  if (fread(bytes.data(), 1, bytes.size(), stdin) != bytes.size()) fail("the case ends early");
  return bytes;
}

void write_bytes(const std::string& bytes) {
  const uint64_t size = bytes.size();
  fwrite(&size, sizeof size, 1, stdout);
  fwrite(bytes.data(), 1, size, stdout);
}

struct Port {
  int64_t buffer;  // -1: absent
  std::vector<int64_t> dims;
};
struct Patch {
  int64_t buffer, offset, target;
};
struct Argument {
  int64_t is_buffer, value;
};

struct Case {
  std::string name, isa, linear_isa;
  int64_t kernel;  // which of the ops of this name; -1: a C function
  int64_t threads, callers;
  std::vector<std::string> buffers;
  OrtKernelInfo info;              // of an op
  std::vector<Port> inputs, outputs;
  std::vector<Patch> patches;      // of a function: addresses in buffers
  std::vector<Argument> arguments;
};

template <class T, class Read>
void read_list(std::vector<T>& list, Read read) {
  for (auto left = read_number<int64_t>(); left > 0; --left) list.push_back(read());
}

Port read_port() {
  Port port{read_number<int64_t>(), {}};
  read_list(port.dims, read_number<int64_t>);
  return port;
}

Case read_case() {
  Case one;
  one.name = read_bytes();
  one.isa = read_bytes();
  one.linear_isa = read_bytes();
  one.kernel = read_number<int64_t>();
  one.threads = read_number<int64_t>();
  one.callers = read_number<int64_t>();
  read_list(one.buffers, read_bytes);
  for (auto left = read_number<int64_t>(); left > 0; --left) {
    const std::string name = read_bytes();
    one.info.integers[name] = read_number<int64_t>();
  }
  for (auto left = read_number<int64_t>(); left > 0; --left) {
    const std::string name = read_bytes();
    one.info.floats[name] = static_cast<float>(read_number<double>());
  }
  read_list(one.inputs, read_port);
  read_list(one.outputs, read_port);
  read_list(one.patches, [] { return Patch{read_number<int64_t>(), read_number<int64_t>(), read_number<int64_t>()}; });
  read_list(one.arguments, [] { return Argument{read_number<int64_t>(), read_number<int64_t>()}; });
  return one;
}

std::string take_message(OrtStatus* status) {
  std::string message = status == nullptr ? "" : status->message;
  delete status;
  return message;
}

std::string run_op(const Case& one, const std::vector<char*>& memory) {
  const OrtCustomOp* op = ops[one.name].at(static_cast<size_t>(one.kernel));
  OrtKernelContext context;
  context.threads = static_cast<int>(one.threads);
  for (const Port& port : one.inputs) {
    context.present.push_back(port.buffer >= 0);
    context.inputs.push_back({{port.dims}, port.buffer < 0 ? nullptr : memory[static_cast<size_t>(port.buffer)]});
  }
  for (const Port& port : one.outputs) {
    context.outputs.push_back({{port.dims}, memory[static_cast<size_t>(port.buffer)]});
  }
  void* kernel = nullptr;
  std::string message = take_message(op->CreateKernelV2(op, nullptr, &one.info, &kernel));
  if (message.empty()) message = take_message(op->KernelComputeV2(kernel, &context));
  if (kernel != nullptr) op->KernelDestroy(kernel);
  return message;
}

std::string run_function(const Case& one, void* library, const std::vector<char*>& memory) {
  for (const Patch& patch : one.patches) {
    memcpy(memory[static_cast<size_t>(patch.buffer)] + patch.offset, &memory[static_cast<size_t>(patch.target)],
           sizeof(void*));
  }
  int64_t a[4] = {};
  for (size_t i = 0; i < one.arguments.size() && i < 4; ++i) {
    const Argument& given = one.arguments[i];
    a[i] = given.is_buffer ? reinterpret_cast<int64_t>(memory[static_cast<size_t>(given.value)]) : given.value;
  }
  auto* function = reinterpret_cast<void (*)(int64_t, int64_t, int64_t, int64_t)>(dlsym(library, one.name.c_str()));
  if (function == nullptr) return "no such function";
  function(a[0], a[1], a[2], a[3]);
  // Addresses differ from run to run: what is compared afterwards has none.
  for (const Patch& patch : one.patches) {
    memset(memory[static_cast<size_t>(patch.buffer)] + patch.offset, 0, sizeof(void*));
  }
  return "";
}

// A message if the library refuses the case, and what is in its buffers afterwards.
std::vector<std::string> run_alone(const Case& one, void* library, bool at_end) {
  std::vector<std::string> answer;
  std::vector<Guarded*> owned;
  std::vector<char*> memory;
  for (const std::string& bytes : one.buffers) {
    owned.push_back(new Guarded(bytes, at_end));
    memory.push_back(owned.back()->data());
  }
  answer.push_back(one.kernel >= 0 ? run_op(one, memory) : run_function(one, library, memory));
  for (size_t i = 0; i < owned.size(); ++i) {
    answer.emplace_back(memory[i], one.buffers[i].size());
    delete owned[i];
  }
  return answer;
}

std::vector<std::string> run_case(const Case& one, void* library) {
  std::vector<std::vector<std::string>> answers(static_cast<size_t>(one.callers));
  std::vector<std::thread> callers;
  for (size_t i = 0; i < answers.size(); ++i) {
    callers.emplace_back([&, i] { answers[i] = run_alone(one, library, i % 2 == 0); });
  }
  for (std::thread& caller : callers) caller.join();
  for (const auto& answer : answers) {
    if (answer != answers[0]) return {"callers at the same time got different results"};
  }
  return answers[0];
}

}  // namespace

int main(int, char** arguments) {
  void* library = dlopen(arguments[1], RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) fail(dlerror());
  auto* add = reinterpret_cast<OrtStatus* (*)(OrtSessionOptions*, const OrtApiBase*)>(dlsym(library, "RegisterCustomOps"));
  auto* force = reinterpret_cast<int (*)(const char*)>(dlsym(library, "peregrine_force_isa"));
  auto* force_linear = reinterpret_cast<int (*)(const char*)>(dlsym(library, "peregrine_force_linear_isa"));
  if (add == nullptr || add(nullptr, &base) != nullptr) fail("the library does not register its ops");
  for (int more; (more = getchar()) != EOF;) {
    const Case one = read_case();
    if (!force(one.isa.c_str()) || !force_linear(one.linear_isa.empty() ? nullptr : one.linear_isa.c_str())) {
      fail("no such instruction set");
    }
    const std::vector<std::string> answer = run_case(one, library);
    const uint64_t count = answer.size();
    fwrite(&count, sizeof count, 1, stdout);
    for (const std::string& bytes : answer) write_bytes(bytes);
    fflush(stdout);
  }
  return 0;
}
