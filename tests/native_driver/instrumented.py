"""A pytest plugin: the tests run on the library that PEREGRINE_INSTRUMENTED_LIBRARY names."""

from __future__ import annotations

import os
from pathlib import Path

from runtime.native import library

library._LIBRARY = Path(os.environ["PEREGRINE_INSTRUMENTED_LIBRARY"])
