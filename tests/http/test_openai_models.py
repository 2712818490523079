"""``/v1/models``, ``/tokenize`` and ``/detokenize``."""

from __future__ import annotations

from collections.abc import Callable

from asgi_driver import Client
from openai_calls import with_template
from toy_tokenizer import byte_id

Serve = Callable[..., None]


def test_the_list_has_the_one_model(serve: Serve) -> None:
    async def test(client: Client) -> None:
        answer = (await client.request("GET", "/v1/models")).json
        (model,) = answer["data"]
        assert (answer["object"], model["object"], model["id"]) == ("list", "model", "birds/kestrel")
        assert model["max_model_len"] == 256
        assert isinstance(model["created"], int)
        assert (await client.request("GET", "/v1/models/birds/kestrel")).json == model
        unknown = await client.request("GET", "/v1/models/merlin")
        assert (unknown.status, unknown.json["error"]["code"]) == (404, "model_not_found")

    serve(test, model_name="birds/kestrel")


def test_texts_and_chats_are_tokenized(serve: Serve) -> None:
    async def test(client: Client) -> None:
        answer = await client.request(
            "POST", "/tokenize", {"model": "m", "prompt": "hello é", "return_token_strs": True}
        )
        assert answer.json == {
            "count": 4,
            "max_model_len": 256,
            "tokens": [261 - 1, byte_id(32), byte_id(0xC3), byte_id(0xA9)],
            "token_strs": ["hello", " ", "�", "�"],
        }
        chat = {"messages": [{"role": "user", "content": "hi"}]}
        assert (await client.request("POST", "/tokenize", chat)).json["count"] == len("<user>hi>")
        bare = await client.request("POST", "/tokenize", chat | {"add_generation_prompt": False})
        assert bare.json["count"] == len("<user>hi")
        assert "token_strs" not in bare.json

    serve(test, prepare=with_template)


def test_tokens_are_turned_into_text(serve: Serve) -> None:
    async def test(client: Client) -> None:
        tokens = [0, byte_id(0xC3), byte_id(0xA9)]
        assert (await client.request("POST", "/detokenize", {"tokens": tokens})).json == {"prompt": "<eos>é"}

    serve(test)
