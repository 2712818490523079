"""What no bundle may be published with."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from build_engine.errors import BuildError


def refuse_not_finite(what: str, reference: npt.NDArray[np.float32], engine: npt.NDArray[np.float32]) -> None:
    """Checks a step's outputs; ``what`` is ``logits`` or ``scores``.

    Raises:
        BuildError: A number is infinite or none.
    """
    for values, whose in ((reference, "the model's (in float32)"), (engine, "the engine's")):
        if not np.isfinite(values).all():
            raise BuildError(f"{whose} {what} are not finite: a KV cache of float32 or other weights are needed")
