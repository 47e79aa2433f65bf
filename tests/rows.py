"""Rows, input images and answers, for tests that need any. Loads no torch."""

from typing import Any

import numpy as np

from deployments.requests import ImageResult, PreparedImage, Row


def make_row(**changes: Any) -> Row:
    """A row for the tiny model; 64 x 64 pixels."""
    fields: dict[str, Any] = {
        "id": f"row-{changes.get('seed', 0)}",
        "model": "tiny",
        "prompt": "a red house",
        "negative_prompt": "",
        "prompt_weighting": False,
        "width": 64,
        "height": 64,
        "num_inference_steps": 6,
        "guidance_scale": 3.0,
        "guidance_rescale": 0.0,
        "guidance_start": 0.0,
        "guidance_end": 1.0,
        "scheduler": "DDIMScheduler",
        "seed": 0,
        "strength": None,
        "output_format": "png",
        "output_compression": 100,
        "priority": "normal",
    }
    return Row(**{**fields, **changes})


def make_prepared(seed: int, *, masked: bool = False) -> PreparedImage:
    """A 64 x 64 input image of smooth noise; with a mask, the right half is painted."""
    random = np.random.default_rng(seed)
    coarse = random.uniform(-1, 1, (3, 8, 8)).astype(np.float32)
    mask = np.zeros((64, 64), np.float32)
    mask[:, 32:] = 1
    return PreparedImage(
        pixels=np.ascontiguousarray(coarse.repeat(8, 1).repeat(8, 2)),
        mask=mask if masked else None,
        latent_mask=np.ascontiguousarray(mask[::8, ::8]) if masked else None,
    )


def make_result(row_id: str, content: bytes = b"png") -> ImageResult:
    """The answer to a row, for what knows nothing of pictures."""
    return ImageResult(
        row_id=row_id,
        content=content,
        output_format="png",
        width=64,
        height=64,
        seed=1,
        model_calls=6,
        queue_wait_s=0.0,
        run_s=1.0,
    )
