"""transformers, eager, bfloat16: one static batch a call, which is its best case as all prompts are of one length."""

import sys
from typing import Any

import protocol
import torch
from transformers import AutoModelForCausalLM, StoppingCriteria, StoppingCriteriaList


class Watch(StoppingCriteria):
    """Tells the clock of each step; stops nothing."""

    def __init__(self, clock: protocol.Clock) -> None:
        self.clock = clock

    def __call__(self, input_ids: torch.Tensor, *_: object, **__: object) -> torch.Tensor:
        for request in range(len(input_ids)):
            self.clock.got(request)
        return torch.zeros(len(input_ids), dtype=torch.bool)


def load() -> Any:
    torch.set_num_threads(int(sys.argv[2]))
    torch.set_grad_enabled(False)
    model = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.bfloat16).train(False)
    model.generation_config.eos_token_id = None
    model.generation_config.pad_token_id = 0
    return model


def generate(model: Any, prompts: protocol.Prompts, new_tokens: int, clock: protocol.Clock) -> None:
    ids = torch.tensor(prompts)
    model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=new_tokens,
        do_sample=False,
        stopping_criteria=StoppingCriteriaList([Watch(clock)]),
    )


protocol.serve(load, generate)
