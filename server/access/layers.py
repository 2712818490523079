"""What stands between the network and the rest of the application."""

from __future__ import annotations

from pathlib import Path

from server.access.cors import CorsMiddleware
from server.access.door import Door
from server.access.key_ring import KeyRing
from server.access.public_paths import public_paths
from server.config import WorkerConfig
from server.connection import AsgiApp


def guarded(app: AsgiApp, config: WorkerConfig) -> AsgiApp:
    """``app`` behind the door and the CORS layer, as far as ``config`` wants them."""
    if config.key_ring:
        public = public_paths(metrics=config.public_metrics)
        app = Door(app, KeyRing(Path(config.key_ring)), public, shared_prefix_cache=config.shared_prefix_cache)
    return CorsMiddleware(app, config.cors_origins) if config.cors_origins else app
