"""The dashboard, the alerts and the autoscaler ask for metrics that there are."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from asgi_driver import Client
from fake_engine import FakeEngine
from prometheus_client.parser import text_string_to_metric_families

DEPLOY = Path(__file__).parents[2] / "deploy"
KUBERNETES = DEPLOY / "kubernetes/components/autoscaling"
SUFFIXES = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count"), "gauge": ("",)}
FUNCTIONS = {"histogram_quantile", "increase", "label_values", "max_over_time", "min_over_time", "rate", "sum"}
WORDS = FUNCTIONS | {"and", "by", "on", "or", "unless"}


def names(expression: str) -> set[str]:
    """The metrics that a PromQL expression asks for."""
    bare = re.sub(r'"[^"]*"|\{[^}]*\}|\[[^\]]*\]', " ", re.sub(r'"[^"]*"', " ", expression))
    bare = re.sub(r"\b(by|on|without)\s*\([^)]*\)", " ", bare)
    return set(re.findall(r"[A-Za-z_][A-Za-z0-9_:]*", bare)) - WORDS


def dashboard() -> Iterator[str]:
    content = json.loads((DEPLOY / "grafana/peregrine.json").read_text())
    for panel in content["panels"]:
        yield from (target["expr"] for target in panel.get("targets", ()))
    for variable in content["templating"]["list"]:
        if variable["type"] == "query":
            yield re.sub(r",.*", ")", variable["query"])


def alerts() -> Iterator[str]:
    for group in yaml.safe_load((DEPLOY / "prometheus/alerts.yml").read_text())["groups"]:
        yield from (rule["expr"] for rule in group["rules"])


def exposed(text: str) -> set[str]:
    """Every sample name that ``/metrics`` can have, whether or not there is one yet."""
    families = text_string_to_metric_families(text)
    return {family.name + suffix for family in families for suffix in SUFFIXES[family.type]}


def adapter() -> Iterator[str]:
    values = yaml.safe_load((KUBERNETES / "adapter-values.yaml").read_text())
    yield from (rule["seriesQuery"] for rule in values["rules"]["custom"])


def test_the_autoscaler_asks_for_what_the_adapter_gives() -> None:
    values = yaml.safe_load((KUBERNETES / "adapter-values.yaml").read_text())
    scaler = yaml.safe_load((KUBERNETES / "autoscaler.yaml").read_text())
    given = {rule["name"]["as"] for rule in values["rules"]["custom"]}
    assert {metric["pods"]["metric"]["name"] for metric in scaler["spec"]["metrics"]} == given


@pytest.mark.parametrize(("expressions", "least"), [(dashboard, 8), (alerts, 8), (adapter, 2)])
def test_every_metric_that_is_asked_for_exists(
    expressions: Callable[[], Iterator[str]], least: int, serve: Callable[..., None], engine: FakeEngine
) -> None:
    found: list[Any] = []

    async def test(client: Client) -> None:
        found.append((await client.request("GET", "/metrics")).body.decode())

    serve(test)
    asked = [names(expression) for expression in expressions()]
    assert len(asked) >= least
    assert all(asked)
    assert set().union(*asked) - exposed(found[0]) == set()


def test_the_names_in_an_expression_are_found() -> None:
    expression = 'sum by (le, job) (rate(a_total{x=~"5.."}[5m])) / on (instance) b:c unless d > 0'
    assert names(expression) == {"a_total", "b:c", "d"}
