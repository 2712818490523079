"""The default bundle as built: how far it is from float32, on the build's own five texts."""

from __future__ import annotations

from pathlib import Path

import pytest

from runtime.bundle import open_bundle
from runtime.bundle.manifest import Verification

FLIP_BOUND = 0.5
"""A position whose best token differs from the reference's has the reference's two best logits closer than this."""


@pytest.fixture(scope="module")
def verification(default_bundle: Path) -> Verification:
    found = open_bundle(default_bundle).manifest.verification
    assert found is not None
    return found


def test_the_distribution_is_close_to_float32(verification: Verification) -> None:
    assert verification.tokens >= 1000
    assert verification.mean_kl <= 0.01
    assert verification.top1_agreement >= 0.93
    assert verification.perplexity == pytest.approx(verification.reference_perplexity, rel=0.02)


def test_the_best_token_differs_only_where_two_are_nearly_equal(verification: Verification) -> None:
    assert verification.flip_gap is not None
    assert 0 < verification.flip_gap < FLIP_BOUND
