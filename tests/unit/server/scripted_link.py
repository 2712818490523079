"""An engine at the other end of an ``EngineClient``, without sockets: it lives, dies and speaks when it is told to."""

from __future__ import annotations

from collections.abc import Callable

from runtime.limits import EngineLimits
from runtime.messages import Abort, AddRequest, StepOutputs, ToEngine, TokenOutput, ToWorker, Welcome
from runtime.request import FinishReason

LIMITS = EngineLimits(
    max_request_tokens=256,
    max_total_tokens=4096,
    max_running=16,
    max_queued=64,
    max_step_tokens=256,
    block_size=16,
    vocab_size=1000,
    eos_token_ids=(0,),
)


def token_of(prompt: list[int], sample: int, place: int) -> int:
    """What every engine with the same model generates."""
    return (prompt[0] * 31 + sample * 7 + place * 3) % 1000


class ScriptedLink:
    """Takes the place of ``server.engine_link.EngineLink``.

    Attributes:
        running: Requests of the engine that is connected, each with the next place of its open samples.
        sent: Everything that any engine was told.
        shift: Added to the tokens, for an engine with another model.
    """

    def __init__(self, _path: str, on_message: Callable[[ToWorker], None], on_loss: Callable[[], None]) -> None:
        self.on_message, self._on_loss = on_message, on_loss
        self.running: dict[int, tuple[AddRequest, dict[int, int]]] = {}
        self.sent: list[ToEngine] = []
        self.shift = 0
        self.welcome("first")

    def send(self, message: ToEngine) -> None:
        self.sent.append(message)
        match message:
            case AddRequest(request_id=request_id, samples=samples):
                assert request_id not in self.running, "a request is there twice"
                self.running[request_id] = (message, dict.fromkeys(range(samples), 0))
            case Abort(request_id=request_id, sample=sample) if request_id in self.running:
                places = self.running[request_id][1]
                for ended in [*places] if sample < 0 else [sample]:
                    places.pop(ended, None)

    def close(self) -> None:
        pass

    def welcome(self, boot_id: str) -> None:
        """An engine is there."""
        self.on_message(Welcome(boot_id, LIMITS))

    def lose(self) -> None:
        """The connection breaks: an engine forgets whose requests it had."""
        self.running = {}
        self._on_loss()

    def step(self, chosen: Callable[[int, int], bool] = lambda _request, _sample: True) -> None:
        """One token for each chosen sample."""
        outputs = []
        for request_id, (add, places) in self.running.items():
            for sample, place in [*places.items()]:
                if chosen(request_id, sample):
                    last = place + 1 == add.sampling.max_new_tokens
                    finish = FinishReason.LENGTH if last else FinishReason.NONE
                    token = token_of(add.prompt, sample, place) + self.shift
                    outputs.append(TokenOutput(request_id, sample, token, -0.5, finish))
                    places[sample] += 1
                    if last:
                        del places[sample]
        self.on_message(StepOutputs(outputs))
