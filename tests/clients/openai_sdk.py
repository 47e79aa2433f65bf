"""openai: URL SCENARIO SETTINGS, where SETTINGS is JSON with `model`, `size` and files' paths."""

import asyncio
import json
import sys
import urllib.request
from pathlib import Path
from typing import Any

import openai

PROMPT = "a red house on green hills at day"
STEPS = 4


def main(url: str, scenario: str, settings: dict[str, Any]) -> dict[str, Any]:
    client = openai.OpenAI(base_url=f"{url}/v1", api_key="none")
    said: dict[str, Any] = SCENARIOS[scenario](client, settings)
    return {"version": openai.__version__, **said}


def generate(client: openai.OpenAI, settings: dict[str, Any]) -> dict[str, Any]:
    answer = client.images.generate(**asked(settings), n=2)
    usage = answer.usage
    return {
        "models": [model.id for model in client.models.list()],
        "pictures": [each.b64_json for each in answer.data or []],
        "seeds": [getattr(each, "seed", None) for each in answer.data or []],
        "size": answer.size,
        "usage": usage and [usage.input_tokens, usage.output_tokens, usage.total_tokens],
        "request_id": answer._request_id,
    }


def asynchronous(client: openai.OpenAI, settings: dict[str, Any]) -> dict[str, Any]:
    async def both() -> list[Any]:
        async with openai.AsyncOpenAI(base_url=client.base_url, api_key="none") as anew:
            return await asyncio.gather(
                *(anew.images.generate(**asked(settings, seed=seed)) for seed in (7, 8))
            )

    answers = asyncio.run(both())
    return {
        "pictures": [answer.data[0].b64_json for answer in answers],
        "seeds": [answer.data[0].seed for answer in answers],
    }


def stream(client: openai.OpenAI, settings: dict[str, Any]) -> dict[str, Any]:
    return told(client.images.generate(**asked(settings), stream=True, partial_images=2))


def stream_edit(client: openai.OpenAI, settings: dict[str, Any]) -> dict[str, Any]:
    with open(settings["image"], "rb") as image:
        return told(
            client.images.edit(image=image, **asked(settings), stream=True, partial_images=1)
        )


def edit(client: openai.OpenAI, settings: dict[str, Any]) -> dict[str, Any]:
    with open(settings["image"], "rb") as image, open(settings["mask"], "rb") as mask:
        answer = client.images.edit(image=[image], mask=mask, **asked(settings))
    data = answer.data or []
    return {
        "pictures": [each.b64_json for each in data],
        "seeds": [getattr(each, "seed", None) for each in data],
    }


def variation(client: openai.OpenAI, settings: dict[str, Any]) -> dict[str, Any]:
    answer = client.images.create_variation(
        image=Path(settings["image"]).read_bytes(),
        model=settings["model"],
        size=settings["size"],
        n=2,
        response_format="b64_json",
    )
    return {"pictures": [each.b64_json for each in answer.data or []]}


def by_url(client: openai.OpenAI, settings: dict[str, Any]) -> dict[str, Any]:
    answer = client.images.generate(**asked(settings), response_format="url")
    assert answer.data
    (data,) = answer.data
    assert data.url
    with urllib.request.urlopen(data.url) as file:
        kind, content = file.headers["content-type"], file.read()
    return {"b64_json": data.b64_json, "content_type": kind, "file": content.hex()}


def refused(client: openai.OpenAI, settings: dict[str, Any]) -> dict[str, Any]:
    try:
        client.images.generate(**asked(settings))
    except openai.APIStatusError as error:
        return {
            "kind": type(error).__name__,
            "status": error.status_code,
            "code": error.code,
            "param": error.param,
            "type": error.type,
        }
    return {"kind": None}


def asked(settings: dict[str, Any], *, seed: int = 7) -> dict[str, Any]:
    """What every call sends."""
    return {
        "prompt": PROMPT,
        "model": settings["model"],
        "size": settings["size"],
        "extra_body": {"seed": seed, "num_inference_steps": STEPS},
    }


def told(events: Any) -> dict[str, Any]:
    """What a stream says, up to its end or its error."""
    heard: list[dict[str, Any]] = []
    try:
        heard.extend(event.to_dict() for event in events)
    except openai.APIError as error:
        return {"events": heard, "error": {"message": error.message, "code": error.code}}
    return {"events": heard, "error": None}


SCENARIOS: dict[str, Any] = {
    "generate": generate,
    "async": asynchronous,
    "stream": stream,
    "stream_edit": stream_edit,
    "edit": edit,
    "variation": variation,
    "url": by_url,
    "refused": refused,
}

print(json.dumps(main(sys.argv[1], sys.argv[2], json.loads(sys.argv[3]))))
