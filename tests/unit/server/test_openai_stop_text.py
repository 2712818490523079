"""Text without its stop string, in whatever pieces it comes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from server.openai.stop_text import StopText

LETTERS = st.text(alphabet="ab", max_size=12)


def pushed(strings: list[str], pieces: list[str]) -> list[str]:
    stop = StopText(strings)
    return [stop.push(piece, last=place == len(pieces) - 1) for place, piece in enumerate(pieces)]


def test_what_may_begin_a_stop_string_waits() -> None:
    assert pushed(["END"], ["go E", "N", "ough"]) == ["go ", "", "ENough"]
    assert pushed(["END"], ["go E", "N", "D!"]) == ["go ", "", ""]


def test_what_is_left_comes_with_the_end() -> None:
    assert pushed(["END"], ["go ", "EN"]) == ["go ", "EN"]


def test_the_first_of_several_ends_the_text() -> None:
    assert pushed(["late", "at"], ["what", "ever"])[0] == "wh"


@given(strings=st.lists(LETTERS.filter(bool), max_size=3), pieces=st.lists(LETTERS, min_size=1, max_size=5))
def test_pieces_add_up_to_the_text_before_the_first_stop_string(strings: list[str], pieces: list[str]) -> None:
    stop, out, seen, found = StopText(strings), "", "", False
    for place, piece in enumerate(pieces):
        out += stop.push(piece, last=place == len(pieces) - 1)
        seen += piece
        found = any(string in seen for string in strings)
        if found:
            break
    end = min(seen.find(string) for string in strings if string in seen) if found else len(seen)
    assert out == seen[:end]
