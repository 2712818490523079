from __future__ import annotations

from build_engine.targets.tensorrt_progress import PhaseProgress


def followed(*events: tuple[str, ...]) -> list[int]:
    seen: list[int] = []
    progress = PhaseProgress(lambda stage, done, total: seen.append(done * 100 // total))
    for kind, name, *rest in events:
        if kind == "start":
            progress.start(name, rest[0] or None, int(rest[1]))
        elif kind == "step":
            progress.step(name, int(rest[0]))
        else:
            progress.finish(name)
    return seen


def test_a_phase_inside_a_step_moves_within_that_step() -> None:
    assert followed(
        ("start", "build", "", "4"),
        ("step", "build", "0"),
        ("start", "optimise", "build", "2"),
        ("step", "optimise", "0"),
        ("step", "optimise", "1"),
        ("finish", "optimise"),
        ("step", "build", "1"),
    ) == [0, 25, 25, 37, 50, 50]


def test_it_never_falls_and_never_claims_the_end() -> None:
    shares = followed(
        ("start", "first", "", "1"),
        ("step", "first", "0"),
        ("finish", "first"),
        ("start", "second", "", "0"),
        ("step", "unknown", "5"),
    )
    assert shares == [0, 99, 99, 99]


def test_the_end_is_told_once() -> None:
    seen: list[tuple[str, int, int]] = []
    PhaseProgress(lambda *event: seen.append(event)).complete()
    assert seen == [("compile", 1000, 1000)]
