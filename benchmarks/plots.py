"""Figures from the JSON of the other benchmarks: ``python -m benchmarks.plots docs/figures load.json scaling.json``.

SVG with text as text, without a background and in greys and hues of middle lightness, so that a figure can be read on
white and on black.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

GREY = "#808890"
HUES = ("#2f81d0", "#d9662b", "#2a9d6f", "#b565b0", "#b08a1e", "#5f8fa8", "#c94f6d")
STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "peregrine",
    "font.size": 9,
    "font.family": ["sans-serif"],
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 9,
    "axes.titlelocation": "left",
    "xtick.minor.bottom": False,
    "ytick.minor.left": False,
    "lines.markersize": 3.5,
    **{f"{part}.color": GREY for part in ("text", "xtick", "ytick")},
    **{f"axes.{part}color": GREY for part in ("edge", "label", "title")},
}
Document = dict[str, Any]


class Panel:
    """Axes whose lines are named at their ends instead of in a legend."""

    def __init__(self, axes: Axes) -> None:
        self.axes = axes
        self.ends: list[tuple[float, float, str, str]] = []

    def line(self, x: list[float], y: list[float], label: str, hue: str, floor: list[float] | None = None) -> None:
        """Measured points, and the dashed line that they cannot cross."""
        self.axes.plot(x, y, "o-", color=hue, linewidth=1.4, clip_on=False)
        if floor is not None:
            self.axes.plot(x, floor, "--", color=hue, linewidth=0.9)
        if x:
            self.ends.append((x[-1], y[-1], label, hue))

    def ticks(self, values: set[int]) -> None:
        """Ticks on a logarithmic axis of powers of two."""
        self.axes.set_xscale("log")
        self.axes.set_xticks(sorted(values), [f"{value}" for value in sorted(values)])

    def finish(self, title: str, across: str, log: str = "") -> None:
        """Titles, scales and a grid."""
        axes = self.axes
        axes.set(title=title, xlabel=across)
        axes.set_axisbelow(True)
        axes.grid(axis="y", color=GREY, alpha=0.25, linewidth=0.6)
        if "y" in log:
            axes.set_yscale("log")
            axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
            axes.yaxis.set_major_formatter("{x:g}")
            axes.yaxis.set_minor_formatter(NullFormatter())

    def name_lines(self) -> None:
        """Write the names; those of lines that end at the same place are moved apart."""
        for x in {end[0] for end in self.ends}:
            ends = sorted(end for end in self.ends if end[0] == x)
            heights = [float(self.axes.transData.transform(end[:2])[1]) for end in ends]
            points = 72 / self.axes.figure.dpi
            for (_, y, label, hue), height, free in zip(ends, heights, apart(heights, 10 / points), strict=True):
                shift = (4, (free - height) * points)
                style: dict[str, Any] = {"color": hue, "va": "center", "annotation_clip": False}
                self.axes.annotate(label, (x, y), shift, textcoords="offset points", **style)


def apart(places: Sequence[float], least: float) -> list[float]:
    """Ascending places moved as little as it takes to be ``least`` from each other, about where they were."""
    moved: list[float] = []
    for place in places:
        moved.append(max(place, moved[-1] + least) if moved else place)
    shift = sum(moved) - sum(places)
    return [place - shift / max(1, len(moved)) for place in moved]


Drawing = tuple[Figure, Sequence[Panel]]


def load_figure(document: Document) -> Drawing:
    """Latency and goodput against the rate, or against how many requests are open."""
    runs = sorted(document["runs"], key=lambda run: float(run["level"]))
    levels = [run["level"] for run in runs]
    across = "requests at once" if runs[0]["mode"] == "closed" else "requests a second"
    figure, (first, token, good) = panels(3)
    for panel, name, title in ((first, "ttft", "time to first token, s"), (token, "tpot", "mean time per token, s")):
        for quantile, hue in zip(("p50", "p95", "p99"), HUES, strict=False):
            known = [(run["level"], run["summary"][name][quantile]) for run in runs if run["summary"][name]]
            panel.line([x for x, _ in known], [y for _, y in known], quantile, hue)
        panel.finish(title, across, log="y")
    share = document["slo"] is not None
    figures = [100 * run["summary"]["good_share"] if share else run["summary"]["output_tokens_per_s"] for run in runs]
    good.line(levels, figures, "", HUES[0])
    good.axes.set_ylim(0, 104 if share else None)
    good.finish(f"goodput, %, {document['slo']}" if share else "output tokens a second", across)
    return figure, (first, token, good)


def scaling_figure(document: Document) -> Drawing:
    """Decode steps against the batch and prefill rates against the chunk, with their floors dashed."""
    figure, (decode, prefill) = panels(2)
    steps = [row for row in document["rows"] if row["new"] == 1]
    for hue, past in zip(HUES, sorted({row["past"] for row in steps}), strict=False):
        rows = [row for row in steps if row["past"] == past]
        times = [[1e3 * row[name] for row in rows] for name in ("median", "floor")]
        decode.line([row["rows"] for row in rows], times[0], f"{past}", hue, floor=times[1])
    decode.ticks({row["rows"] for row in steps})
    decode.finish("decode step by context, ms (dashed: floor)", "sequences", log="xy")
    chunks = [row for row in document["rows"] if row["new"] > 1]
    for hue, past in zip(HUES, sorted({row["past"] for row in chunks}), strict=False):
        rows = [row for row in chunks if row["past"] == past]
        rates = [[row["new"] / row[name] for row in rows] for name in ("median", "floor")]
        prefill.line([row["new"] for row in rows], rates[0], f"after {past}", hue, floor=rates[1])
    prefill.axes.set_ylim(0, None)
    prefill.ticks({row["new"] for row in chunks})
    prefill.finish("prefill, tokens/s (dashed: at the floor)", "tokens in a chunk", log="x")
    return figure, (decode, prefill)


def steps_figure(document: Document) -> Drawing:
    """Of what a decode step consists, by the number of streams."""
    figure, (panel,) = panels(1)
    rows = document["rows"]
    places, below = range(len(rows)), [0.0] * len(rows)
    for name, hue in zip(("graph", "sampling", "Python"), HUES, strict=False):
        share = [100 * row[name.lower()] / row["step"] for row in rows]
        panel.axes.bar(places, share, 0.7, below, color=hue)
        panel.ends.append((len(rows) - 0.6, below[-1] + share[-1] / 2, name, hue))
        below = [a + b for a, b in zip(below, share, strict=True)]
    panel.axes.set_ylim(0, 100)
    panel.axes.set_xticks(list(places), [f"{row['streams']}\n({row['step']:.1f})" for row in rows])
    panel.finish("share of a decode step, %", "streams (milliseconds a step)")
    return figure, (panel,)


FIGURES: dict[str, Callable[[Document], Drawing]] = {
    "load": load_figure,
    "scaling": scaling_figure,
    "steps": steps_figure,
}


def save(draw: Callable[[], Drawing], target: Path) -> None:
    """Draw a figure in the common style, and write it in the format that the name of ``target`` says."""
    with mpl.rc_context(STYLE):
        figure, drawn = draw()
        figure.draw_without_rendering()  # so that places on the page are known
        for panel in drawn:
            panel.name_lines()
        # NOTE: without a date, the same figures are the same bytes.
        stamp = {"Date": None} if target.suffix == ".svg" else {}
        figure.savefig(target, transparent=True, dpi=150, metadata=stamp)


def main(argv: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        prog="benchmarks.plots", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("directory", type=Path, help="where figures go, under the names of the JSON files")
    parser.add_argument("documents", type=Path, nargs="+", help="from --json of load, scaling or steps")
    parser.add_argument("--format", choices=("svg", "png"), default="svg")
    args = parser.parse_args(argv)
    args.directory.mkdir(parents=True, exist_ok=True)
    for path in args.documents:
        document = _read(path, parser)
        target = args.directory / f"{path.stem}.{args.format}"
        save(partial(FIGURES[document["kind"]], document), target)
        print(target)


def _read(path: Path, parser: argparse.ArgumentParser) -> Document:
    try:
        document: Document = json.loads(path.read_bytes())
        known = document["kind"] in FIGURES
    except (OSError, ValueError, KeyError, TypeError):
        known = False
    if not known:
        parser.error(f"{path} is not what --json of {', '.join(FIGURES)} writes")
    return document


def panels(count: int) -> tuple[Figure, list[Panel]]:
    """An empty figure, its panels beside each other."""
    figure = Figure(figsize=(3.4 * max(count, 1.4), 2.6), layout="constrained")
    return figure, [Panel(axes) for axes in figure.subplots(1, count, squeeze=False)[0]]


if __name__ == "__main__":
    main()
