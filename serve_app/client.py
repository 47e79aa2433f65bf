"""For other Ray apps: a typed client over this app's handle, without HTTP in between."""

from collections.abc import Generator
from dataclasses import replace
from typing import Any, Protocol

from ray import serve

from deployments.requests import GenerationParams, ImageResult, MaskPolarity


class Pictures(Protocol):
    """An answer to come: `await` it inside a deployment, or call `.result()` outside of one."""

    def result(self, *, timeout_s: float | None = None) -> list[ImageResult]:
        """Blocks until the pictures are there. Not inside a deployment."""

    def __await__(self) -> Generator[Any, None, list[ImageResult]]: ...

    def cancel(self) -> None:
        """Frees the rows' lanes at the next step."""


class StepwiseClient:
    """Asks a running Stepwise app for pictures.

    Errors are those of `deployments.errors`: `InvalidRequest` names the field in `param`.
    """

    def __init__(self, app_name: str = "stepwise") -> None:
        """`app_name` is the application's name in the Serve config."""
        self._handle = serve.get_app_handle(app_name)

    def generate(self, params: GenerationParams) -> Pictures:
        """`params.n` pictures of `params.prompt`, with seeds `seed`, `seed + 1`, …"""
        return self._submit(params)

    def edit(
        self,
        image: bytes,
        params: GenerationParams,
        *,
        mask: bytes | None = None,
        mask_polarity: MaskPolarity = "transparent",
    ) -> Pictures:
        """The encoded image (PNG, JPEG or WebP) repainted, where the mask says or everywhere."""
        return self._submit(replace(params, image=image, mask=mask, mask_polarity=mask_polarity))

    def _submit(self, params: GenerationParams) -> Pictures:
        pictures: Pictures = self._handle.submit.remote(params)
        return pictures
