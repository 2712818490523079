"""``cuda.bindings.driver`` with its error codes turned into exceptions."""

from __future__ import annotations

from typing import Any

from runtime.cuda.errors import CudaError

_OPENING = "opening the GPU"


class Driver:
    """Calls into the driver.

    Args:
        bindings: The module ``cuda.bindings.driver``.
    """

    def __init__(self, bindings: Any) -> None:
        self._bindings = bindings

    @classmethod
    def load(cls) -> Driver:
        """The machine's driver, initialised.

        Raises:
            CudaError: It or its Python package is not there, or it refuses to start.
        """
        try:
            from cuda.bindings import driver
        except ImportError as error:
            text = "needs the package cuda-python, of the extras tensorrt, tensorrt-rtx and cuda"
            raise CudaError(_OPENING, "", text) from error
        loaded = cls(driver)
        try:
            loaded.call("cuInit", 0)
        except RuntimeError as error:  # NOTE: the library itself is loaded by the first call
            raise CudaError(_OPENING, "", "this machine has no NVIDIA driver") from error
        return loaded

    def call(self, function: str, *arguments: object) -> Any:
        """Call ``function``.

        Returns:
            Its one result, or a list of several; ``None`` where it has none.

        Raises:
            CudaError: It did not succeed.
        """
        code, *results = getattr(self._bindings, function)(*arguments)
        if code:
            raise CudaError(function, code.name, self._text(code))
        if not results:
            return None
        return results[0] if len(results) == 1 else results

    def succeeded(self, function: str, waiting: str, *arguments: object) -> bool:
        """Call ``function``, which may also answer ``waiting``; returns whether it did not.

        Raises:
            CudaError: It answered anything else.
        """
        (code, *_) = getattr(self._bindings, function)(*arguments)
        if code and code.name != waiting:
            raise CudaError(function, code.name, self._text(code))
        return not code

    def constant(self, enumeration: str, name: str) -> Any:
        """A member of one of the bindings' enumerations."""
        return getattr(getattr(self._bindings, enumeration), name)

    def structure(self, name: str) -> Any:
        """A new structure of the bindings."""
        return getattr(self._bindings, name)()

    def _text(self, code: Any) -> str:
        _, text = self._bindings.cuGetErrorString(code)
        return text.decode() if text else "unknown error"
