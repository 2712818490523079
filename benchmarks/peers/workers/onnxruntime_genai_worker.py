"""onnxruntime-genai: one static batch a call; its engine with continuous batching has no kernels for CPUs.

Arguments: model directory, threads.
"""

import json
import sys
from typing import Any

import numpy
import onnxruntime_genai
import protocol


def load() -> Any:
    config = onnxruntime_genai.Config(sys.argv[1])
    session = {"intra_op_num_threads": int(sys.argv[2])}
    config.overlay(json.dumps({"model": {"decoder": {"session_options": session}}}))
    return onnxruntime_genai.Model(config)


def generate(model: Any, prompts: protocol.Prompts, new_tokens: int, clock: protocol.Clock) -> None:
    length = len(prompts[0]) + new_tokens
    parameters = onnxruntime_genai.GeneratorParams(model)
    parameters.set_search_options(batch_size=len(prompts), max_length=length, min_length=length, do_sample=False)
    generator = onnxruntime_genai.Generator(model, parameters)
    generator.append_tokens(numpy.array(prompts, dtype=numpy.int32))
    while not generator.is_done():
        generator.generate_next_token()
        for request in range(len(prompts)):
            clock.got(request)


protocol.serve(load, generate)
