"""What the rounds came to: medians, ratios, and tables of both as text or Markdown."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from benchmarks.peers.us import US
from benchmarks.workloads import WORKLOADS

RATE = {
    workload.name: "prompt_tokens_per_s" if workload.output == 1 else "output_tokens_per_s" for workload in WORKLOADS
}
"""The figure that counts, by workload."""


@dataclass
class Record:
    """All that is known of one engine.

    Attributes:
        rounds: What each round measured: workload -> figures, and ``start`` for what is of no workload.
        failure: Why there are no (more) rounds; empty where there was no fault.
    """

    name: str
    version: str
    interface: str
    settings: tuple[str, ...]
    rounds: list[dict[str, dict[str, float]]] = field(default_factory=list)
    failure: str = ""

    def median(self, workload: str, figure: str) -> float | None:
        """Over the rounds that have it."""
        values = [entry[workload][figure] for entry in self.rounds if workload in entry]
        return statistics.median(values) if values else None


def ratio(ours: float | None, theirs: float | None) -> float | None:
    """``ours / theirs`` where both are known."""
    return ours / theirs if ours and theirs else None


def best_peer(records: Iterable[Record], workload: str) -> Record | None:
    """The peer with the highest median rate."""
    rated = [record for record in records if record.name != US and record.median(workload, RATE[workload])]
    return max(rated, key=lambda record: record.median(workload, RATE[workload]) or 0.0, default=None)


@dataclass(frozen=True)
class Table:
    """A heading, the columns' names and rows of text."""

    heading: str
    columns: tuple[str, ...]
    rows: list[tuple[str, ...]]

    def markdown(self) -> str:
        """A Markdown table under its heading."""
        lines = [self.columns, tuple("---" for _ in self.columns), *self.rows]
        return f"**{self.heading}**\n\n" + "\n".join(f"| {' | '.join(line)} |" for line in lines)

    def text(self) -> str:
        """Columns aligned with spaces: the first to the left, the others to the right."""
        widths = [max(map(len, column)) for column in zip(self.columns, *self.rows, strict=True)]
        aligned = [
            "  ".join(
                [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
            )
            for row in (self.columns, *self.rows)
        ]
        return "\n".join([self.heading, *aligned])


def tables(records: list[Record], workloads: list[str]) -> list[Table]:
    """Rates, ratios, times to first token, and what it takes to run."""
    ran = [record for record in records if record.rounds]
    found = [rates(records, workloads), first_tokens(ran, workloads), costs(ran)]
    if any(record.name == US for record in ran):
        found.insert(1, ratios(ran, workloads))
    return found


def rates(records: list[Record], workloads: list[str]) -> Table:
    """Medians; a peer that did not run has its reason in place of figures."""
    rows = []
    for record in records:
        cells = [_number(record.median(name, RATE[name])) for name in workloads]
        note = record.interface if not record.failure else f"failed: {record.failure}".replace("|", "/")
        rows.append((record.name, record.version, *cells, str(len(record.rounds)), note))
    units = [f"{name}, {'prompt' if RATE[name].startswith('prompt') else 'output'} tokens/s" for name in workloads]
    return Table("Medians over the rounds", ("engine", "version", *units, "rounds", "measured"), rows)


def ratios(records: list[Record], workloads: list[str]) -> Table:
    """Our median over each peer's, and over the best peer's of each workload."""
    us = next(record for record in records if record.name == US)
    peers = [record for record in records if record is not us]
    rows = [
        (peer.name, *(_ratio(ratio(us.median(n, RATE[n]), peer.median(n, RATE[n]))) for n in workloads))
        for peer in peers
    ]
    best = [(name, best_peer(peers, name)) for name in workloads]
    rows.append(
        (
            "best peer",
            *(
                f"{_ratio(ratio(us.median(n, RATE[n]), peer.median(n, RATE[n])))} ({peer.name})" if peer else "-"
                for n, peer in best
            ),
        )
    )
    return Table("Peregrine's median over the peer's", ("peer", *workloads), rows)


def first_tokens(records: list[Record], workloads: list[str]) -> Table:
    """Mean time to first token of a round's requests."""
    rows = [(r.name, *(_number(r.median(name, "first_token_ms")) for name in workloads)) for r in records]
    return Table(
        "Time to first token, ms (mean over the requests, median over the rounds)", ("engine", *workloads), rows
    )


def costs(records: list[Record]) -> Table:
    """Start-up and memory."""
    figures = ("first_token_s", "peak_process_mb", "peak_all_mb")
    rows = [(r.name, *(_number(r.median("start", figure)) for figure in figures)) for r in records]
    columns = ("engine", "start to first token, s", "peak of the largest process, MB", "of all processes, MB")
    return Table("Start (files in the page cache) and resident memory", columns, rows)


def document(records: list[Record], workloads: list[str], facts: Mapping[str, Any]) -> dict[str, Any]:
    """Everything, for JSON."""
    return {
        "facts": dict(facts),
        "engines": {
            record.name: {
                "version": record.version,
                "interface": record.interface,
                "settings": list(record.settings),
                "failure": record.failure,
                "medians": {name: record.median(name, RATE[name]) for name in workloads},
                "rounds": record.rounds,
            }
            for record in records
        },
    }


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _ratio(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
