"""Answers and stream chunks of ``/v1/completions``."""

from __future__ import annotations

import time
from collections.abc import Sequence
from uuid import uuid4

from msgspec import UNSET, UnsetType

from server.generation import Generation, TokenEvent
from server.openai.call import Events, by_prompt_and_sample
from server.openai.completion_parser import CompletionCall
from server.openai.completion_types import Completion, CompletionChoice, CompletionLogprobs
from server.openai.logprobs import add_prompt, add_token, empty_logprobs
from server.openai.stop_text import StopText
from server.openai.token_texts import TokenTexts
from server.openai.usage import Usage, usage_of


class _Output:
    """One output on its way to a choice."""

    __slots__ = ("begun", "characters", "count", "stop", "sum_logprob")

    def __init__(self, stop: StopText) -> None:
        self.stop = stop
        self.begun = False
        self.characters = 0
        self.count = 0
        self.sum_logprob = 0.0


class CompletionWriter:
    """Turns the tokens of a call into choices; choice ``i`` of prompt ``p`` has the index ``p * n + i``.

    Args:
        call: What was asked for.
        generations: What runs for it.
        texts: Of the model's tokens.
    """

    def __init__(self, call: CompletionCall, generations: Sequence[Generation], texts: TokenTexts) -> None:
        self._call, self._generations, self._texts = call, generations, texts
        self._id, self._created = f"cmpl-{uuid4().hex}", int(time.time())
        self._outputs = [
            [_Output(StopText(request.stop_strings)) for _ in range(request.samples)] for request in call.requests
        ]

    def beginning(self) -> list[Completion]:
        """Chunks before the first token."""
        return []

    def chunks(self, prompt: int, event: TokenEvent) -> list[Completion]:
        """What a stream says of a token; nothing of one that only holds text back."""
        logprobs = self._new_logprobs()
        text = self._take(prompt, event, logprobs)
        if not text and event.finish_reason is None and logprobs is None:
            return []
        index = prompt * self._call.choices + event.sample
        choice = CompletionChoice(text, index, logprobs, self._reason(event))
        return [self._completion([choice], None if self._call.fields.include_usage else UNSET)]

    def ending(self) -> list[Completion]:
        """Chunks after the last token."""
        return [self._completion([], self._usage())] if self._call.fields.include_usage else []

    def answer(self, events: Events) -> Completion:
        """The whole answer, from all tokens."""
        choices: list[CompletionChoice] = []
        by_output = by_prompt_and_sample(events)
        for prompt, outputs in enumerate(self._outputs):
            made = [self._choice(prompt, by_output[prompt, sample]) for sample in range(len(outputs))]
            ranked = sorted(range(len(made)), key=lambda i: -outputs[i].sum_logprob / outputs[i].count)
            for choice in [made[i] for i in sorted(ranked[: self._call.choices])]:
                choice.index = len(choices)
                choices.append(choice)
        return self._completion(choices, self._usage())

    def _choice(self, prompt: int, events: list[TokenEvent]) -> CompletionChoice:
        logprobs = self._new_logprobs()
        text = "".join([self._take(prompt, event, logprobs) for event in events])
        return CompletionChoice(text, 0, logprobs, self._reason(events[-1]))

    def _take(self, prompt: int, event: TokenEvent, logprobs: CompletionLogprobs | None) -> str:
        """The text that a token adds to its output; its log-probability goes to ``logprobs``."""
        output = self._outputs[prompt][event.sample]
        text = ""
        if not output.begun:
            output.begun = True
            text = self._echo(prompt, logprobs)
            output.characters = len(text)
        output.count, output.sum_logprob = event.count, event.sum_logprob
        if self._call.silent:
            return text
        if logprobs is not None:
            add_token(logprobs, self._texts, event, output.characters)
        output.characters += len(event.text)
        return text + output.stop.push(event.text, last=event.finish_reason is not None)

    def _echo(self, prompt: int, logprobs: CompletionLogprobs | None) -> str:
        """The prompt's text where it is echoed, with its log-probabilities."""
        if not self._call.prompts:
            return ""
        if logprobs is not None:
            generation = self._generations[prompt]
            values, top = generation.prompt_logprobs or [], generation.prompt_top_logprobs
            add_prompt(logprobs, self._texts, generation.request.prompt, values, top)
        return self._call.prompts[prompt]

    def _reason(self, event: TokenEvent) -> str | None:
        return "length" if self._call.silent and event.finish_reason else event.finish_reason

    def _new_logprobs(self) -> CompletionLogprobs | None:
        return None if self._call.fields.logprobs is None else empty_logprobs()

    def _usage(self) -> Usage:
        return usage_of(self._generations, silent=self._call.silent)

    def _completion(self, choices: list[CompletionChoice], usage: Usage | UnsetType | None) -> Completion:
        return Completion(
            id=self._id, created=self._created, model=self._call.fields.model, choices=choices, usage=usage
        )
