from pathlib import Path
from tempfile import TemporaryDirectory

from gguf_files import model_file
from hypothesis import given, settings
from hypothesis import strategies as st

from build_engine.errors import CheckpointError
from build_engine.readers.gguf_file import read_gguf

WHOLE, BOUNDARIES = model_file(num_layers=1).build()
HEADER = BOUNDARIES[-1]


@settings(max_examples=300, deadline=None)
@given(position=st.integers(0, HEADER - 1), value=st.integers(0, 255), width=st.sampled_from([1, 4, 8]))
def test_a_header_with_altered_bytes_loads_or_is_refused_with_one_error(position: int, value: int, width: int) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "model.gguf"
        path.write_bytes(WHOLE[:position] + bytes([value]) * width + WHOLE[position + width :])
        error = outcome(path)
        assert error is None or str(path) in error


def outcome(path: Path) -> str | None:
    """The refusal, or ``None`` if the file loads with every tensor inside it."""
    try:
        file = read_gguf(path)
    except CheckpointError as error:
        return str(error)
    assert all(info.offset + info.size <= len(WHOLE) for info in file.tensors.values())
    return None
