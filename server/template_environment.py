"""The Jinja environment in which chat templates are rendered: what transformers gives them, in a sandbox."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any, NoReturn

from jinja2 import TemplateError, nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace


class ChatEnvironment(ImmutableSandboxedEnvironment):
    """Renders a checkpoint's template as transformers' ``apply_chat_template`` does.

    The sandbox keeps it away from the interpreter. Time and memory are bounded by the process around it.
    """

    def __init__(self) -> None:
        super().__init__(trim_blocks=True, lstrip_blocks=True, extensions=[_GenerationTag, "jinja2.ext.loopcontrols"])
        del self.globals["lipsum"]
        self.filters["tojson"] = _to_json
        self.globals |= {
            "raise_exception": _raise_exception,
            "strftime_now": _strftime_now,
            "dict": _DictFactory(),
            "namespace": _SafeNamespace,
        }


class _GenerationTag(Extension):
    """``{% generation %}`` marks what a model has written; training needs to know, rendering does not."""

    tags = {"generation"}  # noqa: RUF012 - the base class's declaration

    def parse(self, parser: Parser) -> nodes.Node:
        """Take the block for a scope of its own."""
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.Scope(body, lineno=line)


class _DictFactory:
    """``dict`` without the class itself, whose attributes lead further than a template needs."""

    def __call__(self, *args: Any, **kwargs: Any) -> dict[Any, Any]:
        return dict(*args, **kwargs)

    def fromkeys(self, *args: Any) -> dict[Any, Any]:
        """As ``dict.fromkeys``."""
        return dict.fromkeys(*args)


class _SafeNamespace(Namespace):
    """``namespace`` without names that Python itself gives a meaning."""

    def __init__(*args: Any, **kwargs: Any) -> None:
        # NOTE: no parameter is named, so that ``namespace(self=...)`` works.
        self, *rest = args
        content = dict(*rest, **kwargs)
        for name in content:
            _check_name(name)
        Namespace.__init__(self, content)

    def __setitem__(self, name: str, value: Any) -> None:
        _check_name(name)
        super().__setitem__(name, value)


def _check_name(name: Any) -> None:
    if isinstance(name, str) and name.startswith("_"):
        message = f"namespace attribute {name!r} begins with an underscore"
        raise SecurityError(message)


def _to_json(
    value: Any, ensure_ascii: bool = False, indent: Any = None, separators: Any = None, sort_keys: bool = False
) -> str:
    """Jinja's own filter escapes HTML, which models have not seen in training."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise_exception(message: Any) -> NoReturn:
    raise TemplateError(str(message))


def _strftime_now(text: str) -> str:
    return datetime.now().strftime(text)
