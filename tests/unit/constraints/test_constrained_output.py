"""The engine with constraints: every output is a word of its language, whatever happens around it."""

from __future__ import annotations

import json
import re
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from constrained_engine import CLIENT, engine, params, refusal, run, text_of, toy_vocabulary
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_tokenizer import EOS_ID, VOCAB_SIZE, byte_id

from runtime.constraints import ToolSchema, choice, grammar, json_object, json_schema, regex, tool_calls
from runtime.constraints.cache import ConstraintCache
from runtime.constraints.compiler import GrammarCompiler
from runtime.constraints.vocabulary import Vocabulary, load_vocabulary
from runtime.engine.grammars import GrammarQueue
from runtime.messages import AddRequest
from runtime.request import Constraint, FinishReason

NUMBERS = regex("[0-9]{3,5}")


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory: pytest.TempPathFactory) -> Vocabulary:
    return toy_vocabulary(tmp_path_factory.mktemp("bundle"))


def schemas() -> st.SearchStrategy[dict[str, Any]]:
    leaves = st.one_of(
        st.integers(0, 6).map(lambda n: {"type": "string", "maxLength": n}),
        st.just({"type": "boolean"}),
        st.tuples(st.integers(-50, 0), st.integers(0, 50)).map(
            lambda ends: {"type": "integer", "minimum": ends[0], "maximum": ends[1]}
        ),
        st.lists(st.sampled_from(["a", "é", 3, None, True, 'q"']), min_size=1, max_size=3).map(
            lambda values: {"enum": values}
        ),
    )
    return st.recursive(
        leaves,
        lambda inner: st.one_of(
            st.tuples(inner, st.integers(0, 2)).map(
                lambda pair: {"type": "array", "items": pair[0], "maxItems": pair[1]}
            ),
            st.dictionaries(st.sampled_from("xyz"), inner, min_size=1, max_size=2).map(
                lambda fields: {
                    "type": "object",
                    "properties": fields,
                    "required": sorted(fields)[:1],
                    "additionalProperties": False,
                }
            ),
        ),
        max_leaves=4,
    )


@settings(max_examples=25, deadline=None)
@given(
    wanted=st.lists(schemas(), min_size=1, max_size=6),
    seed=st.integers(0, 2**32),
    blocks=st.sampled_from([160, 180, 600]),
)
def test_json_parses_and_validates_through_preemptions(
    vocabulary: Vocabulary, wanted: list[dict[str, Any]], seed: int, blocks: int
) -> None:
    core = engine(vocabulary, num_blocks=blocks)
    outputs = run(
        core,
        [
            AddRequest(i, [5, 6, 7 + i], params(json_schema(json.dumps(schema)), seed=seed), samples=1 + i % 2)
            for i, schema in enumerate(wanted)
        ],
    )
    for (request, _), tokens in outputs.items():
        jsonschema.validate(json.loads(text_of(tokens)), wanted[request])


def test_preemptions_do_happen_here_and_change_nothing(vocabulary: Vocabulary) -> None:
    long = params(regex("([a-z]{4} ){20}"), seed=5)
    requests = [AddRequest(i, [9, 9, 20 + i], long) for i in range(6)]
    roomy, tight = engine(vocabulary), engine(vocabulary, num_blocks=100)
    texts = [{key: text_of(tokens) for key, tokens in run(core, requests).items()} for core in (roomy, tight)]
    assert texts[0] == texts[1]
    assert tight.stats().preemptions_total > 0
    assert roomy.stats().preemptions_total == 0


@pytest.mark.parametrize(
    ("constraint", "pattern"),
    [
        (NUMBERS, "[0-9]{3,5}"),
        (choice(["yes", 'no "way"', "né\\n"]), '(yes|no "way"|né\\\\n)'),
        (grammar('start: word ("-" word)~1..2\nword: /[a-c]+/'), "[a-c]+(-[a-c]+){1,2}"),
        (grammar("start: WORD\nWORD: /[a-c]{2}/"), "[a-c]{2}"),
    ],
)
def test_texts_match(vocabulary: Vocabulary, constraint: Constraint, pattern: str) -> None:
    outputs = run(engine(vocabulary), [AddRequest(i, [i + 1], params(constraint, seed=i)) for i in range(8)])
    assert all(re.fullmatch(pattern, text_of(tokens)) for tokens in outputs.values())


def test_a_call_of_a_tool_has_its_name_and_arguments_that_validate(vocabulary: Vocabulary) -> None:
    city = {
        "$defs": {"city": {"enum": ["Oslo", "Rome"]}},
        "type": "object",
        "properties": {"city": {"$ref": "#/$defs/city"}},
    }
    city |= {"required": ["city"], "additionalProperties": False}
    tools = [ToolSchema("weather", city), ToolSchema("stop", {"type": "object", "maxProperties": 0})]
    constraint = tool_calls(tools, begin=["<call>"], end=["</call>"], separator="\n", many=True)
    once = tool_calls(tools[1:], arguments="parameters")
    requests = [AddRequest(i, [i + 1], params(constraint, seed=i)) for i in range(12)]
    outputs = run(engine(vocabulary), [*requests, AddRequest(99, [1], params(once))])
    assert text_of(outputs.pop((99, 0))) == '{"name": "stop", "parameters": {}}'
    names = set()
    for tokens in outputs.values():
        for line in text_of(tokens).splitlines():
            call = json.loads(line.removeprefix("<call>").removesuffix("</call>"))
            names.add(call["name"])
            assert call in [{"name": "stop", "arguments": {}}] or call["arguments"]["city"] in ("Oslo", "Rome")
    assert names == {"weather", "stop"}


def test_an_unconstrained_neighbours_bits_do_not_change(vocabulary: Vocabulary) -> None:
    free = AddRequest(0, [4, 5, 6], params(None, seed=1, max_new_tokens=60, ignore_eos=True))
    alone = run(engine(vocabulary), [free])[0, 0]
    beside = run(engine(vocabulary), [free, *[AddRequest(i, [i], params(json_object(), seed=i)) for i in range(1, 7)]])
    assert [(o.token_id, o.logprob) for o in beside[0, 0]] == [(o.token_id, o.logprob) for o in alone]


def test_eos_waits_for_the_grammar_and_comes_when_it_is_complete(vocabulary: Vocabulary) -> None:
    eager = params(NUMBERS, decay_factor=1e9, decay_start=0)
    (tokens,) = run(engine(vocabulary), [AddRequest(0, [1], eager)]).values()
    assert len(text_of(tokens)) == 3


def test_min_new_tokens_holds_as_long_as_the_grammar_goes_on(vocabulary: Vocabulary) -> None:
    late = params(NUMBERS, min_new_tokens=100, decay_factor=1e9, decay_start=0)
    (tokens,) = run(engine(vocabulary), [AddRequest(0, [1], late)]).values()
    assert len(text_of(tokens)) == 5


def test_ignore_eos_goes_on_as_long_as_the_grammar_does_and_then_stops(vocabulary: Vocabulary) -> None:
    outputs = run(engine(vocabulary), [AddRequest(i, [i + 1], params(NUMBERS, ignore_eos=True)) for i in range(5)])
    assert {len(text_of(tokens)) for tokens in outputs.values()} == {5}


def test_stop_sequences_and_length_end_an_output_before_its_grammar_does(vocabulary: Vocabulary) -> None:
    stop = params(regex("a{50}"), stop_sequences=((byte_id(ord("a")),) * 3,))
    short = params(regex("a{50}"), max_new_tokens=4)
    outputs = run(engine(vocabulary), [AddRequest(0, [1], stop), AddRequest(1, [1], short)])
    assert (len(outputs[0, 0]), outputs[0, 0][-1].finish) == (3, FinishReason.STOP)
    assert (len(outputs[1, 0]), outputs[1, 0][-1].finish) == (4, FinishReason.LENGTH)


def test_alternatives_are_those_that_the_grammar_allows(vocabulary: Vocabulary) -> None:
    (tokens,) = run(engine(vocabulary), [AddRequest(0, [1], params(regex("[ab]"), top_logprobs=5))]).values()
    letter, end = tokens
    assert letter.top_logprobs is not None
    assert {token for token, _ in letter.top_logprobs} == {byte_id(ord("a")), byte_id(ord("b"))}
    assert end.top_logprobs == [(EOS_ID, 0.0)]


@pytest.mark.parametrize(
    ("constraint", "reason"),
    [
        (regex("(a"), "unclosed group"),
        (json_schema('{"type": "nonsense"}'), "nonsense"),
        (json_schema("[1]"), "object"),
        (grammar("start: start"), "constraint"),
        (regex("a" * 2**18 + "b"), "bytes"),
    ],
)
def test_a_constraint_that_cannot_be_had_is_its_own_requests_failure(
    vocabulary: Vocabulary, constraint: Constraint, reason: str
) -> None:
    core = engine(vocabulary)
    assert reason in refusal(core, AddRequest(0, [1], params(constraint)))
    assert not core.has_work
    assert len(core.grammars) == 0


def test_a_grammar_that_grows_too_complex_fails_its_own_request_only(vocabulary: Vocabulary) -> None:
    growing = params(grammar('start: (("a"{1,10000}){1,10000}){1,10000}'), ignore_eos=True)
    outputs = run(engine(vocabulary), [AddRequest(0, [1], growing), AddRequest(1, [2], params(NUMBERS))])
    text_of(outputs[1, 0])
    assert outputs[0, 0][-1].finish is FinishReason.ERROR
    assert "constraint cannot be kept up" in outputs[0, 0][-1].error


def test_allowed_ids_and_a_grammar_exclude_each_other(vocabulary: Vocabulary) -> None:
    assert "exclude" in refusal(engine(vocabulary), AddRequest(0, [1], params(NUMBERS, allowed_token_ids=(1,))))


class HeldCompiler(GrammarCompiler):
    """Compiles when told to."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        super().__init__(lambda: vocabulary)
        self.held: list[Future[Any]] = []

    def compile(self, constraint: Constraint) -> Future[Any]:
        self.held.append(Future())
        return self.held[-1]


def test_nobody_waits_for_somebody_elses_grammar(vocabulary: Vocabulary) -> None:
    core = engine(vocabulary)
    woken: list[bool] = []
    core.grammars = GrammarQueue(compiler := HeldCompiler(vocabulary))
    core.grammars.on_ready = lambda: woken.append(True)
    for request in (0, 1, 2):
        core.add(CLIENT, AddRequest(request, [1], params(NUMBERS), samples=2))
    assert not core.has_work
    assert core.stats().waiting == 3
    assert core.clients == {CLIENT}
    assert "in use" in refusal(core, AddRequest(1, [1], params(None)))
    core.add(CLIENT, AddRequest(3, [1], params(None, max_new_tokens=5)))
    while core.has_work:
        core.step()
    assert core.scheduler.counters.generated_tokens == 5
    core.abort(CLIENT, 0)
    core.abort(CLIENT, 1, sample=1)
    assert not woken
    grammar = GrammarCompiler(lambda: vocabulary).compile(NUMBERS).result(30)
    for future in compiler.held:
        future.set_result(grammar)
    assert woken
    assert core.admit_compiled() == []
    samples = [(output.request_id, output.sample) for output in core.step()[CLIENT]]
    assert samples == [(1, 0), (2, 0)]
    core.add(CLIENT, AddRequest(4, [1], params(NUMBERS)))
    failed = core.fail_all("over")[CLIENT]
    assert sorted((output.request_id, output.sample) for output in failed) == [(1, 0), (2, 0), (2, 1), (4, 0)]
    assert core.clients == set()


def test_who_waits_for_a_grammar_does_not_wait_for_ever(vocabulary: Vocabulary) -> None:
    core = engine(vocabulary)
    core.grammars = GrammarQueue(compiler := HeldCompiler(vocabulary))
    for request, seconds in ((0, 1e-6), (1, 1000.0)):
        core.add(CLIENT, AddRequest(request, [1], params(NUMBERS), seconds_left=seconds))
    assert [rejected.request_id for _, rejected in core.turn_away()] == [0]
    for future in compiler.held:
        future.set_result(GrammarCompiler(lambda: vocabulary).compile(NUMBERS).result(30))
    assert core.admit_compiled() == []
    assert [group.key for group in core.scheduler.waiting] == [(CLIENT, 1)]


def test_what_was_compiled_is_remembered(vocabulary: Vocabulary) -> None:
    compiler = GrammarCompiler(lambda: vocabulary)
    first, twin = compiler.compile(NUMBERS), compiler.compile(NUMBERS)
    assert first.result(30) is twin.result(30)
    assert compiler.compile(regex("x")).result(30) is not first.result()
    assert compiler.compile(NUMBERS).done()


def test_a_tokenizer_that_grammars_cannot_use_refuses_constrained_requests_alone(
    vocabulary: Vocabulary, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text("{}")
    core = engine(vocabulary)
    core.grammars = GrammarQueue(GrammarCompiler(lambda: load_vocabulary(path, VOCAB_SIZE, [EOS_ID])))
    core.grammars.warm_up()
    assert "tokenizer.json" in refusal(core, AddRequest(0, [1], params(NUMBERS)))
    assert "cannot be constrained" in caplog.text
    run(core, [AddRequest(1, [1], params(None, max_new_tokens=2))])


def test_the_cache_forgets_the_least_recently_used() -> None:
    cache: ConstraintCache[int] = ConstraintCache(max_bytes=100_000)
    for number in range(10):
        cache.put(regex(f"{number}" * 4000), number)
        cache.put(regex(f"{number}" * 4000), number)
        assert cache.get(regex("0" * 4000)) == 0
    assert len(cache) == 4
    assert cache.get(regex("1" * 4000)) is None
    cache.put(regex("x" * 200_000), 1)
    assert len(cache) == 0


def test_a_failure_of_the_compilers_is_refused_like_a_constraint(vocabulary: Vocabulary) -> None:
    core = engine(vocabulary)
    core.grammars = GrammarQueue(compiler := HeldCompiler(vocabulary))
    core.add(CLIENT, AddRequest(0, [1], params(NUMBERS)))
    compiler.held[0].set_exception(BaseException("a panic"))
    ((client, rejected),) = core.admit_compiled()
    assert (client, rejected.message) == (CLIENT, "the constraint could not be compiled")
