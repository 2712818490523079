"""The offline half: checkpoint -> ONNX -> compiled bundle."""

import runtime  # noqa: F401 - whose settings for ONNX Runtime hold before that is loaded
