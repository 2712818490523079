"""Stands in for ``tensorrt.plugin``: the names and checks that its Python sources (11.4) have, on symbolic sizes."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any


class Expr:
    """A symbolic size: operators with the expression on the left only, as TensorRT's."""

    def __init__(self, text: object) -> None:
        self.text = text.text if isinstance(text, Expr) else text

    def __add__(self, other: object) -> Expr:
        return Expr(f"({self.text} + {Expr(other).text})")

    def __mul__(self, other: object) -> Expr:
        return Expr(f"({self.text} * {Expr(other).text})")

    def __floordiv__(self, other: object) -> Expr:
        return Expr(f"({self.text} // {Expr(other).text})")

    def value(self, **sizes: int) -> int:
        return self.text if isinstance(self.text, int) else int(eval(self.text, {}, sizes))


class TensorDesc:
    def __init__(self, dtype: str, *shape: object) -> None:
        self.dtype, self.shape_expr, self.alias = dtype, [Expr(size) for size in shape], None

    def aliased(self) -> TensorDesc:
        other = TensorDesc(self.dtype, *self.shape_expr)
        other.alias = self
        return other


class KernelLaunchParams:
    def __init__(self) -> None:
        self.grid_x = self.grid_y = self.grid_z = self.block_x = self.block_y = self.block_z = Expr(1)
        self.shared_mem = Expr(0)

    def __setattr__(self, name: str, value: object) -> None:
        self.__dict__[name] = Expr(value)


class SymIntExprs(list[Any]):
    def __init__(self, length: int) -> None:
        super().__init__([None] * length)


class AutoTuneCombination:
    def __init__(self, io_types: str, layouts: str) -> None:
        self.io_types, self.layouts = io_types.split(", "), layouts


class QuickPlugin:
    """The module: what was registered lies in ``defined``."""

    TensorDesc, KernelLaunchParams, SymIntExprs = TensorDesc, KernelLaunchParams, SymIntExprs
    AutoTuneCombination, SymInt32 = AutoTuneCombination, Expr

    def __init__(self) -> None:
        self.defined: dict[str, SimpleNamespace] = {}

    def from_shape_expr(self, shape: tuple[object, ...], dtype: str) -> TensorDesc:
        return TensorDesc(dtype, *shape)

    def register(self, identity: str) -> Callable[..., Any]:
        def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
            signature = inspect.signature(function)
            annotations = [parameter.annotation for parameter in signature.parameters.values()]
            assert all(annotation in (TensorDesc, str) for annotation in annotations)
            assert annotations == sorted(annotations, key=lambda annotation: annotation is str)
            assert typing.get_origin(signature.return_annotation) is tuple
            outputs = typing.get_args(signature.return_annotation)
            assert set(outputs) == {TensorDesc}
            self.defined[identity] = SimpleNamespace(
                register=function, names=list(signature.parameters), outputs=len(outputs)
            )
            return function

        return decorate

    def autotune(self, identity: str) -> Callable[..., Any]:
        return self._implement(identity, "autotune", ["outputs"])

    def aot_impl(self, identity: str) -> Callable[..., Any]:
        return self._implement(identity, "aot_impl", ["outputs", "tactic"])

    def _implement(self, identity: str, kind: str, extra: list[str]) -> Callable[..., Any]:
        def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
            plugin = self.defined[identity]
            assert list(inspect.signature(function).parameters) == plugin.names + extra
            setattr(plugin, kind, function)
            return function

        return decorate
