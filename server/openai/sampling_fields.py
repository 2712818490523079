"""Request fields that completions and chats share. ``null`` is the same as absent, as OpenAI's clients have it."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from server.parameters import Flag

MAX_SAMPLES = 128
MAX_BIASES = 1024

Temperature = Annotated[float, Meta(ge=0, le=2, description="Divides the logits; 0 takes the likeliest token always.")]
TopP = Annotated[float, Meta(ge=0, le=1, description="Probability mass of the tokens to draw from.")]
Penalty = Annotated[float, Meta(ge=-2, le=2)]
Bias = Annotated[float, Meta(ge=-100, le=100)]
LogitBias = Annotated[
    dict[str, Bias], Meta(max_length=MAX_BIASES, description="Token ids, and what is added to their logits.")
]
Seed = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1, description="Same request, same seed, same output.")]
Samples = Annotated[int, Meta(ge=1, le=MAX_SAMPLES)]
NewTokens = Annotated[int, Meta(ge=0, le=2**31 - 1)]
TopK = Annotated[int, Meta(ge=-1, le=2**31 - 1, description="LightLLM's: ranks to draw from; -1 and 0 are all.")]
RepetitionPenalty = Annotated[float, Meta(ge=1, le=1e30, description="LightLLM's.")]
Stop = Annotated[str | list[str], Meta(description="Up to ten strings that end the output; not part of it.")]


class StreamOptions(msgspec.Struct, kw_only=True):
    """Of a stream."""

    include_usage: bool | None = None


class ConstraintFields(msgspec.Struct, kw_only=True):
    """What limits the output to a language, one of them at a time; and what is not done.

    ``guided_*`` and ``structured_outputs`` are vLLM's, ``regular_constraint`` is LightLLM's.
    """

    response_format: ResponseFormat | None = None
    guided_json: Any = None
    guided_regex: Any = None
    guided_choice: Any = None
    guided_grammar: Any = None
    structured_outputs: Any = None
    regular_constraint: str | None = None
    min_p: float | None = None
    use_beam_search: bool | None = None


class SamplingFields(ConstraintFields, kw_only=True):
    """How tokens are drawn, and when that ends.

    ``do_sample``, ``top_k``, ``repetition_penalty`` and ``ignore_eos`` are LightLLM's own; ``min_tokens``,
    ``skip_special_tokens`` and ``add_special_tokens`` are what other servers call LightLLM's fields.
    """

    model: Annotated[str, Meta(description="Any name is taken; there is one model.")]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: Samples | None = None
    temperature: Temperature | None = None
    top_p: TopP | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    logit_bias: LogitBias | None = None
    seed: Seed | None = None
    stop: Stop | None = None
    do_sample: Flag = None
    top_k: TopK | None = None
    repetition_penalty: RepetitionPenalty | None = None
    min_tokens: NewTokens | None = None
    ignore_eos: Flag = None
    skip_special_tokens: Flag = None
    add_special_tokens: Flag = None
    user: Annotated[Any, Meta(description="No effect.")] = None

    @property
    def samples(self) -> int:
        """Choices wanted for each prompt."""
        return 1 if self.n is None else self.n

    @property
    def include_usage(self) -> bool:
        """Whether a stream ends with a chunk that tells the usage."""
        return self.stream_options is not None and bool(self.stream_options.include_usage)


class JsonSchema(msgspec.Struct, kw_only=True):
    """A schema with a name."""

    name: str
    schema: dict[str, Any] | None = None
    description: str | None = None
    strict: bool | None = None


class ResponseFormat(msgspec.Struct, kw_only=True):
    """What the output has to be: ``text``, ``json_object`` or ``json_schema``."""

    type: str
    json_schema: JsonSchema | None = None
    schema: Annotated[dict[str, Any] | None, Meta(description="LightLLM's place for a schema.")] = None
