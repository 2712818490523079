from __future__ import annotations

from build_engine.report import verification_lines
from runtime.bundle.manifest import ScoreVerification, Verification


def test_a_generator_is_reported_by_divergence_and_perplexity() -> None:
    verification = Verification(
        tokens=500, mean_kl=0.0123, top1_agreement=0.987, perplexity=12.5, reference_perplexity=12.25
    )
    (line,) = verification_lines(verification)
    for figure in ("mean KL 0.0123", "98.7%", "12.50 (float32 12.25)", "500 tokens"):
        assert figure in line


def test_a_reward_model_is_reported_by_its_scores() -> None:
    verification = ScoreVerification(
        tokens=500, mean_error=0.0123, max_error=0.25, reference_deviation=1.5, correlation=0.99975
    )
    (line,) = verification_lines(verification)
    for figure in ("0.0123 in the mean", "0.2500 at most", "1.5000", "correlation 0.99975", "500 tokens"):
        assert figure in line


def test_an_unverified_engine_is_called_so() -> None:
    assert verification_lines(None) == ["verification   none"]
