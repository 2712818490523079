"""The online half: scheduler, KV cache, executors and sampling.

Knows no HTTP and no checkpoint formats.
"""

import os

# NOTE: ONNX Runtime reports to its makers, from a thread of its own, unless it finds this when it is loaded.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
