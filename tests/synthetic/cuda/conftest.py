from __future__ import annotations

import pytest
from cuda_host.host_kernels import HostKernels

from runtime.cuda.kernel_cache import KERNELS, kernel_source


@pytest.fixture(scope="session")
def sampling_kernels() -> HostKernels:
    return HostKernels(kernel_source(KERNELS / "sampling.cu"))
