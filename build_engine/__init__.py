"""The offline half: checkpoint -> ONNX -> compiled bundle."""
