"""From logits to a token: LightLLM's pipeline, one row at a time (the reference) and for a whole batch."""

from runtime.sampling.alternatives import alternatives, most_likely
from runtime.sampling.batch import BatchSampler, SampledRow
from runtime.sampling.logit_bias import LogitBias
from runtime.sampling.openings import Openings
from runtime.sampling.philox import philox4x32, uniforms
from runtime.sampling.reference import sample_row
from runtime.sampling.row_sampler import NumpySampler, RowSampler

__all__ = [
    "BatchSampler",
    "LogitBias",
    "NumpySampler",
    "Openings",
    "RowSampler",
    "SampledRow",
    "alternatives",
    "most_likely",
    "philox4x32",
    "sample_row",
    "uniforms",
]
