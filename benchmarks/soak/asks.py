"""Valid requests of all kinds, drawn from a seed: what is asked, not how it is delivered."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any, Literal

import msgspec

Api = Literal["generate", "completions", "chat"]

_STEMS = (
    "The quick brown fox jumps over the lazy dog, and then it ",
    "Once upon a time there was a small server that never",
    "Q: What is 2 + 2?\nA: 4\nQ: What is 3 + 5?\nA:",
    "import os\nimport sys\n\n\ndef main() -> int:\n    ",
    "Ünïcödé 日本語 text ",
)
_SCHEMA = {
    "type": "object",
    "properties": {"a": {"type": "integer", "minimum": 0, "maximum": 99}, "b": {"enum": ["x", "yes", "no"]}},
    "required": ["a", "b"],
    "additionalProperties": False,
}
_PATTERNS = ("[a-c]{3,20}", "(yes|no|maybe) [0-9]{1,4}", "[A-Z][a-z]{0,9}( [a-z]{1,5}){0,3}")
_GRAMMAR = 'root ::= item ("," item)*\nitem ::= "ab" | "cd" | [0-9]'
_MOST_SAMPLES = 3
_MOST_NEW_TOKENS = 90
"""Of all samples together: any request fits the smallest KV cache that it is sent to."""


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    """A request whose answer is a function of itself: greedy, or with a seed.

    Attributes:
        api: ``generate`` is LightLLM's, the others are OpenAI's.
        body: Without ``stream``.
    """

    api: Api
    body: dict[str, Any]

    @property
    def streams(self) -> bool:
        """Whether it may be answered by a stream."""
        if self.api == "generate":
            return "n" not in self.body["parameters"]
        return "best_of" not in self.body

    def call(self, *, stream: bool) -> tuple[str, bytes]:
        """Path and body."""
        if self.api == "generate":
            return "/generate_stream" if stream else "/generate", json.dumps(self.body).encode()
        path = "/v1/completions" if self.api == "completions" else "/v1/chat/completions"
        flags = {"stream": True, "stream_options": {"include_usage": True}} if stream else {}
        return path, json.dumps(self.body | flags).encode()


def draw(rng: random.Random, last_token: int) -> Ask:
    """A request whose prompt may begin like others'; ``last_token`` is the largest id of a prompt."""
    api: Api = rng.choice(("generate", "generate", "completions", "chat"))
    return _DRAWERS[api](rng, last_token)


def pool(count: int, seed: int, last_token: int) -> list[Ask]:
    """``count`` distinct requests, the same for a seed however many more are drawn."""
    rng, found = random.Random(f"pool {seed}"), dict[bytes, Ask]()
    while len(found) < count:
        ask = draw(rng, last_token)
        found.setdefault(msgspec.json.encode(ask), ask)
    return list(found.values())


def _generate(rng: random.Random, last_token: int) -> Ask:
    samples = _samples(rng)
    parameters = _lengths(rng, samples, "max_new_tokens", "min_new_tokens") | _some(rng, _NATIVE_OPTIONS)
    parameters |= {"do_sample": True, "seed": rng.randrange(2**64)} if rng.random() < 0.6 else {"do_sample": False}
    if samples > 1:
        parameters["n"] = parameters["best_of"] = samples
    if rng.random() < 0.25:
        key, value = rng.choice(
            [
                ("regular_constraint", rng.choice(_PATTERNS)),
                ("guided_json", json.dumps(_SCHEMA)),
                ("guided_grammar", _GRAMMAR),
                ("allowed_token_ids", sorted({rng.randint(10, last_token) for _ in range(rng.randint(1, 40))})),
            ]
        )
        parameters[key] = value
    inputs = _ids(rng, last_token) if rng.random() < 0.3 else _text(rng)
    return Ask(api="generate", body={"inputs": inputs, "parameters": parameters | {"return_details": True}})


def _completions(rng: random.Random, last_token: int) -> Ask:
    body = _openai(rng, last_token)
    prompts = [_ids, lambda rng, _: _text(rng)]
    body["prompt"] = rng.choice(prompts)(rng, last_token)
    if rng.random() < 0.15:
        body["prompt"] = [_text(rng), _text(rng)]
    if rng.random() < 0.5:
        body["logprobs"] = rng.choice((0, 1, 5))
    if rng.random() < 0.2:
        body["echo"] = True
        body["max_tokens"] = rng.choice((0, body["max_tokens"]))
        body.pop("min_tokens", None)
    if "n" in body and rng.random() < 0.4:
        body["best_of"], body["n"] = body["n"], rng.randint(1, body["n"])
    return Ask(api="completions", body=body)


def _chat(rng: random.Random, last_token: int) -> Ask:
    body = _openai(rng, last_token)
    body["messages"] = [{"role": "user", "content": _text(rng)}]
    if rng.random() < 0.3:
        body["messages"].insert(0, {"role": "system", "content": "You are brief."})
    if rng.random() < 0.5:
        body |= {"logprobs": True, "top_logprobs": rng.choice((0, 1, 5))}
    return Ask(api="chat", body=body)


def _openai(rng: random.Random, last_token: int) -> dict[str, Any]:
    samples = _samples(rng)
    body = {"model": "m"} | _lengths(rng, samples, "max_tokens", "min_tokens") | _some(rng, _OPENAI_OPTIONS)
    body |= {"seed": rng.randrange(2**63)} if rng.random() < 0.6 else {"temperature": 0}
    if samples > 1:
        body["n"] = samples
    if rng.random() < 0.15:
        body["logit_bias"] = {str(rng.randint(10, last_token)): rng.choice((-100, -2.5, 3, 20)) for _ in range(4)}
    if rng.random() < 0.25:
        schema = {"type": "json_schema", "json_schema": {"name": "s", "schema": _SCHEMA}}
        key, value = rng.choice(
            [
                ("guided_regex", rng.choice(_PATTERNS)),
                ("guided_choice", ["red", "green", "dark blue"]),
                ("response_format", schema),
            ]
        )
        body[key] = value
    return body


def _samples(rng: random.Random) -> int:
    return rng.choice((1, 1, 1, 1, rng.randint(2, _MOST_SAMPLES)))


def _lengths(rng: random.Random, samples: int, most: str, least: str) -> dict[str, Any]:
    limit = _MOST_NEW_TOKENS // samples
    count = rng.choice((1, 2, rng.randint(3, limit), rng.randint(3, limit), limit))
    return {most: count} | ({least: rng.randint(1, count)} if rng.random() < 0.2 else {})


def _text(rng: random.Random) -> str:
    """One of a few beginnings, long enough for blocks to be shared, and sometimes a tail of its own."""
    stem = rng.choice(_STEMS)
    tail = "".join(rng.choices("abcdefghij klmnopqrstuvwxyz.,\n", k=rng.choice((0, 0, 3, 24))))
    return stem[: rng.randint(4, len(stem))] + tail


def _ids(rng: random.Random, last_token: int) -> list[int]:
    stem = random.Random(rng.randrange(4))
    shared = [stem.randint(10, last_token) for _ in range(48)][: rng.randint(1, 48)]
    return shared + [rng.randint(10, last_token) for _ in range(rng.choice((0, 1, 16)))]


def _some(rng: random.Random, options: dict[str, Callable[[random.Random], Any]]) -> dict[str, Any]:
    return {name: drawn(rng) for name, drawn in options.items() if rng.random() < 0.2}


_SHARED_OPTIONS: dict[str, Callable[[random.Random], Any]] = {
    "temperature": lambda rng: rng.choice((0.2, 0.7, 1.0, 1.7)),
    "top_p": lambda rng: rng.choice((0.3, 0.9, 0.99)),
    "top_k": lambda rng: rng.choice((-1, 1, 3, 40, 1000)),
    "presence_penalty": lambda rng: rng.choice((0.0, 0.4, 1.5)),
    "frequency_penalty": lambda rng: rng.choice((0.0, 0.3, 1.1)),
    "repetition_penalty": lambda rng: rng.choice((1.0, 1.1, 1.6)),
    "ignore_eos": lambda rng: rng.random() < 0.7,
    "skip_special_tokens": lambda rng: rng.random() < 0.5,
    "add_special_tokens": lambda rng: rng.random() < 0.5,
}
_NATIVE_OPTIONS = _SHARED_OPTIONS | {
    "input_penalty": lambda rng: rng.random() < 0.7,
    "exponential_decay_length_penalty": lambda rng: [rng.randint(1, 20), rng.choice((1.01, 1.3, 2.0))],
    "stop_sequences": lambda rng: rng.choice((["e", "q"], [". ", "\n"], [[rng.randint(10, 250)], [101, 32]])),
    "print_eos_token": lambda rng: rng.random() < 0.5,
}
_OPENAI_OPTIONS = _SHARED_OPTIONS | {
    "stop": lambda rng: rng.choice((["e", "q"], ". ", ["\n", "the", "zz"])),
}
_DRAWERS: dict[Api, Callable[[random.Random, int], Ask]] = {
    "generate": _generate,
    "completions": _completions,
    "chat": _chat,
}
