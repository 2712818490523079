"""What goes wrong between the engine and CUDA."""

from __future__ import annotations


class CudaError(Exception):
    """A CUDA call failed, or CUDA cannot be used here at all.

    Attributes:
        call: The function that was called (``cuLaunchKernel``), or what was tried.
        code: The library's own name of the error (``CUDA_ERROR_OUT_OF_MEMORY``); empty when no call was made.
        text: What it means, or how to mend it.
    """

    def __init__(self, call: str, code: str, text: str) -> None:
        super().__init__(f"{call}: {code}: {text}" if code else f"{call}: {text}")
        self.call = call
        self.code = code
        self.text = text

    @property
    def out_of_memory(self) -> bool:
        """Whether device or page-locked memory ran out."""
        return self.code == "CUDA_ERROR_OUT_OF_MEMORY"
