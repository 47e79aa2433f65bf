"""litellm: URL SCENARIO SETTINGS, where SETTINGS is JSON with `model`, `size` and files' paths."""

import asyncio
import json
import sys
from typing import Any

import litellm

PROMPT = "a red house on green hills at day"


def main(url: str, scenario: str, settings: dict[str, Any]) -> dict[str, Any]:
    asked = {
        "model": f"openai/{settings['model']}",
        "api_base": f"{url}/v1",
        "api_key": "none",
        "prompt": PROMPT,
        "size": settings["size"],
        "extra_body": {"seed": 7, "num_inference_steps": 4},
    }
    if scenario == "edit":
        with open(settings["image"], "rb") as image, open(settings["mask"], "rb") as mask:
            answer = litellm.image_edit(image=image, mask=mask, **asked)
    elif scenario == "async":
        answer = asyncio.run(litellm.aimage_generation(n=2, **asked))
    else:
        answer = litellm.image_generation(n=2, **asked)
    return {"pictures": [each.b64_json for each in answer.data]}


print(json.dumps(main(sys.argv[1], sys.argv[2], json.loads(sys.argv[3]))))
