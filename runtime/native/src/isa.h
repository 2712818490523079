// Which kernels run: the widest instruction set of this processor, or the one that PEREGRINE_CPU_ISA names.
#pragma once

#include "kernels.h"

namespace peregrine {

// The kernels in use, or null if PEREGRINE_CPU_ISA asks for what this build or processor does not have.
const Kernels* active_kernels();

// The kernels called `name`, or null if this build or processor does not have them.
const Kernels* find_kernels(const char* name);

// Uses other kernels from now on; false if there are none of that name.
bool force_kernels(const char* name);

}  // namespace peregrine
