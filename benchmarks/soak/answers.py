"""What an answer says, in one form for all APIs and for whole answers and streams: so that they can be compared."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from benchmarks.soak.asks import Ask

_DONE = b"[DONE]"


@dataclass
class Choice:
    """One output.

    Attributes:
        tokens: An entry for each token that the API tells of: id or text, log-probability and what goes with it.
        finish: Why it ended; ``None`` where it has not.
    """

    text: str = ""
    tokens: list[Any] = field(default_factory=list)
    finish: str | None = None


@dataclass
class Answer:
    """All outputs, and how it ended.

    Attributes:
        usage: Tokens counted, as the API has them, without what depends on the prefix cache.
        prompt: Of the prompt's tokens, where the server tells of them.
        ends: Frames after which nothing may come; 1 in a whole answer.
        error: The error frame's message.
    """

    choices: dict[int, Choice] = field(default_factory=dict)
    usage: Any = None
    prompt: Any = None
    ends: int = 0
    error: str = ""

    def choice(self, index: int) -> Choice:
        """The output, which is made if it is new."""
        return self.choices.setdefault(index, Choice())


class UnreadableError(Exception):
    """An answer that is not of its API's form."""


def read_whole(ask: Ask, body: bytes) -> Answer:
    """The JSON of an answer with status 200.

    Raises:
        UnreadableError: It is none.
    """
    answer = Answer(ends=1)
    try:
        document = json.loads(body)
        if ask.api == "generate":
            _native_whole(answer, document)
        else:
            _openai_part(answer, document)
    except (ValueError, KeyError, TypeError, IndexError) as error:
        message = f"{error!r} in {body[:200]!r}"
        raise UnreadableError(message) from None
    return answer


def read_stream(ask: Ask, frames: list[bytes]) -> Answer:
    """The frames of a stream, whether all of them have come or not.

    Raises:
        UnreadableError: A frame is none of its API's, or comes after the end.
    """
    answer = Answer()
    for frame in frames:
        if answer.ends:
            message = f"{frame[:200]!r} came after the end"
            raise UnreadableError(message)
        try:
            if ask.api == "generate":
                _native_frame(answer, json.loads(frame))
            elif frame == _DONE:
                answer.ends += 1
            else:
                _openai_frame(answer, json.loads(frame))
        except (ValueError, KeyError, TypeError) as error:
            message = f"{error!r} in {frame[:200]!r}"
            raise UnreadableError(message) from None
    return answer


def difference(solo: Answer, found: Answer, *, whole: bool) -> str:
    """Where an answer is not the solo one, or no beginning of it unless it is ``whole``; empty where it is."""
    for index, choice in found.choices.items():
        alone = solo.choices.get(index)
        if alone is None:
            return f"choice {index} is one too many"
        if choice.finish not in ((alone.finish,) if whole else (None, alone.finish)):
            return f"choice {index} ended by {choice.finish!r} instead of {alone.finish!r}"
        known = len(choice.tokens)
        if choice.tokens != (alone.tokens if whole else alone.tokens[:known]):
            return f"choice {index} has other tokens or log-probabilities: {choice.tokens} instead of {alone.tokens}"
        if choice.text != (alone.text if whole else alone.text[: len(choice.text)]):
            return f"choice {index} says {choice.text!r} instead of {alone.text!r}"
    if whole and solo.choices.keys() != found.choices.keys():
        return f"{len(found.choices)} choices instead of {len(solo.choices)}"
    if whole and found.usage != solo.usage:
        return f"usage is {found.usage} instead of {solo.usage}"
    if None not in (found.prompt, solo.prompt) and found.prompt != solo.prompt:
        return "the prompt has other log-probabilities"
    return ""


def _native_whole(answer: Answer, document: dict[str, Any]) -> None:
    several = isinstance(document["finish_reason"], list)
    for index, text in enumerate(document["generated_text"]):
        tokens = document["tokens"][index] if several else document["tokens"]
        finish = document["finish_reason"][index] if several else document["finish_reason"]
        answer.choices[index] = Choice(text, [_native_token(token) for token in tokens], finish)
    answer.usage = document["prompt_tokens"]
    answer.prompt = document.get("prompt_logprobs")


def _native_frame(answer: Answer, event: dict[str, Any]) -> None:
    choice = answer.choice(0)
    answer.ends += event["finished"]
    if event["finish_reason"] == "error":
        answer.error = event["error"]
        return
    choice.text += event["token"]["text"]
    choice.tokens.append(_native_token(event["token"]))
    choice.finish = event["finish_reason"]
    answer.usage = event["token"]["prompt_tokens"]


def _native_token(token: dict[str, Any]) -> list[Any]:
    return [token[key] for key in ("id", "logprob", "special", "count_output_tokens", "text")]


def _openai_frame(answer: Answer, document: dict[str, Any]) -> None:
    if "error" in document:
        answer.error = document["error"]["message"]
        answer.ends += 1
    else:
        _openai_part(answer, document)


def _openai_part(answer: Answer, document: dict[str, Any]) -> None:
    """A whole answer, or a chunk of a stream: both are added to what has come."""
    for part in document["choices"]:
        choice = answer.choice(part["index"])
        if "text" in part:
            choice.text += part["text"]
        else:
            choice.text += (part.get("delta") or part.get("message") or {}).get("content") or ""
        choice.tokens += _logprobs(part.get("logprobs"))
        choice.finish = part["finish_reason"] or choice.finish
    if document.get("usage"):
        answer.usage = {name: count for name, count in document["usage"].items() if name.endswith("_tokens")}


def _logprobs(found: dict[str, Any] | None) -> list[Any]:
    if not found:
        return []
    if "content" in found:
        return list(found["content"])
    names = ("tokens", "token_logprobs", "top_logprobs", "text_offset")
    return [list(entry) for entry in zip(*(found[name] for name in names), strict=True)]
