"""Measures servers over HTTP and engines in process; ``docs/benchmarks.md`` says how."""

import runtime  # noqa: F401 - whose settings for ONNX Runtime hold before that is loaded
