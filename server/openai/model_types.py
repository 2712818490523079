"""``/v1/models``."""

from __future__ import annotations

import msgspec


class Model(msgspec.Struct, kw_only=True):
    """The model that is served."""

    id: str
    object: str = "model"
    created: int
    owned_by: str = "peregrine"
    max_model_len: int


class ModelList(msgspec.Struct, kw_only=True):
    """All models: one."""

    object: str = "list"
    data: list[Model]
