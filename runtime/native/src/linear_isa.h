// Which kernels of the linear op run: the best that the processor has within the instruction set of isa.h.
#pragma once

#include "linear_kernels.h"

namespace peregrine {

const LinearKernels* active_linear_kernels();

// Uses other kernels from now on, whatever isa.h says; false if there are none of that name here. Null: back again.
bool force_linear_kernels(const char* name);

}  // namespace peregrine
