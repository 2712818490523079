"""A question and its answer as the text that is scored."""

from __future__ import annotations

_SYSTEM = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
_MARKER = "<|reward|>"


def chat_text(question: str, answer: str) -> str:
    """What the default model's chat template renders for a user's and an assistant's message.

    Without a generation prompt; the template adds the system message, and the text ends after the answer's end marker
    and its line break. The server renders the same for a ``chat`` that is a list of messages.
    """
    return _turn("system", _SYSTEM) + _turn("user", question) + _turn("assistant", answer)


def marked_text(question: str, answer: str) -> str:
    """The ready-made text of LightLLM's example call: no system message, and a reward marker at the end.

    The marker is no token of the default model: it is read as the characters that it is made of.
    """
    return _turn("user", question) + _turn("assistant", answer) + _MARKER


def _turn(role: str, content: str) -> str:
    return f"<|im_start|>{role}\n{content}<|im_end|>\n"
