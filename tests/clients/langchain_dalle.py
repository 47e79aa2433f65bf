"""langchain-community: URL SCENARIO SETTINGS, where SETTINGS is JSON with `model` and `size`.

Its wrapper reads `.url` of each picture and cannot ask for it.
"""

import json
import sys
import urllib.request
from typing import Any

from langchain_community.utilities.dalle_image_generator import DallEAPIWrapper


def main(url: str, _: str, settings: dict[str, Any]) -> dict[str, Any]:
    wrapper = DallEAPIWrapper(
        model=settings["model"], size=settings["size"], api_key="none", base_url=f"{url}/v1", n=2
    )
    files = []
    for where in wrapper.run("a red house on green hills at day").split("\n"):
        with urllib.request.urlopen(where) as file:
            files.append(file.read().hex())
    return {"files": files}


print(json.dumps(main(sys.argv[1], sys.argv[2], json.loads(sys.argv[3]))))
