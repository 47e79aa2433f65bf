"""together: URL SCENARIO SETTINGS, where SETTINGS is JSON with `model` and `side`.

Its base URL has no /v1: it adds that itself.
"""

import json
import sys
from typing import Any

from together import Together


def main(url: str, _: str, settings: dict[str, Any]) -> dict[str, Any]:
    answer = Together(base_url=url, api_key="none").images.generate(
        model=settings["model"],
        prompt="a red house on green hills at day",
        negative_prompt="fog",
        width=settings["side"],
        height=settings["side"],
        steps=4,
        guidance_scale=3.0,
        seed=7,
        n=2,
        response_format="base64",
        output_format="jpeg",
    )
    return {
        "pictures": [each.b64_json for each in answer.data],
        "seeds": [each.seed for each in answer.data],
    }


print(json.dumps(main(sys.argv[1], sys.argv[2], json.loads(sys.argv[3]))))
