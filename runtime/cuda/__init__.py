"""CUDA at run time: devices and streams, kernels compiled for them, sampling on them.

Importing this package needs no GPU and no CUDA package; what does need one says so in a ``CudaError``.
"""
