"""Reads SentencePiece models (``tokenizer.model``)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from build_engine.errors import BuildError, CheckpointError
from build_engine.tokenizers.vocabulary import TokenType

_BPE = 2
_MAX_BYTES = 1 << 26
_MAX_PIECES = 1 << 21


@dataclass(frozen=True, slots=True)
class SentencePieceModel:
    """A BPE vocabulary as SentencePiece stores it.

    Attributes:
        pieces: Text of each token.
        scores: One per piece; the better, the earlier it is merged.
        types: ``TokenType`` of each.
        dummy_prefix: A space is put before every text.
    """

    pieces: list[str]
    scores: list[float]
    types: list[int]
    dummy_prefix: bool


def read_sentencepiece(path: Path) -> SentencePieceModel:
    """The model in the file at ``path``.

    Raises:
        CheckpointError: The file is missing, corrupt, or no BPE model.
        BuildError: The package that reads it is not installed.
    """
    try:
        from google.protobuf.message import DecodeError
        from sentencepiece import sentencepiece_model_pb2 as generated
    except ImportError as error:
        raise BuildError(
            f"{path}: reading it needs {error.name}; install it with: pip install 'peregrine-llm[build]'"
        ) from None
    messages: Any = generated  # its classes are made when it is imported
    try:
        size = path.stat().st_size
        if size > _MAX_BYTES:
            raise CheckpointError(f"{path}: has {size} bytes; at most {_MAX_BYTES} are accepted")
        proto = messages.ModelProto.FromString(path.read_bytes())
        pieces = [piece.piece for piece in proto.pieces]
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}") from None
    except DecodeError:
        raise CheckpointError(f"{path}: is not a SentencePiece model, or corrupt") from None
    # NOTE: what is not UTF-8 comes back as bytes.
    if not all(isinstance(piece, str) for piece in pieces):
        raise CheckpointError(f"{path}: holds a piece that is not valid UTF-8")
    if proto.trainer_spec.model_type != _BPE:
        raise CheckpointError(f"{path}: is not a BPE model")
    if not 0 < len(pieces) <= _MAX_PIECES:
        raise CheckpointError(f"{path}: has {len(pieces)} pieces; 1 to {_MAX_PIECES} are accepted")
    return SentencePieceModel(
        pieces=pieces,
        scores=[float(piece.score) for piece in proto.pieces],
        types=[int(TokenType(piece.type)) for piece in proto.pieces],
        dummy_prefix=bool(proto.normalizer_spec.add_dummy_prefix),
    )
