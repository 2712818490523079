"""A mixed load that keeps count of what it did, in the names of the server's own metrics."""

from __future__ import annotations

import http.client
import json
import random
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

LONG = 400
"""Tokens asked for by a client that will leave after the first ones."""

SHARED = "The same words stand at the beginning of many prompts, so that later ones find them in the cache. " * 2


@dataclass
class Tally:
    """What clients saw.

    Attributes:
        exact: Metric -> by how much it has to have grown.
        unread: Tokens that may have been generated beyond those, for clients who had left.
    """

    exact: Counter[str] = field(default_factory=Counter)
    unread: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def answered(self, route: str, status: int) -> None:
        """An answer began."""
        with self._lock:
            self.exact[f'peregrine_http_requests_total{{method="POST",route="{route}",status="{status}"}}'] += 1

    def refused(self, route: str, status: int, prompts: int = 0) -> None:
        """An error body came.

        Args:
            route: Where.
            status: Its status.
            prompts: Prompts that had been tokenized by then.
        """
        self.answered(route, status)
        with self._lock:
            self.exact["lightllm_request_count_total"] += prompts
            self.exact["lightllm_request_failure_total"] += status not in (404, 405, 413)
            self.exact["vllm:admission_rejections_total"] += status in (429, 503)

    def ran(self, prompt_tokens: int, outputs: Sequence[tuple[int, str]], cached: int = 0, unread: int = 0) -> None:
        """A prompt had outputs.

        Args:
            prompt_tokens: Its length.
            outputs: Tokens and finish reason of each.
            cached: Prompt tokens that came from the cache.
            unread: Tokens that may have come besides.
        """
        tokens = sum(count for count, _ in outputs)
        with self._lock:
            grown = self.exact
            self.unread += unread
            grown["lightllm_request_count_total"] += 1
            grown["lightllm_request_success_total"] += all(reason != "abort" for _, reason in outputs)
            grown["lightllm_request_input_length_sum"] += prompt_tokens
            grown["lightllm_request_generated_tokens_sum"] += tokens
            grown["lightllm_cache_length_sum"] += cached
            grown["vllm:prompt_tokens_total"] += prompt_tokens
            grown["vllm:prefix_cache_hits_total"] += cached
            grown["vllm:inter_token_latency_seconds_count"] += tokens - len(outputs)
            for name in ("first_token_duration", "input_length", "inference_duration", "queue_duration_bucket"):
                grown[f"lightllm_request_{name}_count"] += 1
            for name in ("time_to_first_token", "e2e_request_latency", "request_prefill_time"):
                grown[f"vllm:{name}_seconds_count"] += 1
            for _, reason in outputs:
                grown[f'vllm:request_success_total{{finished_reason="{reason}"}}'] += 1


class Load:
    """Sends jobs of every kind to a server.

    Args:
        port: The server's.
        seed: Decides what is sent.
        crowded: The server may refuse requests, and some clients leave. There are no calls of several prompts then:
            clients are not told which of those ran before another one was refused.
    """

    def __init__(self, port: int, seed: int, *, crowded: bool) -> None:
        self.tally = Tally()
        self._port = port
        self._random = random.Random(seed)
        kinds = [self.plain, self.stream, self.samples, self.cached, self.invalid, self.lost]
        self._kinds: list[Callable[[int], None]] = [*kinds, self.leaver if crowded else self.prompts]

    def run(self, jobs: int, clients: int) -> Tally:
        """Send ``jobs`` jobs from ``clients`` threads and wait for them all."""
        drawn = [(self._random.choice(self._kinds), self._random.randint(1, 24)) for _ in range(jobs)]
        with ThreadPoolExecutor(clients) as pool:
            for done in [pool.submit(kind, tokens) for kind, tokens in drawn]:
                done.result()
        return self.tally

    def plain(self, tokens: int) -> None:
        """A whole answer in LightLLM's format."""
        body = {"inputs": f"{tokens} a", "parameters": {"max_new_tokens": tokens, "ignore_eos": True}}
        status, answer = self._post("/generate", body)
        if self._took("/generate", status, prompts=1):
            self.tally.ran(answer["prompt_tokens"], [(answer["count_output_tokens"], answer["finish_reason"])])

    def stream(self, tokens: int) -> None:
        """A stream in LightLLM's format."""
        body = {"inputs": f"{tokens} b", "parameters": {"max_new_tokens": tokens, "ignore_eos": True}}
        status, events = self._post("/generate_stream", body)
        if self._took("/generate_stream", status, prompts=1):
            last = events[-1]
            self.tally.ran(last["token"]["prompt_tokens"], [(len(events), last["finish_reason"])])

    def samples(self, tokens: int) -> None:
        """Two outputs of one prompt."""
        parameters = {"max_new_tokens": tokens, "ignore_eos": True, "best_of": 2, "n": 2, "do_sample": True}
        status, answer = self._post("/generate", {"inputs": f"{tokens} c", "parameters": parameters})
        if self._took("/generate", status, prompts=1):
            self.tally.ran(answer["prompt_tokens"], [(tokens, "length")] * 2)

    def prompts(self, tokens: int) -> None:
        """Several prompts in one call of OpenAI's API."""
        body = {"model": "m", "prompt": ["x", "yy", "zzz"], "max_tokens": tokens, "ignore_eos": True}
        status, answer = self._post("/v1/completions", body)
        if self._took("/v1/completions", status, prompts=3):
            share = answer["usage"]["prompt_tokens"] // 3  # only the sum counts
            rest = answer["usage"]["prompt_tokens"] - 2 * share
            for length in (share, share, rest):
                self.tally.ran(length, [(tokens, "length")])

    def cached(self, tokens: int) -> None:
        """A prompt whose beginning others have too."""
        body = {"model": "m", "prompt": f"{SHARED}{tokens}", "max_tokens": tokens, "ignore_eos": True}
        status, answer = self._post("/v1/completions", body)
        if self._took("/v1/completions", status, prompts=1):
            usage, choice = answer["usage"], answer["choices"][0]
            found = usage["prompt_tokens_details"]["cached_tokens"]
            self.tally.ran(usage["prompt_tokens"], [(usage["completion_tokens"], choice["finish_reason"])], found)

    def invalid(self, tokens: int) -> None:
        """A request that cannot be: before and after its prompt is tokenized."""
        if tokens % 3 == 0:
            body: Any = {"inputs": "x" * 9, "parameters": {"max_new_tokens": 10**6}}
            self.tally.refused("/generate", self._post("/generate", body)[0], prompts=1)
        elif tokens % 3 == 1:
            body = {"inputs": "x", "parameters": {"max_new_tokens": 0}}
            self.tally.refused("/generate", self._post("/generate", body)[0])
        else:
            self.tally.refused("/v1/completions", self._post("/v1/completions", {"model": "m", "prompt": {}})[0])

    def lost(self, tokens: int) -> None:
        """A path that is not there, or not with this method."""
        path, route = ("/nowhere", "") if tokens % 2 else ("/metrics", "/metrics")
        self.tally.refused(route, self._post(path, {})[0])

    def leaver(self, tokens: int) -> None:
        """A stream whose client leaves after its first event."""
        body = {"inputs": f"{tokens} d", "parameters": {"max_new_tokens": LONG, "ignore_eos": True}}
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
        connection.request("POST", "/generate_stream", json.dumps(body))
        response = connection.getresponse()
        if self._took("/generate_stream", response.status, prompts=1):
            event = json.loads(response.readline()[5:])
            self.tally.ran(event["token"]["prompt_tokens"], [(1, "abort")], unread=LONG)
        response.close()
        connection.close()

    def _took(self, route: str, status: int, prompts: int) -> bool:
        """Count the answer; returns whether it is one."""
        if status == 200:
            self.tally.answered(route, status)
            return True
        self.tally.refused(route, status, prompts)
        return False

    def _post(self, path: str, body: Any) -> tuple[int, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
        try:
            connection.request("POST", path, json.dumps(body))
            response = connection.getresponse()
            content = response.read()
        finally:
            connection.close()
        if (response.headers.get("content-type") or "").startswith("text/event-stream"):
            return response.status, [json.loads(frame[5:]) for frame in content.split(b"\n\n") if frame]
        return response.status, json.loads(content)
