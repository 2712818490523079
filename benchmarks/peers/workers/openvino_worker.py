"""OpenVINO GenAI's continuous batching: all requests of a call are added at once, then stepped until they end.

Arguments: model directory, threads, KV capacity in tokens, inference precision, tokens in a step, compile cache.
"""

import sys
from typing import Any

import numpy
import openvino
import openvino_genai
import protocol

KV_BLOCK = 32


def load() -> Any:
    model, threads, capacity, precision, step_tokens, cache = sys.argv[1:]
    scheduler = openvino_genai.SchedulerConfig()
    scheduler.num_kv_blocks = -(-int(capacity) // KV_BLOCK)
    scheduler.max_num_batched_tokens = int(step_tokens)
    scheduler.max_num_seqs = 64
    scheduler.enable_prefix_caching = False
    properties = {"INFERENCE_NUM_THREADS": int(threads), "INFERENCE_PRECISION_HINT": precision, "CACHE_DIR": cache}
    return openvino_genai.ContinuousBatchingPipeline(model, scheduler, "CPU", properties)


def generate(pipeline: Any, prompts: protocol.Prompts, new_tokens: int, clock: protocol.Clock) -> None:
    config = openvino_genai.GenerationConfig()
    config.max_new_tokens = config.min_new_tokens = new_tokens
    config.ignore_eos = True
    config.do_sample = False
    handles = [
        pipeline.add_request(index, openvino.Tensor(numpy.array([prompt], dtype=numpy.int64)), config)
        for index, prompt in enumerate(prompts)
    ]
    while pipeline.has_non_finished_requests():
        pipeline.step()
        for index, handle in enumerate(handles):
            while handle.can_read():
                for output in handle.read().values():
                    clock.got(index, len(output.generated_ids))


protocol.serve(load, generate)
