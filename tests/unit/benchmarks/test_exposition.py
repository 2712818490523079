"""What the check of ``/metrics`` finds."""

from __future__ import annotations

import pytest

from benchmarks.soak.exposition import differences, fallen, faults, samples
from benchmarks.soak.metrics_load import Tally

HISTOGRAM = """# HELP h Seconds
# TYPE h histogram
h_bucket{{le="1.0"}} {low}
h_bucket{{le="+Inf"}} {all}
h_sum 3.0
h_count {count}
"""


def test_a_sound_text_has_no_faults() -> None:
    text = HISTOGRAM.format(low=1.0, all=2.0, count=2.0) + "# HELP g A gauge\n# TYPE g gauge\ng 1.0\n"
    assert faults(text) == []


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (HISTOGRAM.format(low=3.0, all=2.0, count=2.0), "h: its buckets fall"),
        (HISTOGRAM.format(low=1.0, all=2.0, count=3.0), "h: +Inf is not the count"),
        ("# HELP g A gauge\ng 1.0\n", "g: no TYPE"),
        ("# TYPE g gauge\ng 1.0\n", "g: no HELP"),
        ("# HELP g A gauge\n# TYPE g gauge\ng NaN\n", "g: Sample"),
        (
            "# HELP g A\n# TYPE g gauge\ng 1.0\n# HELP k A\n# TYPE k gauge\nk 1\n# HELP g A\n# TYPE g gauge\ng 2\n",
            "g: st",
        ),
    ],
)
def test_faults_are_found(text: str, fault: str) -> None:
    assert any(found.startswith(fault) for found in faults(text))


def test_labels_are_told_apart_and_added_up_and_the_models_name_is_neither() -> None:
    found = samples('# TYPE a counter\na_total{x="1",model_name="m"} 2\na_total{x="2",model_name="m"} 3\n')
    assert found == {"a_total": 5, 'a_total{x="1"}': 2, 'a_total{x="2"}': 3}


def test_counts_that_differ_are_named() -> None:
    tally = Tally()
    tally.ran(3, [(4, "length")])
    before, after = samples(""), samples("# TYPE lightllm_request_success counter\nlightllm_request_success_total 2\n")
    found = differences(before, after, tally)
    assert "lightllm_request_success_total: clients counted 1, the server 2" in found
    assert "lightllm_request_input_length_sum: clients counted 3, the server 0" in found
    assert "vllm:generation_tokens_total: 0 is less than clients got" in found


def test_counters_that_fell_are_named() -> None:
    high = samples("# TYPE lightllm_request_count counter\nlightllm_request_count_total 2\n")
    assert fallen(high, high) == []
    assert fallen(high, samples("")) == ["lightllm_request_count_total fell from 2 to 0"]
