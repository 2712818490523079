"""Figures of simulations, drawn like those of the other benchmarks."""

from __future__ import annotations

from collections.abc import Callable
from statistics import median
from typing import Any

from benchmarks.plots import HUES, Document, Drawing, panels, save

__all__ = ["engine_figure", "fleet_figure", "save"]


def engine_figure(document: Document) -> Drawing:
    """KV use over time at the highest rate, and the time to first token against the rate."""
    figure, (use, first, good) = panels(3)
    runs = document["runs"]
    highest, seed = max(run["rate"] for run in runs), runs[0]["seed"]
    for hue, policy in zip(HUES, dict.fromkeys(run["policy"] for run in runs), strict=False):
        for run in runs:
            if run["policy"] == policy and run["rate"] == highest and run["seed"] == seed:
                use.axes.plot(*_columns(run["use"]), color=hue, linewidth=0.9)
        of_policy = [run for run in runs if run["policy"] == policy]
        rates = sorted({run["rate"] for run in of_policy})
        for place, style in ((0, "--"), (2, "-")):
            first.axes.plot(rates, _medians(of_policy, rates, lambda s, p=place: s["first"][p]), style, color=hue)
        good.line(rates, [100 * share for share in _medians(of_policy, rates, lambda s: s["kept"])], policy, hue)
    use.axes.set_ylim(0, 1.02)
    use.finish(f"KV cache in use at {highest:g}/s", "seconds")
    first.finish("time to first token, s: p99, p50 dashed", "requests a second", log="y")
    good.axes.set_ylim(0, 104)
    good.finish("requests within the objective, %", "requests a second")
    return figure, (use, first, good)


def fleet_figure(document: Document) -> Drawing:
    """Routing policies against the size of the fleet, autoscaling over time, and a failure."""
    figure, (late, cached, scaling, failure) = panels(4)
    outcomes = document["outcomes"]
    sized = [found for found in outcomes if found["part"] == "size"]
    sizes = sorted({found["replicas"] for found in sized})
    for hue, router in zip(HUES, dict.fromkeys(found["router"] for found in outcomes), strict=False):
        of_router = [found | {"rate": found["replicas"]} for found in sized if found["router"] == router]
        if of_router:
            late.line(sizes, _medians(of_router, sizes, lambda s: s["first"][2]), router, hue)
            cached.line(
                sizes, [100 * share for share in _medians(of_router, sizes, lambda s: s["cached"])], router, hue
            )
        for found in outcomes:
            if found["part"] == "failure" and found["router"] == router:
                failure.axes.plot(*_columns(found["over_time"]), color=hue, linewidth=1.1)
    for hue, found in zip(HUES, (found for found in outcomes if found["part"] == "scaling"), strict=False):
        scaling.axes.step(*_columns(found["sizes"]), color=hue, linewidth=1.1, where="post")
        scaling.ends.append((*found["sizes"][-1], f"target {found['target']:g}", hue))
    for panel in (late, cached):
        panel.ticks(set(sizes))
    late.finish("time to first token, p99, s", "replicas", log="y")
    cached.axes.set_ylim(0, None)
    cached.finish("prompt tokens from the cache, %", "replicas")
    scaling.axes.set_ylim(0, None)
    scaling.finish("replicas, the load in waves", "seconds")
    failure.finish("p99 of first token, a tenth dies", "seconds", log="y")
    return figure, (late, cached, scaling, failure)


def _columns(rows: list[Any]) -> tuple[list[float], list[float]]:
    return [row[0] for row in rows], [row[1] for row in rows]


def _medians(runs: list[Any], rates: list[float], value: Callable[[Any], float]) -> list[float]:
    return [median(value(run["summary"]) for run in runs if run["rate"] == rate) for rate in rates]
