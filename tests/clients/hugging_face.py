"""huggingface_hub: URL SCENARIO SETTINGS, where SETTINGS is JSON with `model`, `side` and `image`.

The client opens the picture itself; it is told here as a PNG.
"""

import base64
import io
import json
import sys
from typing import Any

from huggingface_hub import InferenceClient

PROMPT = "a red house on green hills at day"


def main(url: str, scenario: str, settings: dict[str, Any]) -> dict[str, Any]:
    client = InferenceClient(model=f"{url}/hf/models/{settings['model']}", token="none")
    side = settings["side"]
    if scenario == "text_to_image":
        picture = client.text_to_image(
            PROMPT,
            negative_prompt="fog",
            width=side,
            height=side,
            num_inference_steps=4,
            guidance_scale=3.0,
            seed=7,
        )
    elif scenario == "image_to_image":
        picture = client.image_to_image(
            settings["image"],
            prompt=PROMPT,
            target_size={"width": side, "height": side},  # type: ignore[arg-type]
            num_inference_steps=4,
            seed=7,
        )
    else:  # the image itself is the body
        picture = client.image_to_image(settings["image"])
    out = io.BytesIO()
    picture.save(out, "png")
    return {"pictures": [base64.b64encode(out.getvalue()).decode()]}


print(json.dumps(main(sys.argv[1], sys.argv[2], json.loads(sys.argv[3]))))
