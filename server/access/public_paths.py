"""What is answered without a key."""

from __future__ import annotations

from collections.abc import Collection

from server.resources.assets import page_names

PROBES = ("/health", "/healthz", "/liveness", "/readiness")
"""Load balancers and orchestrators have no keys."""

METRICS = "/metrics"


def public_paths(*, metrics: bool = False) -> frozenset[str]:
    """All of them; every other path wants a key, whether it exists or not.

    Args:
        metrics: Anybody may read ``/metrics``.
    """
    pages = ("/ui", "/docs", "/openapi.json", *(f"/ui/{name}" for name in page_names()))
    return frozenset((*PROBES, *pages, *((METRICS,) if metrics else ())))


def is_public(template: str, public: Collection[str]) -> bool:
    """Whether a route, whose path may end in a field, is one of them."""
    fixed, brace, _ = template.partition("{")
    return any(path.startswith(fixed) for path in public) if brace else template in public
