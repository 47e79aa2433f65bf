"""Which clients are run, at which versions, and by which script."""

from tests.clients.environments import Client

OPENAI = Client(name="openai", version="3.54.0", script="openai_sdk.py")
OPENAI_2 = Client(name="openai", version="2.54.0", script="openai_sdk.py")
OPENAI_NODE = Client(name="openai", version="7.57.0", script="openai_sdk.mjs", language="node")
OPENAI_NODE_6 = Client(name="openai", version="6.49.0", script="openai_sdk.mjs", language="node")
HUGGINGFACE = Client(
    name="huggingface_hub", version="2.4.0", script="hugging_face.py", beside=("pillow==13.0.0",)
)
HUGGINGFACE_NODE = Client(
    name="@huggingface/inference", version="4.13.30", script="hugging_face.mjs", language="node"
)
TOGETHER = Client(name="together", version="3.1.1", script="together_sdk.py")
# 1.107.0 was tampered with and withdrawn; this one is older.
LITELLM = Client(name="litellm", version="1.106.0", script="litellm_sdk.py")
WEBUIAPI = Client(name="webuiapi", version="0.9.17", script="webui_api.py")
NODE_SD_WEBUI = Client(
    name="node-sd-webui", version="0.0.8", script="node_sd_webui.mjs", language="node"
)
LANGCHAIN = Client(
    name="langchain-community",
    version="0.4.2",
    script="langchain_dalle.py",
    beside=("openai==2.54.0",),
)

CLIENTS = (
    OPENAI,
    OPENAI_2,
    OPENAI_NODE,
    OPENAI_NODE_6,
    HUGGINGFACE,
    HUGGINGFACE_NODE,
    TOGETHER,
    LITELLM,
    WEBUIAPI,
    NODE_SD_WEBUI,
    LANGCHAIN,
)
