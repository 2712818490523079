#pragma once

namespace peregrine {

// What the processor has and the operating system saves on a switch of tasks.
bool cpu_has_avx2();    // with FMA and F16C
bool cpu_has_avx512();  // F, BW, DQ and VL
bool cpu_has_avx512_bfloat();
bool cpu_has_avx_vnni();
bool cpu_has_avx512_vnni();

}  // namespace peregrine
