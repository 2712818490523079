"""The native CPU op library: ONNX Runtime custom ops of the domain ``peregrine``."""

from runtime.native.library import NativeLibraryError, active_isa, available_isas, library_path

__all__ = ["NativeLibraryError", "active_isa", "available_isas", "library_path"]
