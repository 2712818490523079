import io

from build_engine.progress import BarProgress, LineProgress, Progress, make_progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_quiet_progress_says_nothing() -> None:
    progress = make_progress(quiet=True)
    assert type(progress) is Progress
    progress("weights", 1, 2)
    progress.note("x")
    progress.close()


def test_plain_streams_get_one_line_at_each_end_of_a_stage() -> None:
    stream = io.StringIO()
    progress = make_progress(stream=stream)
    assert isinstance(progress, LineProgress)
    for done in range(5):
        progress("weights", done, 4)
    progress.note("a note")
    first, last, note = stream.getvalue().splitlines()
    assert first == "weights ..."
    assert last.startswith("weights done in ")
    assert note == "a note"


def test_terminals_get_a_bar_that_ends_full_with_a_line_of_its_own() -> None:
    stream = Terminal()
    progress = make_progress(stream=stream)
    assert isinstance(progress, BarProgress)
    progress("weights", 0, 4)
    progress("weights", 4, 4)
    text = stream.getvalue()
    assert "100%" in text.splitlines()[-1]
    assert text.endswith("\n")


def test_a_note_does_not_run_into_the_bar() -> None:
    stream = Terminal()
    progress = make_progress(stream=stream)
    progress("weights", 1, 4)
    progress.note("a note")
    assert stream.getvalue().endswith("\na note\n")


def test_stages_without_units_are_complete() -> None:
    stream = Terminal()
    make_progress(stream=stream)("empty", 0, 0)
    assert "100%" in stream.getvalue()
