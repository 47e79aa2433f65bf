"""Answers that several wire formats give."""

from starlette.responses import Response

from deployments.requests import ImageResult


def json_answer(content: bytes, *, status: int = 200) -> Response:
    """Encoded JSON."""
    return Response(content, status_code=status, media_type="application/json")


def picture_answer(result: ImageResult) -> Response:
    """The file itself, its seed in `x-seed`."""
    return Response(
        result.content,
        media_type=f"image/{result.output_format}",
        headers={"x-seed": str(result.seed)},
    )
