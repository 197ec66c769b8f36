"""The models over HTTP, in OpenAI's form."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from served_models import (
    LONG,
    SEQUENCE_TOKENS,
    Opened,
    ask,
    chat,
    events,
    opened_models,
    path_of,
    said,
    served,
    streamed,
    text,
    until,
)
from starlette.testclient import TestClient

from app.completions import ModelCompletions
from app.errors import InvalidInput
from app.generation.llama import LlamaCpp
from app.web.completions_api import model_app
from app.web.openai_wire import MAX_BODY_BYTES

SCHEMA = {
    "type": "object",
    "properties": {
        "kind": {"enum": ["病名", "薬剤"]},
        "count": {"type": "integer", "minimum": 0, "maximum": 99},
        "tags": {"type": "array", "items": {"type": "string", "maxLength": 4}, "maxItems": 3},
        "inner": {"type": "object", "properties": {"yes": {"type": "boolean"}}, "required": ["yes"]},
    },
    "required": ["kind", "count", "tags", "inner"],
}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Opened]:
    with opened_models(tmp_path_factory.mktemp("models")) as opened:
        yield opened


@pytest.fixture(scope="module")
def base(models: Opened) -> LlamaCpp:
    return models.models["base"]


@pytest.fixture(scope="module")
def client(models: Opened) -> Iterator[TestClient]:
    with TestClient(model_app(ModelCompletions(models, 60.0))) as client:
        yield client


# --- answers ----------------------------------------------------------------------------------------------------------


def test_a_chat_and_a_text(client: TestClient, base: LlamaCpp) -> None:
    answer = ask(client, chat(temperature=0))
    assert answer["object"] == "chat.completion" and answer["model"] == "base"
    assert answer["id"].startswith("chatcmpl-") and abs(answer["created"] - time.time()) < 60
    assert answer["choices"][0]["message"]["role"] == "assistant"
    usage = answer["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    prompt = "<|im_start|>user\n問い<|im_end|>\n<|im_start|>assistant\n"
    assert said(answer) == base.write(prompt, None, max_tokens=40).text
    assert usage["prompt_tokens"] == len(base.tokenize(prompt, special=True))

    answer = ask(client, text(prompt, temperature=0))
    assert answer["object"] == "text_completion" and answer["id"].startswith("cmpl-")
    assert said(answer) == base.write(prompt, None, max_tokens=40).text
    assert answer["hyojun"]["forced_tokens"] == 0 and answer["hyojun"]["seconds"] >= 0


def test_roles_and_parts_of_messages(client: TestClient) -> None:
    parts = [{"type": "text", "text": "問"}, {"type": "text", "text": "い"}]
    whole = chat(messages=[{"role": "system", "content": "短く"}, {"role": "user", "content": "問い"}])
    split = chat(messages=[{"role": "developer", "content": "短く"}, {"role": "user", "content": parts}])
    assert said(ask(client, whole)) == said(ask(client, split))
    again = [
        *whole["messages"],
        {"role": "assistant", "content": "a", "refusal": None},
        {"role": "user", "content": "b"},
    ]
    longer = ask(client, chat(messages=again))["usage"]["prompt_tokens"]
    assert longer > ask(client, whole)["usage"]["prompt_tokens"]


def test_a_mark_in_a_message_stays_text(client: TestClient) -> None:
    tokens = [ask(client, chat(content))["usage"]["prompt_tokens"] for content in ("x", "<|im_end|>")]
    assert tokens[1] - tokens[0] == len("<|im_end|>") - 1


def test_max_tokens_and_its_newer_name(client: TestClient) -> None:
    for body in (chat(max_tokens=5), text(max_tokens=5), chat(max_tokens=None, max_completion_tokens=5)):
        answer = ask(client, body | {"temperature": 0})
        assert answer["usage"]["completion_tokens"] <= 5
        assert answer["choices"][0]["finish_reason"] == "length"
    more = ask(client, text(max_tokens=9, temperature=0))
    assert said(more).startswith(said(ask(client, text(max_tokens=5, temperature=0))).rstrip("\ufffd"))


def test_the_context_ends_what_nothing_else_ends(client: TestClient) -> None:
    answer = ask(client, text(model="uc1", max_tokens=None, grammar="start: /[ab]{2000}/"))
    assert answer["choices"][0]["finish_reason"] == "length"
    assert 500 <= answer["usage"]["total_tokens"] <= 512
    forced = ask(client, text(model="uc1", max_tokens=None, grammar=f'start: ("x" | "y") "{"z" * 600}" ("x" | "y")'))
    assert forced["choices"][0]["finish_reason"] == "length"


def test_a_seed_repeats(client: TestClient) -> None:
    drawn = [said(ask(client, text(temperature=1.5, seed=seed))) for seed in (7, 7, 8, -1)]
    assert drawn[0] == drawn[1] and len(set(drawn)) == 3
    body = text(temperature=1.5)
    del body["seed"]
    assert said(ask(client, body)) != said(ask(client, body))


def test_a_schema_is_obeyed(client: TestClient) -> None:
    wanted = {"type": "json_schema", "json_schema": {"name": "facts", "strict": True, "schema": SCHEMA}}
    found = set()
    for seed in range(6):
        for body in (chat(seed=seed), text(seed=seed)):
            answer = ask(client, body | {"response_format": wanted, "max_tokens": 300})
            assert answer["choices"][0]["finish_reason"] == "stop"
            value = json.loads(said(answer))
            jsonschema.validate(value, SCHEMA)
            assert list(value) == ["kind", "count", "tags", "inner"] and list(value["inner"]) == ["yes"]
            assert said(answer).startswith('{"kind":"') and ',"count":' in said(answer)
            assert 0 < answer["hyojun"]["forced_tokens"] < answer["usage"]["completion_tokens"]
            found.add(said(answer))
    assert len(found) > 6


def test_schemas_that_join_objects_stay_open(client: TestClient) -> None:
    def part(name: str) -> dict[str, Any]:
        return {"type": "object", "properties": {name: {"type": "boolean"}}, "required": [name]}

    schema = {"allOf": [part("a"), part("b")], "additionalProperties": False, "properties": {"a": True, "b": True}}
    wanted = {"type": "json_schema", "json_schema": {"name": "both", "schema": schema}}
    value = json.loads(said(ask(client, text(response_format=wanted, max_tokens=100))))
    assert set(value) == {"a", "b"}


def test_a_json_object(client: TestClient) -> None:
    ended = seed = 0
    while ended < 2:
        seed += 1
        assert seed < 20
        answer = ask(client, text(response_format={"type": "json_object"}, seed=seed, max_tokens=2000, temperature=2))
        assert said(answer).startswith("{")
        if answer["choices"][0]["finish_reason"] == "stop":
            ended += 1
            assert isinstance(json.loads(said(answer)), dict)


def test_a_grammar_is_obeyed(client: TestClient) -> None:
    source = '%llguidance {}\nstart: "<" /[a-c]{2,4}/ ">" ("はい" | "いいえ")'
    for seed in range(4):
        for body in (chat(seed=seed), text(seed=seed)):
            start, _, rest = said(ask(client, body | {"grammar": source})).partition(">")
            assert start[0] == "<" and 2 <= len(start) - 1 <= 4 and set(start[1:]) <= set("abc")
            assert rest in ("はい", "いいえ")


@pytest.mark.parametrize("make", [chat, text])
@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"max_tokens": 300, "temperature": 1.7},
        {"stop": ["e", "zz"], "max_tokens": 200},
        {"response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA}}, "max_tokens": 300},
        # The limit falls into what the grammar forces: in the middle, and at the very beginning.
        {"grammar": 'start: ("x" | "y") "あいうえお" ("x" | "y")', "max_tokens": 7},
        {"grammar": 'start: "あいうえお" ("x" | "y") "end"', "max_tokens": 4},
        {"grammar": "start: /[ab]{30}/", "stop": "ba", "max_tokens": 30},
    ],
)
def test_a_stream_gives_the_same_text(
    client: TestClient, make: Callable[..., dict[str, Any]], parameters: dict[str, Any]
) -> None:
    for seed in range(3):
        body = make(**parameters, seed=seed)
        whole = ask(client, body)
        response = client.post(path_of(body), json=body | {"stream": True, "stream_options": {"include_usage": True}})
        assert response.headers["content-type"].startswith("text/event-stream")
        *chunks, last = events(response.text)
        assert streamed(chunks) == said(whole)
        assert last["choices"] == [] and last["usage"] == whole["usage"]
        assert last["hyojun"]["forced_tokens"] == whole["hyojun"]["forced_tokens"]
        finishes = [chunk["choices"][0]["finish_reason"] for chunk in chunks]
        assert finishes == [None] * (len(chunks) - 1) + [whole["choices"][0]["finish_reason"]]
        assert len({chunk["id"] for chunk in [*chunks, last]}) == 1
        if make is chat:
            assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
            assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}


def test_a_text_ends_before_a_stop_string(client: TestClient) -> None:
    grammar = 'start: "12" ("3" | "4") "56end7890"'
    for stop, wanted in ((["end"], "56"), (["nd7", "xx", "5"], ""), ("zz", "56end7890"), (["end", "6e"], "5")):
        answer = ask(client, text(grammar=grammar, stop=stop))
        assert said(answer)[:2] == "12" and said(answer)[3:] == wanted
        assert answer["choices"][0]["finish_reason"] == "stop"
        if wanted != "56end7890":
            assert answer["usage"]["completion_tokens"] == len(said(answer))


def test_requests_at_the_same_time_share_batches(client: TestClient, base: LlamaCpp) -> None:
    before = base.metrics()
    together = threading.Barrier(2)

    def one(seed: int) -> dict[str, Any]:
        together.wait()
        return ask(client, text(seed=seed, grammar="start: /[ab]{400}/", max_tokens=None))

    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(one, (1, 2)))
    after = base.metrics()
    assert [len(said(answer)) for answer in answers] == [400, 400]
    assert after.slot_steps - before.slot_steps > 1.2 * (after.steps - before.steps)
    assert [said(answer) for answer in answers] == [said(ask(client, text(
        seed=seed, grammar="start: /[ab]{400}/", max_tokens=None))) for seed in (1, 2)]  # fmt: skip


def test_models_are_listed(client: TestClient) -> None:
    listed = client.get("/v1/models").json()
    assert listed["object"] == "list" and [model["id"] for model in listed["data"]] == ["base", "uc1"]
    assert client.get("/v1/models/uc1").json()["object"] == "model"
    missing = client.get("/v1/models/uc9")
    assert missing.status_code == 404 and missing.json()["error"]["code"] == "model_not_found"


# --- refusals ---------------------------------------------------------------------------------------------------------


def schema_of(schema: Any) -> dict[str, Any]:
    return {"response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}}


@pytest.mark.parametrize(
    ("body", "param", "told"),
    [
        (chat(n=2), "n", "n is not supported"),
        (chat(logprobs=True), "logprobs", "logprobs is not supported"),
        (text(logprobs=0), "logprobs", "logprobs is not supported"),
        (chat(top_p=0.5), "top_p", "top_p is not supported"),
        (chat(tools=[{"type": "function"}]), "tools", "tools is not supported"),
        (text(echo=True), "echo", "echo is not supported"),
        (chat(reasoning_effort="high"), "reasoning_effort", "reasoning_effort is not supported"),
        (chat(**{"患者 山田": 1}), None, "a parameter is not supported"),
        (chat(model=None), "model", "model is missing"),
        (chat(model=1), "model", "model must be a string"),
        (chat(messages=[]), "messages", "at least one message"),
        (chat(messages=[{"role": ["user"], "content": "x"}]), "messages", "messages[0].role must be"),
        (chat(messages=[{"role": "tool", "content": "x"}]), "messages", "messages[0].role must be"),
        (chat(messages=[{"role": "user", "content": [{"type": "image_url"}]}]), "messages", "messages[0].content must be"),
        (chat(messages=[{"role": "user", "content": "x", "name": "y"}]), "messages", "a key that is not supported"),
        (chat(messages=[{"role": "user"}]), "messages", "messages[0].content must be"),
        (text(prompt=["x"]), "prompt", "prompt must be one string"),
        (text(prompt=""), None, "the prompt is empty"),
        (text(max_tokens=0), "max_tokens", "at least 1"),
        (text(max_tokens=True), "max_tokens", "whole number"),
        (text(temperature=2.5), "temperature", "from 0 to 2"),
        (text(temperature=float("nan")), "temperature", "from 0 to 2"),
        (text(seed="1"), "seed", "whole number"),
        (text(stop=[""]), "stop", "1 to 200 characters"),
        (text(stop=["x"] * 17), "stop", "at most 16"),
        (text(stream="yes"), "stream", "true or false"),
        (text(stream_options={"include_usage": True}), "stream_options", "goes with stream"),
        (text(response_format={"type": "xml"}), "response_format", "text, json_object or json_schema"),
        (text(response_format={"type": "json_schema"}), "response_format", "must be an object"),
        (text(grammar='start: "a"', response_format={"type": "json_object"}), "grammar", "exclude each other"),
        (text(grammar="start: nowhere"), None, "llguidance refuses the grammar"),
        (text(grammar="患者"), None, "llguidance refuses the grammar"),
        (text(**schema_of({"type": "array", "uniqueItems": True})), None, "uses uniqueItems, which cannot be enforced"),
        (text(**schema_of({"type": "object", "contains": {}, "患者": 1})), None, "uses contains, which"),
        (text(**schema_of({"type": "string", "pattern": "(?=山田)x"})), None, "a pattern of the JSON Schema"),
        (text(**schema_of({"type": "山田"})), None, "a type of the JSON Schema is unknown"),
        (text(**schema_of({"$ref": "http://127.0.0.1/山田"})), None, "the JSON Schema cannot be enforced"),
        (text(**schema_of({"allOf": [{"type": "string"}, {"type": "integer"}]})), None, "no value can satisfy"),
        (text(**schema_of({"type": "object", "x-guidance": {"lenient": True}})), None, "x-guidance"),
        (chat(model="uc1"), None, "this model has no chat template; use /v1/completions"),
    ],
)  # fmt: skip
def test_what_is_refused(client: TestClient, body: dict[str, Any], param: str | None, told: str) -> None:
    for sent in (body, body | {"stream": True} if "stream" not in body and "stream_options" not in body else body):
        response = client.post(path_of(body), content=json.dumps(sent))
        assert response.status_code == 400, response.text
        error = response.json()["error"]
        assert set(error) == {"message", "type", "param", "code"}
        assert told in error["message"] and error["param"] == param and error["type"] == "invalid_request_error"
        assert "山田" not in response.text and "患者" not in response.text


def test_what_changes_nothing_is_ignored(client: TestClient) -> None:
    asked = text(temperature=0)
    neutral = {
        "n": 1,
        "top_p": 1.0,
        "logprobs": None,
        "echo": False,
        "presence_penalty": 0,
        "logit_bias": {},
        "best_of": 1,
    }
    ignored = {"user": "u", "metadata": {"a": "b"}, "store": False, "stop": None}
    assert said(ask(client, asked | neutral | ignored)) == said(ask(client, asked))
    assert ask(client, chat(tools=[], tool_choice="none", response_format={"type": "text"}, logprobs=False))


def test_bodies_that_cannot_be_read(client: TestClient) -> None:
    for raw in (b"", b"[]", b"{", b'{"model": "base", "prompt": "\\ud83d"}', b'{"a":' * 5000, b"\xff"):
        response = client.post("/v1/completions", content=raw)
        assert response.status_code == 400 and response.json()["error"]["type"] == "invalid_request_error"
    for size in (MAX_BODY_BYTES + 1, 3 * MAX_BODY_BYTES):
        response = client.post("/v1/completions", content=b" " * size)
        assert response.status_code == 413 and "bytes" in response.json()["error"]["message"]
    nested: dict[str, Any] = {}
    for _ in range(80):
        nested = {"type": "array", "items": nested}
    response = client.post("/v1/completions", json=text(**schema_of(nested)))
    assert response.status_code == 400 and "deeper than 64" in response.json()["error"]["message"]


def test_a_prompt_that_does_not_fit_is_refused_with_sizes(client: TestClient) -> None:
    for body, param in ((chat("x" * SEQUENCE_TOKENS), "messages"), (text("x" * SEQUENCE_TOKENS), "prompt")):
        response = client.post(path_of(body), json=body)
        error = response.json()["error"]
        assert response.status_code == 400 and error["code"] == "context_length_exceeded" and error["param"] == param
        assert str(SEQUENCE_TOKENS) in error["message"]


def test_a_model_that_is_not_there(client: TestClient) -> None:
    response = client.post("/v1/completions", json=text(model="uc2"))
    assert response.status_code == 404 and response.json()["error"]["code"] == "model_not_found"


def test_a_model_that_cannot_be_opened() -> None:
    class Broken:
        names = ("base",)

        def use(self, name: str) -> tuple[LlamaCpp, str | None]:
            raise InvalidInput("/secret/base.gguf: a setting cannot be had")

    with TestClient(model_app(ModelCompletions(Broken(), 1.0))) as client:
        response = client.post("/v1/completions", json=text())
    assert response.status_code == 503 and response.json()["error"]["code"] == "model_unavailable"
    assert "hyojun models check" in response.text and "secret" not in response.text


def test_a_completion_that_takes_too_long(models: Opened) -> None:
    with TestClient(model_app(ModelCompletions(models, 0.2))) as client:
        body = text(grammar=LONG, max_tokens=None)
        response = client.post("/v1/completions", json=body)
        assert response.status_code == 503 and response.json()["error"]["code"] == "time_over"
        assert "retry-after" not in response.headers and response.headers["x-should-retry"] == "false"
        lines = client.post("/v1/completions", json=body | {"stream": True}).text.split("\n\n")
        assert json.loads(lines[-2].removeprefix("data: "))["error"]["code"] == "time_over"


def test_only_so_many_at_once(models: Opened, base: LlamaCpp, tmp_path: Path) -> None:
    failed = base.metrics().failed
    with served(model_app(ModelCompletions(models, 60.0), at_once=1), tmp_path / "api") as client:
        with client.stream("POST", "/v1/completions", json=text(grammar=LONG, max_tokens=None, stream=True)) as first:
            parts = first.iter_raw()
            next(parts)
            refused = client.post("/v1/completions", json=text())
            assert refused.status_code == 503 and refused.headers["retry-after"] == "5"
        until(lambda: base.metrics().failed == failed + 1)
        until(lambda: client.post("/v1/completions", json=text()).status_code == 200)
