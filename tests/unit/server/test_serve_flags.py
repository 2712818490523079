"""The command line of ``serve``."""

from __future__ import annotations

from pathlib import Path

import pytest
from toy_manifest import toy_manifest, write_openable_bundle

from runtime.bundle import BundleError
from runtime.bundle.architecture import ScoreHead
from runtime.config import TOKENS_A_REQUEST
from server.cli import main
from server.environment import RequestRules
from server.errors import StartError
from server.opening_flags import check_opening_flags
from server.reward_flag import check_reward_flag, check_reward_flag_of_script
from server.serve import (
    check_eos_ids,
    default_workers,
    ineffective_flags,
    refuse_unsupported,
    resolve_bundle,
    supervisor_config,
)
from server.serve_flags import serve_parser


def parse(*argv: str):  # type: ignore[no-untyped-def]
    return serve_parser("peregrine serve").parse_args(argv)


def test_lightllms_flags_reach_the_engine() -> None:
    flags = (
        "--max_total_token_num 5000 --max_req_total_len 300 --running_max_req_size 7 --batch_max_tokens 99 --eos_id 3 4"
        " --router_token_ratio 0.5 --router_max_new_token_len 55 --disable_dynamic_prompt_cache --mem_fraction 0.4"
        " --threads 2 --drain_seconds 9 --admission aggressive --max_queued 0 --disable_speculation"
    )
    engine = supervisor_config(parse(*flags.split()), Path("/bundle")).engine
    assert engine.bundle == "/bundle"
    assert (engine.max_total_tokens, engine.max_request_tokens, engine.max_running) == (5000, 300, 7)
    assert (engine.max_step_tokens, engine.eos_token_ids, engine.memory_fraction) == (99, (3, 4), 0.4)
    assert (engine.token_ratio, engine.router_max_new_tokens, engine.prefix_cache) == (0.5, 55, False)
    assert (engine.threads, engine.drain_seconds, engine.admission, engine.max_queued) == (2, 9.0, "aggressive", 0)
    assert engine.speculation == "off"


@pytest.mark.parametrize(
    ("flags", "admission"),
    [
        ("", "past_future"),
        ("--router_token_ratio 0", "future_peak"),
        ("--router_token_ratio 0.5", "future_peak"),
        ("--router_token_ratio 0.5 --admission past_future", "past_future"),
    ],
)
def test_lightllms_ratio_asks_for_its_admission(flags: str, admission: str) -> None:
    assert supervisor_config(parse(*flags.split()), Path("/bundle")).engine.admission == admission


def test_flags_reach_the_workers() -> None:
    flags = (
        "--model_name kestrel --strict_parameters --return_all_prompt_logprobs --long_truncation_mode head --disable_ui"
        " --use_tgi_api --first_token_constraint_mode"
    )
    config = supervisor_config(parse(*flags.split(), "--httpserver_workers", "3"), Path("/bundle"))
    assert (config.worker.model_name, config.worker.strict_parameters) == ("kestrel", True)
    assert (config.worker.prompt_logprobs, config.worker.truncation) == (True, "head")
    assert (config.worker.ui, supervisor_config(parse(), Path()).worker.ui) == (False, True)
    assert (config.worker.tgi, config.worker.first_token_constraint, config.worker.token_healing) == (True, True, False)
    assert supervisor_config(parse("--token_healing_mode"), Path()).worker.token_healing
    assert config.http.workers == 3
    assert config.http.graceful_timeout > config.engine.drain_seconds


def test_flags_of_overload_reach_both_sides() -> None:
    config = supervisor_config(
        parse(*["--max_queued_tokens", "77", "--request_timeout", "2.5", "--overload_status", "429"]), Path("/bundle")
    )
    assert (config.engine.queued_tokens, config.worker.request_timeout, config.worker.overload_status) == (77, 2.5, 429)
    default = supervisor_config(parse("--max_queued", "20"), Path("/bundle"))
    assert (default.worker.request_timeout, default.worker.overload_status) == (None, 503)
    assert default.engine.queued_tokens == 20 * TOKENS_A_REQUEST


def test_chunk_size_stands_in_for_step_tokens() -> None:
    assert supervisor_config(parse("--chunked_prefill_size", "128"), Path()).engine.max_step_tokens == 128


def test_gunicorns_times_can_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIGHTLMM_GUNICORN_KEEP_ALIVE", "11")
    monkeypatch.setenv("LIGHTLMM_GUNICORN_TIME_OUT", "180")
    http = supervisor_config(parse(), Path()).http
    assert (http.keepalive, http.timeout) == (11, 180)


def test_flags_without_effect_are_told() -> None:
    arguments = parse("model", "--tp", "1", "--trust_remote_code", "--mode", "a", "b", "--max_req_input_len", "9")
    assert sorted(ineffective_flags(arguments)) == ["max_req_input_len", "mode", "tp", "trust_remote_code"]
    assert ineffective_flags(parse("model")) == []


def test_flags_without_effect_do_not_swallow_the_model() -> None:
    assert parse("--max_req_input_len", "9", "--tp", "1", "model").spec == "model"


@pytest.mark.parametrize(
    ("flags", "names"),
    [
        (["--port", "70000"], "--port: must be between 0 and 65535"),
        (["--mem_fraction", "1.5"], "--mem_fraction"),
        (["--mem_fraction", "nan"], "--mem_fraction"),
        (["--max_queued", "x"], "--max_queued: invalid whole number value: 'x'"),
        (["--overload_status", "500"], "--overload_status"),
        (["--request_timeout", "0"], "--request_timeout: must be between"),
        (["--no_such_flag"], "--no_such_flag"),
        (["--max_q", "3"], "--max_q"),
    ],
)
def test_bad_flags_are_named(flags: list[str], names: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse(*flags)
    assert caught.value.code == 2
    assert names in capsys.readouterr().err


def test_a_run_mode_that_would_change_answers_is_refused() -> None:
    with pytest.raises(StartError, match="--run_mode"):
        refuse_unsupported(parse("--run_mode", "prefill"))


FIRST, HEALING = "--first_token_constraint_mode", "--token_healing_mode"


@pytest.mark.parametrize(
    ("flags", "target", "tokens", "message"),
    [
        ([HEALING, FIRST], "cpu", (1,), "has no place"),
        ([HEALING, "--return_all_prompt_logprobs"], "cpu", (), "wants them whole"),
        ([FIRST], "cpu", (), "FIRST_ALLOWED_TOKENS has to name tokens"),
        ([FIRST], "cpu", (1, 262), "has 262; the model's vocabulary ends at 261"),
        ([FIRST], "cuda", (1,), "target cuda draws tokens on its device"),
        ([HEALING], "tensorrt", (), "target tensorrt draws tokens on its device"),
    ],
)
def test_how_outputs_begin_is_settled_before_the_start(
    flags: list[str], target: str, tokens: tuple[int, ...], message: str
) -> None:
    rules = RequestRules(first_allowed_tokens=tokens)
    with pytest.raises(StartError, match=message):
        check_opening_flags(parse(*flags), rules, toy_manifest(target=target))


def test_modes_that_can_be_had_are_had() -> None:
    rules = RequestRules(first_allowed_tokens=(0, 261))
    for flags in ([], [HEALING], [FIRST]):
        check_opening_flags(parse(*flags), rules, toy_manifest())
        check_opening_flags(parse(*flags), rules, None)
    check_opening_flags(parse(), rules, toy_manifest(target="cuda"))


def test_first_tokens_come_from_the_environment() -> None:
    assert RequestRules.from_environ({"FIRST_ALLOWED_TOKENS": " 5, 7,9 "}).first_allowed_tokens == (5, 7, 9)
    for text in ("5,", "a", "-1", "5 6"):
        with pytest.raises(ValueError, match="FIRST_ALLOWED_TOKENS must be token ids"):
            RequestRules.from_environ({"FIRST_ALLOWED_TOKENS": text})


def test_eos_ids_have_to_be_in_the_vocabulary() -> None:
    check_eos_ids((), 5)
    check_eos_ids((0, 4), 5)
    with pytest.raises(StartError, match="--eos_id 5"):
        check_eos_ids((1, 5), 5)


def test_a_model_is_named_once() -> None:
    with pytest.raises(StartError, match="--model_dir"):
        refuse_unsupported(parse("one", "--model_dir", "two"))


def test_a_failed_build_is_not_served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PEREGRINE_CACHE", str(tmp_path))
    (tmp_path / "broken.gguf").write_bytes(b"GGUF")
    with pytest.raises(StartError, match="could not be built"):
        resolve_bundle(parse(str(tmp_path / "broken.gguf")))


def test_what_is_neither_built_nor_buildable_is_named(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="no-such-model"):
        resolve_bundle(parse(str(tmp_path / "no-such-model")))


def test_small_machines_have_one_http_worker() -> None:
    assert [default_workers(cores) for cores in (1, 4, 8, 64)] == [1, 1, 2, 4]


def test_serving_reports_mistakes_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "--run-mode", "prefill"]) == 2
    assert capsys.readouterr().err == "peregrine serve: error: --run_mode prefill: only normal is supported\n"


def test_the_reward_flag_is_refused_for_a_model_that_generates(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = write_openable_bundle(tmp_path / "bundle")
    assert main(["serve", str(bundle), "--use-reward-model"]) == 2
    assert capsys.readouterr().err == (
        "peregrine serve: error: --use_reward_model: kestrel (family llama) generates text; need: a reward model, whose"
        " checkpoint has a score head; without the flag this model is served as it is\n"
    )


def test_lightllms_launch_line_of_a_reward_model_is_accepted(tmp_path: Path) -> None:
    flags = ("--use_reward_model", "--disable_dynamic_prompt_cache", "--disable_chunked_prefill", "--model_dir", "m")
    arguments = parse(*flags)
    refuse_unsupported(arguments)
    assert not supervisor_config(arguments, tmp_path).engine.prefix_cache
    check_reward_flag(toy_manifest(ScoreHead()))


def test_a_script_can_be_a_reward_model(tmp_path: Path) -> None:
    script = tmp_path / "script.json"
    check_reward_flag_of_script(script)  # the engine's to refuse
    script.write_text('{"scores": true}')
    check_reward_flag_of_script(script)
    script.write_text("{}")
    with pytest.raises(StartError, match=r"script\.json generates text; need: a reward model"):
        check_reward_flag_of_script(script)


def test_the_command_explains_itself(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    assert "doctor" in capsys.readouterr().out
    assert main(["frobnicate"]) == 2
    assert main([]) == 2


def test_recipes_are_listed_by_the_build_half(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models"]) == 0
    assert "smollm2" in capsys.readouterr().out


def test_doctor_always_succeeds(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 0
    report = capsys.readouterr().out
    for title in ("machine", "packages", "native operators", "cache", "models"):
        assert f"{title}\n" in report
