"""What the imaging room has to reach: ratios of one and the same run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from server.bars import Bar

from imaging.turns import Figures

AREA = "prepare_area_1024_512"
AREA_PILLOW_BAR, AREA_OPENCV_BAR = 5.0, 1.5
PREPARE_BAR = 1.0
PACK_BAR = 5.0
PNG_SPEED_BAR, PNG_BYTES_BAR = 10.0, 1.25


def bars(operations: Mapping[str, Figures]) -> Iterator[Bar]:
    """Those of what was measured."""
    for operation, figures in operations.items():
        if operation == AREA:
            yield _faster(operation, figures, "pillow_numpy", AREA_PILLOW_BAR)
            yield _faster(operation, figures, "opencv_numpy", AREA_OPENCV_BAR)
        elif operation.startswith("prepare_"):
            yield _faster(operation, figures, "pillow_numpy", PREPARE_BAR)
        elif operation == "pack_uint8_1024":
            yield _faster(operation, figures, "numpy", PACK_BAR)
        elif operation == "png_1024":
            yield _faster(operation, figures, "pillow", PNG_SPEED_BAR)
            yield Bar(
                name=f"{operation}, bytes, ours / pillow",
                ratio=figures["ours_bytes"] / figures["pillow_bytes"],
                bar=PNG_BYTES_BAR,
                at_most=True,
            )


def _faster(operation: str, figures: Figures, rival: str, bar: float) -> Bar:
    return Bar(
        name=f"{operation}, {rival} / ours",
        ratio=figures[f"{rival}_ms"] / figures["ours_ms"],
        bar=bar,
    )
