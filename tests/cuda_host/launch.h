// Calls a kernel with arguments given as addresses of their values, as cuLaunchKernel does.
#pragma once

#include <tuple>
#include <type_traits>
#include <utility>

#include "fibers.h"

namespace cuda_host {

struct Launch {
    const unsigned* dims;  // grid x, y, z, block x, y, z
    size_t shared_bytes;
    unsigned seed;
    void** arguments;
    const size_t* sizes;  // of each argument, in bytes
    size_t count;
    char* message;  // 256 bytes
};

template <class... P>
struct Call {
    void (*kernel)(P...);
    void** arguments;

    template <size_t... I>
    void apply(std::index_sequence<I...>) {
        kernel(*static_cast<std::remove_reference_t<P>*>(arguments[I])...);
    }
    static void run(void* self) { static_cast<Call*>(self)->apply(std::index_sequence_for<P...>{}); }
};

template <class... P>
int launch(void (*kernel)(P...), const Launch& given) {
    const size_t sizes[] = {sizeof(P)..., 0};
    if (given.count != sizeof...(P)) {
        std::snprintf(given.message, 256, "%zu arguments given, %zu taken", given.count, sizeof...(P));
        return 1;
    }
    for (size_t i = 0; i < given.count; ++i) {
        if (sizes[i] != given.sizes[i]) {
            std::snprintf(given.message, 256, "argument %zu has %zu bytes, not %zu", i, given.sizes[i], sizes[i]);
            return 1;
        }
    }
    Call<P...> call{kernel, given.arguments};
    const int failed = run_grid(given.dims, given.shared_bytes, given.seed, &Call<P...>::run, &call);
    std::memcpy(given.message, error, sizeof error);
    return failed;
}

}  // namespace cuda_host
