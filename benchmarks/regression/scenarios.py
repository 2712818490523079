"""What the engine is made to do where its work is counted."""

from __future__ import annotations

from benchmarks.regression.replay import Arrival, Leave, Scenario

SCENARIOS = (
    Scenario("one stream", (Arrival(prompt=64, output=24),)),
    Scenario("8 streams, one after the other", tuple(Arrival(step=2 * i, prompt=48, output=24) for i in range(8))),
    Scenario("32 streams at once", tuple(Arrival(prompt=32, output=12) for _ in range(32))),
    Scenario(
        "long prompt beside two streams",
        (*(Arrival(prompt=16, output=16) for _ in range(2)), Arrival(step=4, prompt=700, output=4)),
    ),
    Scenario(
        "shared prefixes",
        (
            Arrival(prompt=200, output=8, shared=160),
            *(Arrival(step=10 + i, prompt=200, output=8, shared=160) for i in range(4)),
        ),
    ),
    Scenario("four samples of a prompt", (Arrival(prompt=40, output=12, samples=4),)),
    Scenario(
        "preemption",
        tuple(Arrival(step=i, prompt=40, output=60) for i in range(6)),
        engine={"max_total_tokens": 320, "max_request_tokens": 128, "admission": "aggressive"},
    ),
    Scenario(
        "clients that leave",
        (*(Arrival(prompt=32, output=24) for _ in range(3)), Arrival(step=2, prompt=600, output=4)),
        leaves=(Leave(4, 3), Leave(8, 1)),
    ),
    Scenario("log-probabilities of the prompt", (Arrival(prompt=150, output=2, prompt_logprobs=True),)),
    Scenario("scores", tuple(Arrival(step=i, prompt=120, output=1, shared=60) for i in range(4)), reward=True),
)

STEADY = Scenario("the same again and again", tuple(Arrival(step=i, prompt=40, output=20) for i in range(4)))
"""What must not take more memory from one time to the next."""
