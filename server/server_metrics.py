"""What is known of this server whether or not its engine answers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from server.build_info import server_version


@dataclass(frozen=True, slots=True)
class ServerCollector(Collector):
    """Made for one scrape.

    Attributes:
        model_name: What is served.
        engine_up: The engine has just answered.
    """

    model_name: str
    engine_up: bool

    def collect(self) -> Iterator[Metric]:
        """Yield every metric."""
        info = GaugeMetricFamily("peregrine_build_info", "Always 1; says what runs", labels=["version", "model_name"])
        info.add_metric([server_version(), self.model_name], 1)
        yield info
        yield GaugeMetricFamily("peregrine_engine_up", "Whether the engine answered this scrape", self.engine_up)
