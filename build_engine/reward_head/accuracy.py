"""How often the better answer has the higher score."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from build_engine.reward_head.pairs import KINDS, Pair
from build_engine.reward_head.texts import PairTexts


@dataclass(frozen=True, slots=True)
class Accuracy:
    """Of one form of the texts.

    Attributes:
        right: Pairs in the right order, by kind; a tie is not right.
        pairs: All pairs, by kind.
        mean: Of the scores of all texts.
        deviation: Standard deviation of them.
    """

    right: dict[str, int]
    pairs: dict[str, int]
    mean: float
    deviation: float

    @property
    def overall(self) -> float:
        """Share of all pairs that are in the right order."""
        return sum(self.right.values()) / max(sum(self.pairs.values()), 1)


def measure(scores: npt.NDArray[np.float32], pairs: Sequence[Pair], texts: PairTexts) -> Accuracy:
    """The accuracy of ``scores`` float32 ``[texts]`` on ``pairs``, whose texts they are of."""
    better = scores[texts.chosen] > scores[texts.rejected]
    kinds = np.array([pair.kind for pair in pairs])
    return Accuracy(
        right={kind: int(better[kinds == kind].sum()) for kind in KINDS},
        pairs={kind: int((kinds == kind).sum()) for kind in KINDS},
        mean=float(scores.mean()),
        deviation=float(scores.std()),
    )


def accuracy_lines(measured: Mapping[str, Accuracy]) -> list[str]:
    """A table for people: kinds down, forms across."""
    results = measured.values()
    rows = [
        ["", *measured],
        *([kind, *(f"{result.right[kind]}/{result.pairs[kind]}" for result in results)] for kind in KINDS),
        ["all", *(f"{result.overall:.1%}" for result in results)],
        ["mean score", *(f"{result.mean:+.2f}" for result in results)],
        ["deviation", *(f"{result.deviation:.2f}" for result in results)],
    ]
    return ["".join([f"{row[0]:<12}", *(f"{cell:>10}" for cell in row[1:])]) for row in rows]
