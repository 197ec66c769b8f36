"""A served model over real HTTP. Behind the server is the engine with random weights, so what it would write is known."""

import logging
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import llguidance
import pytest
import uvicorn
from model_server import ModelServer, break_off, events, fall_silent, hang_up, page, status
from outlines.generator import BlackBoxGenerator
from outlines.types import CFG
from pydantic import SecretStr

from app.completions import ModelCompletions
from app.errors import HyojunError, InvalidInput, ModelOutputError, NotFound, TooLong, Unavailable
from app.generation import grammar
from app.generation.chat import Message
from app.generation.circuit import Circuit
from app.generation.endpoint import Endpoint, configured
from app.generation.llama import LlamaCpp
from app.generation.reader import NoteReader
from app.generation.remote import RemoteModel
from app.pipeline import Converter
from app.settings import Settings
from app.terminology.matching import Lexicon
from app.web.completions_api import model_app
from schemas.statement import Kind

LARK = 'start: "<" /[a-c]{2,4}/ ">" ("yes" | "no")'
SPEC = llguidance.grammar_from("lark", LARK)
PATIENT = "患者山田太郎"
MESSAGES = [Message("system", "答える"), Message("user", f"{PATIENT}の問い")]
KINDS = ["llama-server", "vllm", "hyojun"]
Start = Callable[..., tuple[ModelServer, RemoteModel]]


@pytest.fixture
def start(plain_model: LlamaCpp) -> Iterator[Start]:
    """A server of a kind and a model that speaks to it; keywords are the endpoint's, or the server's."""
    opened: list[tuple[ModelServer, RemoteModel]] = []

    def open_one(kind: str = "vllm", **options: Any) -> tuple[ModelServer, RemoteModel]:
        server = ModelServer(kind, plain_model)
        for name in ("key", "streams", "obeys", "certificate"):
            if name in options:
                setattr(server, name, options.pop(name))
        server.__enter__()
        model = RemoteModel(endpoint(server.url, kind, **({"key": SecretStr(server.key)} if server.key else {}) | options))
        opened.append((server, model))
        return server, model

    yield open_one
    for server, model in opened:
        model.close()
        server.__exit__(None, None, None)


def endpoint(url: str, kind: str = "vllm", **options: Any) -> Endpoint:
    defaults = {"model": "base", "sequence_tokens": 8192, "first_pause_seconds": 0.02, "circuit_failures": 50}
    return Endpoint(kind=kind, url=url, **defaults | options)  # type: ignore[arg-type]


# -- what is written ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("streams", [True, False])
def test_a_served_model_writes_what_the_same_model_writes_here(
    start: Start, plain_model: LlamaCpp, kind: str, streams: bool
) -> None:
    server, model = start(kind, streams=streams)
    here, there = plain_model.write_chat(MESSAGES, SPEC), model.write_chat(MESSAGES, SPEC)
    assert there.text == here.text and there.finish == "stop"
    assert there.prompt_tokens == here.prompt_tokens
    assert there.sampled_tokens == here.sampled_tokens + here.forced_tokens
    assert there.choices == ()
    assert 0 < there.first_seconds <= there.seconds
    drawn = model.write_chat(MESSAGES, SPEC, temperature=1.0, seed=7)
    assert drawn.text == plain_model.write_chat(MESSAGES, SPEC, temperature=1.0, seed=7).text
    assert [seen.path for seen in server.seen] == ["/v1/chat/completions"] * 2


@pytest.mark.parametrize("kind", KINDS)
def test_a_note_is_read_through_a_server_as_it_is_read_here(start: Start, plain_model: LlamaCpp, kind: str) -> None:
    _, model = start(kind)
    text = "主訴：咳 ::= \"熱\"\nHbA1c 7.2%、ペニシリンで発疹\nstart: アムロジピン5mg 28日分"
    mentions = [(text.index("HbA1c"), text.index("HbA1c") + 5, Kind.LAB)]
    local, remote = NoteReader(plain_model), NoteReader(model)
    written = 0
    for temperature, seed in ((0.0, 0), *((1.0, seed) for seed in range(1, 7))):
        here = local.read(text, mentions, "progress", temperature=temperature, seed=seed)
        there = remote.read(text, mentions, "progress", temperature=temperature, seed=seed)
        assert there.written == [replace(statement, confidence=None) for statement in here.written]
        assert there.lines == here.lines and there.prompt_tokens == here.prompt_tokens
        written += len(here.written)
    assert written > 3
    fingerprints = remote.fingerprints
    assert fingerprints.model == model.fingerprint() != local.fingerprints.model
    assert (fingerprints.prompt, fingerprints.grammar) == (local.fingerprints.prompt, local.fingerprints.grammar)


def test_a_long_note_is_read_in_parts(start: Start) -> None:
    _, model = start(sequence_tokens=1024)
    reading = NoteReader(model).read("\n".join(f"糖尿病{number}" for number in range(60)), [], "progress")
    assert reading.windows > 1 and {w.line for w in reading.written} <= set(range(60))


def test_a_part_that_is_too_long_for_the_server_is_halved(start: Start, plain_model: LlamaCpp) -> None:
    text = "\n".join(f"糖尿病{number}" for number in range(8))
    server, model = start()
    server.plan.append(status(400, "This model's maximum context length is 4096 tokens. However, you requested 5000"))
    assert NoteReader(model).read(text, [], "progress").windows == 2


def test_requests_leave_nothing_to_the_samplers_of_the_server(start: Start) -> None:
    bodies = {}
    for kind in KINDS:
        server, model = start(kind)
        model.write_chat(MESSAGES, SPEC, max_tokens=50, seed=2**40 + 5)
        bodies[kind] = server.seen[0].body
    for body in bodies.values():
        assert body["model"] == "base" and body["temperature"] == 0.0 and body["max_tokens"] == 50 and body["seed"] == 5
        assert body["messages"] == [{"role": m.role, "content": m.content} for m in MESSAGES]
    assert bodies["vllm"]["structured_outputs"] == {"grammar": "%llguidance {}\n" + LARK}
    assert bodies["llama-server"]["grammar"] == bodies["hyojun"]["grammar"] == "%llguidance {}\n" + LARK
    assert bodies["vllm"]["repetition_penalty"] == bodies["llama-server"]["repeat_penalty"] == 1.0


def test_an_adapter_is_asked_for_by_its_name(start: Start) -> None:
    server, model = start("vllm")
    model.write_chat(MESSAGES, SPEC, adapter="uc1")
    assert server.seen[0].body["model"] == "uc1"
    assert model.fingerprint("uc1") != model.fingerprint()
    with pytest.raises(InvalidInput):
        start("llama-server")[1].write_chat(MESSAGES, SPEC, adapter="uc1")


def test_a_text_can_be_cut_off(start: Start, plain_model: LlamaCpp) -> None:
    _, model = start()
    long = llguidance.grammar_from("lark", "start: /[日本]{40}/")
    cut = model.write_chat(MESSAGES, long, max_tokens=10)  # ten bytes: three characters and a third
    assert cut.finish == "length" and len(cut.text) == 3 and cut.sampled_tokens == 10
    assert plain_model.write_chat(MESSAGES, long).text.startswith(cut.text)


def test_free_text_needs_no_grammar(start: Start, plain_model: LlamaCpp) -> None:
    server, model = start()
    assert model.write_chat(MESSAGES, None, max_tokens=12).sampled_tokens == 12
    assert "structured_outputs" not in server.seen[0].body


def test_outlines_drives_it(start: Start, plain_model: LlamaCpp) -> None:
    _, model = start(slots=3)
    generator = BlackBoxGenerator(model, CFG(LARK))
    expected = {text: plain_model.write_chat([Message("user", text)], SPEC).text for text in ("問い", "x", "咳")}
    assert generator("問い") == expected["問い"]
    assert generator.batch(list(expected)) == list(expected.values())
    streamed = list(generator.stream("問い"))
    assert "".join(streamed) == expected["問い"] and len(streamed) > 1
    with pytest.raises(TypeError):
        BlackBoxGenerator(model, int)("問い")


def test_white_space_that_a_server_strips_from_the_end_is_put_back(start: Start) -> None:
    server, model = start()
    spec = llguidance.grammar_from("lark", r'start: "a" ("b" | "c") "\n"')
    for content in ("ab", "ab\n"):
        server.plan.append(events({"choices": [{"delta": {"content": content}, "finish_reason": "stop"}]}))
        assert model.write_chat(MESSAGES, spec).text == "ab\n"
        server.plan.append(events({"choices": [{"delta": {"content": content}, "finish_reason": "stop"}]}))
        assert "".join(model.generate_stream("x", CFG(r'start: "a" ("b" | "c") "\n"'))) == "ab\n"


def test_tokens_that_hyojun_forced_are_told_apart(start: Start) -> None:
    server, model = start("hyojun")
    server.plan.append(
        events(
            {"choices": [{"delta": {"content": "<ab>no"}, "finish_reason": "stop"}]},
            {"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 6}, "hyojun": {"forced_tokens": 4}},
        )
    )
    written = model.write_chat(MESSAGES, SPEC)
    assert (written.prompt_tokens, written.sampled_tokens, written.forced_tokens) == (9, 2, 4)


class OneModel:
    """The models of another Hyojun."""

    def __init__(self, model: LlamaCpp) -> None:
        self.model = model

    @property
    def names(self) -> Sequence[str]:
        return ("base",)

    def use(self, name: str) -> tuple[LlamaCpp, str | None]:
        if name != "base":
            raise NotFound("there is no model of this name")
        return self.model, None


def test_a_hyojun_serves_another(plain_model: LlamaCpp) -> None:
    app = model_app(ModelCompletions(OneModel(plain_model), 60.0))
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_config=None, timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            time.sleep(0.01)
        url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
        model = RemoteModel(endpoint(url, "hyojun", sequence_tokens=12288))
        here, there = plain_model.write_chat(MESSAGES, SPEC), model.write_chat(MESSAGES, SPEC)
        assert (there.text, there.prompt_tokens) == (here.text, here.prompt_tokens)
        assert (there.sampled_tokens, there.forced_tokens) == (here.sampled_tokens, here.forced_tokens)
        text = "糖尿病、HbA1c 7.2%\n咳"
        readings = [NoteReader(m).read(text, [], "progress", temperature=1.0, seed=2) for m in (plain_model, model)]
        assert readings[1].written == [replace(statement, confidence=None) for statement in readings[0].written]
        with pytest.raises(TooLong):
            model.write_chat([Message("user", PATIENT * 3000)], SPEC)
        with pytest.raises(Unavailable, match="status 404"):
            model.write_chat(MESSAGES, SPEC, adapter="uc9")
    finally:
        server.should_exit = True
        thread.join()


# -- what is not believed -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("streams", [True, False])
def test_a_server_that_ignores_the_grammar_is_not_believed(start: Start, kind: str, streams: bool) -> None:
    server, model = start(kind, obeys=False, streams=streams)
    with pytest.raises(ModelOutputError, match="did not keep to the grammar"):
        model.write_chat(MESSAGES, SPEC, max_tokens=400)
    assert len(server.seen) == 1


def test_a_stream_ends_before_text_that_breaks_the_grammar(start: Start) -> None:
    server, model = start()
    server.plan.append(events(*({"choices": [{"delta": {"content": text}}]} for text in ("<a", "b", "X", "yes"))))
    pieces = model.generate_stream("x", CFG(LARK))
    assert [next(pieces), next(pieces)] == ["<a", "b"]
    with pytest.raises(ModelOutputError):
        next(pieces)


@pytest.mark.parametrize("finish", ["stop", "content_filter", "tool_calls"])
def test_an_answer_that_ends_early_is_not_believed(start: Start, finish: str) -> None:
    server, model = start()
    server.plan.append(events({"choices": [{"delta": {"content": "<ab>"}, "finish_reason": finish}]}))
    with pytest.raises(ModelOutputError):
        model.write_chat(MESSAGES, SPEC)


def test_an_answer_that_fills_the_context_is_too_long(start: Start) -> None:
    server, model = start()
    server.plan.append(events({"choices": [{"delta": {"content": "<ab"}, "finish_reason": "length"}]}))
    with pytest.raises(TooLong):
        model.write_chat(MESSAGES, SPEC)


# -- what is refused ----------------------------------------------------------------------------------------------------


def test_a_prompt_that_does_not_fit_is_too_long(start: Start) -> None:
    for kind in ("llama-server", "vllm"):
        with pytest.raises(TooLong) as caught:
            start(kind)[1].write_chat([Message("user", PATIENT * 1000)], SPEC)
        assert PATIENT not in str(caught.value)


@pytest.mark.parametrize(
    "message",
    [
        f"Grammar error: unexpected token near {PATIENT}",  # vLLM
        f"Failed to initialize samplers: failed to parse grammar {PATIENT}",  # llama-server
        "Failed to initialize samplers: failed to parse grammar: llguidance is not enabled",
    ],
)
def test_a_refused_grammar_is_the_callers_business(
    start: Start, message: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    server, model = start()
    server.plan.append(status(400, message))
    with pytest.raises(InvalidInput, match="the server refuses the grammar") as caught:
        model.write_chat(MESSAGES, SPEC)
    assert len(server.seen) == 1
    assert PATIENT not in str(caught.value) + caplog.text


def test_errors_within_a_stream_are_told_apart_too(start: Start) -> None:
    server, model = start()
    begun = {"choices": [{"delta": {"content": "<a"}}]}
    for code, error in (("context_length_exceeded", TooLong), ("grammar", Unavailable), (503, Unavailable)):
        server.plan.append(events(begun, {"error": {"message": PATIENT, "code": code}}))
        if code == 503:
            server.plan += [status(404)]
        with pytest.raises(error):
            model.write_chat(MESSAGES, SPEC)
    server.plan.append(events(begun, {"error": {"message": "Grammar error", "code": 400}}))
    with pytest.raises(InvalidInput):
        model.write_chat(MESSAGES, SPEC)
    assert len(server.seen) == 5


def test_a_grammar_that_nobody_could_enforce_is_not_sent(start: Start) -> None:
    server, model = start()
    for bad in (llguidance.grammar_from("lark", "start: nowhere"), llguidance.grammar_from("json_schema", "{}")):
        with pytest.raises(InvalidInput):
            model.write_chat(MESSAGES, bad)
    assert not server.seen


@pytest.mark.parametrize("code", [301, 400, 401, 404, 418, 500, 501])
def test_other_refusals_are_told_by_their_status_alone(
    start: Start, code: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    server, model = start()
    server.plan.append(status(code, f"何か {PATIENT}", Location="http://127.0.0.1:9/elsewhere"))
    with pytest.raises(Unavailable, match=f"status {code}") as caught:
        model.write_chat(MESSAGES, SPEC)
    assert len(server.seen) == 1
    assert PATIENT not in str(caught.value) + caplog.text


@pytest.mark.parametrize(
    "fault",
    [
        page,
        events("nonsense"),
        events("[1]"),
        events({"choices": [{"delta": {"content": 5}}]}),
        events({"error": {"message": PATIENT, "code": 500}}),
        events({"error": PATIENT}),
        events({"error": {"message": PATIENT, "type": "server_error", "code": None}}),
    ],
)
def test_an_answer_of_another_kind_is_no_answer(start: Start, fault: Any) -> None:
    server, model = start()
    server.plan.append(fault)
    with pytest.raises(Unavailable) as caught:
        model.write_chat(MESSAGES, SPEC)
    assert len(server.seen) == 1 and PATIENT not in str(caught.value)


# -- trying again -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", [status(503), status(429), status(502), status(504), hang_up, break_off("<a")])
def test_a_server_that_fails_twice_is_asked_again_with_the_same_key(
    start: Start, plain_model: LlamaCpp, fault: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    server, model = start()
    server.plan += [fault, fault]
    assert model.write_chat(MESSAGES, SPEC).text == plain_model.write_chat(MESSAGES, SPEC).text
    assert model.write_chat(MESSAGES, SPEC).finish == "stop"
    keys = [seen.headers["idempotency-key"] for seen in server.seen]
    assert keys[0] == keys[1] == keys[2] != keys[3]
    assert server.seen[0].body == server.seen[2].body
    assert PATIENT not in caplog.text and len([r for r in caplog.records if r.levelno == logging.WARNING]) == 2


def test_tries_end(start: Start) -> None:
    server, model = start(tries=3)
    server.plan += [status(503)] * 3
    with pytest.raises(Unavailable, match="status 503"):
        model.write_chat(MESSAGES, SPEC)
    assert len(server.seen) == 3


def test_a_stream_is_not_begun_twice(start: Start) -> None:
    server, model = start()
    server.plan += [status(503), break_off("<a")]
    pieces = model.generate_stream("x", CFG(LARK))
    assert next(pieces) == "<a"
    with pytest.raises(Unavailable, match="broke off"):
        next(pieces)
    assert len(server.seen) == 2


def test_retry_after_is_honoured_within_bounds(start: Start) -> None:
    server, model = start(longest_pause_seconds=5.0)
    server.plan.append(status(429, Retry_After="1"))
    started = time.monotonic()
    model.write_chat(MESSAGES, SPEC)
    assert 1.0 <= time.monotonic() - started < 4.0
    in_an_hour = format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True)
    for value in ("3600", in_an_hour):
        server.plan.append(status(503, Retry_After=value))
        started = time.monotonic()
        with pytest.raises(Unavailable):
            model.write_chat(MESSAGES, SPEC)
        assert time.monotonic() - started < 1.0
    server.plan += [status(503, Retry_After="soon"), status(503, Retry_After="Mon, 01 Jan 2024 00:00:00 GMT")]
    assert model.write_chat(MESSAGES, SPEC).finish == "stop"


# -- the circuit --------------------------------------------------------------------------------------------------------


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def test_the_circuit_opens_tries_again_and_closes(plain_model: LlamaCpp) -> None:
    port = free_port()
    model = RemoteModel(endpoint(f"http://127.0.0.1:{port}", tries=2, circuit_failures=3, circuit_pause_seconds=1.0))
    with pytest.raises(Unavailable, match="cannot be reached"):
        model.write_chat(MESSAGES, SPEC)
    with pytest.raises(Unavailable, match="3 times in a row"):
        model.write_chat(MESSAGES, SPEC)  # its first try is the third failure
    server = ModelServer("vllm", plain_model, port=port)
    server.plan.append(status(503))
    with server:
        with pytest.raises(Unavailable, match="3 times in a row"):
            model.write_chat(MESSAGES, SPEC)
        assert not server.seen
        time.sleep(1.1)
        with pytest.raises(Unavailable):  # half-open: one try, which fails, and it is open again
            model.write_chat(MESSAGES, SPEC)
        assert len(server.seen) == 1
        time.sleep(1.1)
        assert model.write_chat(MESSAGES, SPEC).finish == "stop"
        assert model.write_chat(MESSAGES, SPEC).finish == "stop"
        assert len(server.seen) == 3


def test_a_half_open_circuit_lets_one_call_through() -> None:
    now = [0.0]
    circuit = Circuit("it", 2, 10.0, clock=lambda: now[0])
    for _ in range(2):
        circuit.leave(circuit.enter(), False)
    assert circuit.is_open
    with pytest.raises(Unavailable, match="tried again in 10 s"):
        circuit.enter()
    now[0] = 10.0
    probe = circuit.enter()
    assert probe
    with pytest.raises(Unavailable, match="just being tried"):
        circuit.enter()
    circuit.leave(probe, None)  # the call was cancelled: the next one tries
    circuit.leave(circuit.enter(), False)
    with pytest.raises(Unavailable):
        circuit.enter()
    now[0] = 20.0
    circuit.leave(circuit.enter(), True)
    assert not circuit.is_open and circuit.enter() is False


def test_failures_count_in_a_row_only() -> None:
    circuit = Circuit("it", 2, 10.0)
    for up in (False, True, False, None, True, False):
        circuit.leave(circuit.enter(), up)
    assert not circuit.is_open


def test_what_the_caller_did_wrong_does_not_open_the_circuit(start: Start) -> None:
    server, model = start(circuit_failures=1)
    server.plan += [status(400, "bad grammar"), status(404), status(429, Retry_After="99")]
    for error in (InvalidInput, Unavailable, Unavailable):
        with pytest.raises(error):
            model.write_chat(MESSAGES, SPEC)
    assert model.write_chat(MESSAGES, SPEC).finish == "stop"


# -- deadlines and cancellation -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["", "<a"])
def test_a_server_that_falls_silent_is_left_at_the_deadline(start: Start, text: str) -> None:
    server, model = start()
    server.plan.append(fall_silent(text))
    started = time.monotonic()
    with pytest.raises(Unavailable, match=r"longer than 0\.5 s"):
        model.write_chat(MESSAGES, SPEC, max_seconds=0.5)
    assert 0.4 < time.monotonic() - started < 2.0
    assert len(server.seen) == 1


def test_tries_do_not_outlast_the_deadline(start: Start) -> None:
    server, model = start(tries=50, first_pause_seconds=0.2, longest_pause_seconds=0.2)
    server.plan += [status(503)] * 50
    started = time.monotonic()
    with pytest.raises(Unavailable):
        model.write_chat(MESSAGES, SPEC, max_seconds=0.5)
    assert time.monotonic() - started < 1.0 and len(server.seen) < 10


def test_no_time_is_no_request(start: Start) -> None:
    server, model = start(circuit_failures=1)
    with pytest.raises(Unavailable, match="longer than 0 s"):
        model.write_chat(MESSAGES, SPEC, max_seconds=0.0)
    assert not server.seen
    assert model.write_chat(MESSAGES, SPEC).finish == "stop"


def test_closing_breaks_off_what_runs(start: Start) -> None:
    server, model = start()
    server.plan += [fall_silent(), fall_silent("<a")]
    with ThreadPoolExecutor(2) as threads:
        running = [threads.submit(model.write_chat, MESSAGES, SPEC) for _ in range(2)]
        while len(server.seen) < 2:
            time.sleep(0.01)
        started = time.monotonic()
        model.close()
        for future in running:
            with pytest.raises(Unavailable, match="closed"):
                future.result(timeout=5)
        assert time.monotonic() - started < 2.0
    with pytest.raises(Unavailable, match="closed"):
        model.write_chat(MESSAGES, SPEC)


def test_closing_ends_a_pause(start: Start) -> None:
    server, model = start(longest_pause_seconds=60.0)
    server.plan.append(status(503, Retry_After="50"))
    threading.Timer(0.3, model.close).start()
    started = time.monotonic()
    with pytest.raises(Unavailable, match="closed"):
        model.write_chat(MESSAGES, SPEC)
    assert time.monotonic() - started < 5.0


def test_a_reader_that_stops_early_ends_the_generation(start: Start) -> None:
    server, model = start()
    pieces = model.generate_stream("x", CFG("start: /[a-c]{9000}/"))
    next(pieces)
    pieces.close()  # type: ignore[attr-defined]
    deadline = time.monotonic() + 10
    while not server.left and time.monotonic() < deadline:
        time.sleep(0.02)
    assert server.left == 1


def test_many_threads_share_a_model(start: Start, plain_model: LlamaCpp) -> None:
    _, model = start()
    questions = [[Message("user", f"問い{number}")] for number in range(12)]
    with ThreadPoolExecutor(6) as threads:
        texts = list(threads.map(lambda messages: model.write_chat(messages, SPEC).text, questions))
    assert texts == [plain_model.write_chat(messages, SPEC).text for messages in questions]


# -- secrets and addresses ----------------------------------------------------------------------------------------------


def test_the_key_is_sent_and_shown_nowhere(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    secret = "sk-very-secret-1"
    server, model = start(key=secret)
    assert model.write_chat(MESSAGES, SPEC).finish == "stop"
    assert server.seen[0].headers["authorization"] == f"Bearer {secret}"
    server.plan += [hang_up, status(401, secret)]
    with pytest.raises(Unavailable) as caught:
        model.write_chat(MESSAGES, SPEC)
    shown = repr(model) + repr(vars(model)) + str(caught.value) + repr(caught.value) + caplog.text
    assert secret not in shown and PATIENT not in shown
    assert not any(PATIENT in seen.path for seen in server.seen)


def test_a_wrong_key_is_said_so(start: Start) -> None:
    server, _ = start(key="right")
    other = RemoteModel(endpoint(server.url, key=SecretStr("wrong")))
    with pytest.raises(Unavailable, match="status 401"):
        other.write_chat(MESSAGES, SPEC)


@pytest.mark.parametrize(
    "url",
    [
        "", "gpu:8000", "ftp://gpu", "http://", "http://user:sesame@gpu", "http://sesame@gpu", "http://gpu/?key=sesame",
        "http://gpu:sesame", "http://gpu/a b", "http://病院",
    ],
)  # fmt: skip
def test_an_address_that_is_none_is_refused_and_not_quoted(url: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        RemoteModel(endpoint(url))
    assert "sesame" not in str(caught.value)


def test_a_key_that_no_header_can_carry_is_refused_and_not_quoted() -> None:
    for key in ("a\r\nX-Other: 1", "鍵"):
        with pytest.raises(InvalidInput) as caught:
            RemoteModel(endpoint("http://gpu", key=SecretStr(key)))
        assert key not in str(caught.value)


def test_addresses_may_end_in_v1_and_have_a_path(start: Start) -> None:
    server, _ = start()
    for url in (server.url, server.url + "/", server.url + "/v1", server.url + "/v1/"):
        assert RemoteModel(endpoint(url)).write_chat(MESSAGES, SPEC).finish == "stop"
    with pytest.raises(Unavailable, match="status 404"):
        RemoteModel(endpoint(server.url + "/gpu1/v1")).write_chat(MESSAGES, SPEC)
    assert server.seen[-1].path == "/gpu1/v1/chat/completions"
    prints = {RemoteModel(endpoint(url, key=key)).fingerprint() for url in ("http://gpu", "http://gpu:80/v1/")
              for key in (None, SecretStr("a"))}  # fmt: skip
    assert len(prints) == 1 and prints != {RemoteModel(endpoint("http://other")).fingerprint()}


def test_proxies_of_the_environment_are_not_used(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("no_proxy", "")
    assert start()[1].write_chat(MESSAGES, SPEC).finish == "stop"


def test_certificates_are_checked(start: Start, tmp_path: Path) -> None:
    def certificate(name: str) -> tuple[Path, Path]:
        cert, key = tmp_path / f"{name}.pem", tmp_path / f"{name}.key"
        command = [
            "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
            "-subj", f"/CN={name}", "-addext", f"subjectAltName={name}", "-keyout", str(key), "-out", str(cert),
        ]  # fmt: skip
        try:
            subprocess.run(command, check=True, capture_output=True)
        except FileNotFoundError:
            pytest.skip("openssl is not installed")
        return cert, key

    good, other = certificate("IP:127.0.0.1"), certificate("DNS:gpu.example")
    server, model = start(certificate=good, ca_file=good[0])
    assert model.write_chat(MESSAGES, SPEC).finish == "stop"
    for ca_file in (None, other[0]):
        with pytest.raises(Unavailable, match="certificate"):
            RemoteModel(endpoint(server.url, ca_file=ca_file)).write_chat(MESSAGES, SPEC)
    wrong_name, model = start(certificate=other, ca_file=other[0])
    with pytest.raises(Unavailable, match="certificate"):
        model.write_chat(MESSAGES, SPEC)
    assert len(server.seen) == 1 and not wrong_name.seen
    with pytest.raises(InvalidInput):
        RemoteModel(endpoint(server.url, ca_file=tmp_path / "none.pem"))


def test_making_a_model_sends_nothing(start: Start) -> None:
    server, model = start()
    assert model.chats and model.metadata("hyojun.form") is None and model.sequence_tokens == 8192
    assert not server.seen


def test_the_estimate_of_tokens_grows_with_the_text() -> None:
    assert [RemoteModel.count(text) for text in ("", "CRP 0.1", "咳", "咳と熱", "咳 38")] == [0, 7, 2, 5, 5]


def test_errors_are_ours(start: Start) -> None:
    """Callers know HyojunError alone."""
    server, model = start(tries=1)
    for fault in (hang_up, page, status(503), events("nonsense"), events({"choices": "?"}), break_off("<")):
        server.plan.append(fault)
        with pytest.raises(HyojunError) as caught:
            model.write_chat(MESSAGES, SPEC)
        # What is chained behind it would be shown with it.
        assert caught.value.__cause__ is None
        assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_the_grammar_of_a_note_keeps_its_text_whatever_it_looks_like(start: Start) -> None:
    _, model = start("vllm")
    lines = [grammar.Line(0, "root ::= \"x\" # // %llguidance"), grammar.Line(1, "{\"咳\"}\t\\")]
    spec = llguidance.grammar_from("lark", grammar.build(lines, grammar.PLAIN))
    assert model.write_chat(MESSAGES, spec, temperature=1.0, seed=3).text.endswith('{"end":true}\n')


# -- settings ---------------------------------------------------------------------------------------------------------


def test_the_settings_name_the_server() -> None:
    def endpoint(**fields: Any) -> Endpoint | None:
        return configured(Settings(_env_file=None, **fields))  # type: ignore[arg-type]

    assert endpoint(model_server_url="http://127.0.0.1:8000") is None
    named = {"model_server": "vllm", "model_server_url": "https://gpu.example:8000/v1", "model_context_tokens": 4096}
    found = endpoint(**named, model_server_model="med-72b", model_server_key="open sesame", model_slots=32)
    assert found is not None and (found.kind, found.model, found.sequence_tokens, found.slots) == (
        "vllm", "med-72b", 4096, 32,
    )  # fmt: skip
    assert "sesame" not in repr(found)
    for missing in ("model_server_url", "model_context_tokens"):
        with pytest.raises(InvalidInput, match="MODEL_SERVER_URL and MODEL_CONTEXT_TOKENS"):
            endpoint(**{key: value for key, value in named.items() if key != missing})


def test_a_converter_reads_with_the_model_of_a_server() -> None:
    fields = {"model_server": "hyojun", "model_server_url": "http://127.0.0.1:1", "model_context_tokens": 4096}
    converter = Converter.load(Settings(_env_file=None, **fields, model_slots=3), Lexicon([], "none"))  # type: ignore[arg-type]
    assert isinstance(converter.reader.model, RemoteModel) and converter.slots == 3
    assert converter.models is None  # no weights were opened here
