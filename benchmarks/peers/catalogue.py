"""The engines, each with the settings that it does best with.

All get the same number of threads and the same KV capacity in tokens. Every setting that is not a default has its
reason in ``settings``, which the report repeats.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from benchmarks.peers import environments, models
from benchmarks.peers.contender import Contender, library, server
from benchmarks.peers.environments import peers_root
from benchmarks.peers.http_engine import LLAMA, OPENAI
from benchmarks.peers.us import peregrine
from benchmarks.workloads import WORKLOADS

THREADS = os.cpu_count() or 1
CAPACITY = 12288
"""Tokens of KV cache of every engine whose cache has a size: half as much again as the largest workload holds."""


def contenders() -> dict[str, Contender]:
    """All of them by name, Peregrine first."""
    every = (
        peregrine(CAPACITY),
        _llama("q4", "Q4_1, the file as it is", models.gguf),
        _llama("q8", "Q8_0, requantised from it", models.q8_0),
        _vllm(),
        _openvino("bf16", "fp16", "bf16"),
        _openvino("f32", "fp16", "f32"),
        _openvino("int8", "int8", "bf16"),
        _openvino("int8-f32", "int8", "f32"),
        _onnxruntime_genai(),
        _transformers(),
    )
    return {contender.name: contender for contender in every}


def _llama(name: str, weights: str, model: Callable[[], Path]) -> Contender:
    environment = environments.LLAMA_CPP
    slots = max(workload.requests for workload in WORKLOADS)

    def command(port: int) -> list[str]:
        flags = (
            f"--port {port} --threads {THREADS} --threads-batch {THREADS} --parallel {slots} --ctx-size {CAPACITY} "
            "--kv-unified --cache-ram 0 --no-webui"
        )
        return [str(environments.llama_program("llama-server")), "--model", str(model()), *flags.split()]

    return server(
        f"llama-{name}",
        environment,
        LLAMA,
        command,
        model,
        settings=(
            f"weights {weights}; flash attention and batch sizes (2048, 512) as by default",
            f"{slots} slots that share a KV cache of {CAPACITY} tokens: else each has a fixed part of it",
            "no cache of prompts in memory: no prompt comes twice, and copying states would cost time",
        ),
    )


def _vllm() -> Contender:
    environment, compiled = environments.VLLM, peers_root() / "compiled"
    block, step_tokens = 128, 4096

    def command(port: int) -> list[str]:
        flags = (
            f"--port {port} --served-model-name model --dtype bfloat16 --max-model-len 4096 --max-num-seqs 64 "
            f"--max-num-batched-tokens {step_tokens} --num-gpu-blocks-override {CAPACITY // block} "
            "--no-enable-prefix-caching"
        )
        module = ["-m", "vllm.entrypoints.openai.api_server"]
        return [str(environment.python), *module, "--model", str(models.huggingface()), *flags.split()]

    return server(
        "vllm",
        environment,
        OPENAI,
        command,
        models.huggingface,
        variables={
            "VLLM_CPU_OMP_THREADS_BIND": f"0-{THREADS - 1}",
            "VLLM_CPU_KVCACHE_SPACE": "1",
            "VLLM_CACHE_ROOT": str(compiled / "vllm"),
            "TORCHINDUCTOR_CACHE_DIR": str(compiled / "vllm-inductor"),
            "VLLM_NO_USAGE_STATS": "1",
        },
        settings=(
            "bfloat16 weights, compiled (the default), caches of compiled code kept between starts",
            f"threads bound to all {THREADS} cores: its default keeps one back",
            f"{step_tokens} tokens a step, KV cache of {CAPACITY} tokens, prefix cache off: no prompt comes twice",
        ),
    )


def _openvino(name: str, weights: str, precision: str) -> Contender:
    environment, step_tokens = environments.OPENVINO, 1024

    def arguments() -> list[str]:
        sizes = [str(THREADS), str(CAPACITY), precision, str(step_tokens)]
        return [str(models.openvino(weights)), *sizes, str(peers_root() / "compiled" / f"openvino-{name}")]

    return library(
        f"openvino-{name}",
        environment,
        "openvino_worker.py",
        arguments,
        settings=(
            f"weights {weights}, inference precision {precision}, 8-bit KV cache (the default)",
            f"continuous batching, {step_tokens} tokens a step, KV cache of {CAPACITY} tokens, no prefix cache",
            "cache of compiled models kept between starts",
        ),
    )


def _onnxruntime_genai() -> Contender:
    return library(
        "onnxruntime-genai",
        environments.ONNXRUNTIME_GENAI,
        "onnxruntime_genai_worker.py",
        lambda: [str(models.onnxruntime_genai()), str(THREADS)],
        settings=(
            "weights requantised to int4 by its own builder (int8 ones were slower), float32 KV",
            "int8 activations (its default), logits of a prompt for its last token only",
            "one static batch a call: all prompts are of one length, so nothing is padded",
            f"intra_op_num_threads {THREADS}: its default is slower",
        ),
    )


def _transformers() -> Contender:
    return library(
        "transformers",
        environments.TRANSFORMERS,
        "transformers_worker.py",
        lambda: [str(models.huggingface()), str(THREADS)],
        settings=(
            "bfloat16 weights and KV, eager, scaled_dot_product_attention (the default)",
            "one static batch a call: all prompts are of one length, so nothing is padded",
        ),
    )
