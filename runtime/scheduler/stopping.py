"""When a sample ends, judged on token ids alone."""

from __future__ import annotations

from runtime.request import FinishReason
from runtime.scheduler.sequence import Sequence


def finish_reason(sequence: Sequence, eos_token_ids: frozenset[int]) -> FinishReason:
    """Why ``sequence`` ends with its last token, or ``NONE``.

    Stop sequences come before EOS and EOS before length, so a token that is both the last allowed and an end
    reports ``STOP``. A stop sequence has to lie in the output: it never reaches back into the prompt. EOS ends a
    constrained output even with ``ignore_eos``: the sampler lets it through only where nothing else can follow.
    """
    params = sequence.group.params
    generated = sequence.generated
    for stop in params.stop_sequences:
        if len(stop) <= generated and sequence.tokens[-len(stop) :] == list(stop):
            return FinishReason.STOP
    if (params.constrained or not params.ignore_eos) and sequence.tokens[-1] in eos_token_ids:
        return FinishReason.STOP
    if generated >= params.max_new_tokens:
        return FinishReason.LENGTH
    return FinishReason.NONE
