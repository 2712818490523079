"""Philox4x32-10 against the known answers of the Random123 distribution."""

from __future__ import annotations

import numpy as np
import pytest

from runtime.sampling import philox4x32, uniforms

FULL = 0xFFFFFFFF
KNOWN_ANSWERS = [
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((FULL,) * 4, (FULL,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


def words(*values: int) -> tuple[np.ndarray, ...]:
    return tuple(np.array([value], dtype=np.uint64) for value in values)


@pytest.mark.parametrize(("counter", "key", "expected"), KNOWN_ANSWERS)
def test_known_answers(counter: tuple[int, ...], key: tuple[int, ...], expected: tuple[int, ...]) -> None:
    assert tuple(int(word[0]) for word in philox4x32(words(*counter), words(*key))) == expected


def test_a_draw_does_not_depend_on_its_neighbours() -> None:
    seeds = np.array([7, 8, 2**63 + 5], dtype=np.uint64)
    samples = np.array([0, 1, 2], dtype=np.uint64)
    positions = np.array([0, 10, 99], dtype=np.uint64)
    together = uniforms(seeds, samples, positions)
    alone = [uniforms(seeds[i : i + 1], samples[i : i + 1], positions[i : i + 1])[0] for i in range(3)]
    assert together.tolist() == alone
    assert ((together >= 0) & (together < 1)).all()


def test_seed_sample_and_position_each_change_the_draw() -> None:
    one = np.ones(1, dtype=np.uint64)
    base = uniforms(one, one, one)[0]
    assert (
        len({base, uniforms(2 * one, one, one)[0], uniforms(one, 2 * one, one)[0], uniforms(one, one, 2 * one)[0]}) == 4
    )


def test_draws_are_uniform() -> None:
    positions = np.arange(20_000, dtype=np.uint64)
    draws = uniforms(np.full_like(positions, 3), np.zeros_like(positions), positions)
    counts, _ = np.histogram(draws, bins=20, range=(0, 1))
    chi_square = ((counts - 1000) ** 2 / 1000).sum()
    assert chi_square < 43.8, "19 degrees of freedom, p = 0.001"
