"""Makes each test folder's helper modules importable by their names."""

import runtime  # noqa: F401 - whose settings for ONNX Runtime hold before that is loaded
