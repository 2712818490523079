"""What each tenant asked for and got, counted by its name: only names that the operator gave become labels."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter

from server.request_context import current

LABEL = "tenant"


class TenantMetrics:
    """Counters of one HTTP worker; requests without a key are in none of them.

    Args:
        registry: Where they are found.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"peregrine_tenant_{name}", text, (LABEL, *labels), registry=registry)

        self._requests = counter("requests", "Prompts tokenized")
        self._prompt_tokens = counter("prompt_tokens", "Prompt tokens of requests that were in the engine")
        self._generated_tokens = counter("generated_tokens", "Generated tokens")
        self._failures = counter("failures", "Requests answered with an error, by its status", "status")

    def request(self) -> None:
        """A prompt of the current request was tokenized."""
        if name := current().tenant:
            self._requests.labels(name).inc()

    def failure(self, status: int) -> None:
        """The current request was answered with an error."""
        if name := current().tenant:
            self._failures.labels(name, str(status)).inc()

    def finished(self, prompt_tokens: int, generated_tokens: int) -> None:
        """One of the current request's runs in the engine has ended."""
        if name := current().tenant:
            self._prompt_tokens.labels(name).inc(prompt_tokens)
            self._generated_tokens.labels(name).inc(generated_tokens)
