"""Reducers for PIL: images that are still to be read from their file, drawings, fonts in memory."""

from __future__ import annotations

import io
from typing import Any

from checkpoint_kernel.registry import named_reduction

from . import same_file


def reduce_image_file(image: Any) -> Any:
    """One that has not been read, or of which other frames can be: its file, and which frame.

    What has been read of it may have been drawn on since, and is saved as it is.
    """
    own = vars(image)
    unread = bool(own.get("tile")) and own.get("fp") is not None
    frames = own.get("_fp") is not None and own.get("_n_frames", 2) != 1
    name = own.get("filename", "")
    facts = same_file.facts_of(name) if isinstance(name, str) and name else None
    if facts is None or not (unread or frames):
        return NotImplemented
    pixels = None if unread else (image.mode, image.size, image.tobytes())
    return (load_image, (facts, name, image.tell(), dict(image.info), pixels))


def load_image(
    facts: dict[str, Any], name: str, frame: int, info: dict[Any, Any], pixels: Any
) -> Any:
    """`Image.open` of the same file, at the same frame."""
    from PIL import Image

    image: Any = Image.open(same_file.check(facts, unwritten=True))
    image.filename = name
    if frame:
        image.seek(frame)
    image.info.update(info)
    if pixels is not None:
        image.load()
        mode, size, data = pixels
        if (image.mode, image.size) != (mode, size):
            image.im, image._mode = Image.new(mode, size).im, mode
            image._size = size
        image.frombytes(data)
    return image


def reduce_draw(draw: Any) -> Any:
    """The image that it draws on, and with what."""
    image = getattr(draw, "_image", None)
    if image is None or getattr(image, "im", None) is not draw.im:
        return NotImplemented
    state = {name: getattr(draw, name) for name in ("ink", "fill", "fontmode", "font")}
    return (load_draw, (image, draw.mode, state))


def load_draw(image: Any, mode: str, state: dict[str, Any]) -> Any:
    """`ImageDraw.Draw`."""
    from PIL import ImageDraw

    made = ImageDraw.Draw(image, mode)
    vars(made).update(state)
    return made


def reduce_font(font: Any) -> Any:
    """One that was read from memory: its bytes. PIL would save where they had been read up to."""
    if isinstance(font.path, str | bytes):
        return NotImplemented
    data = getattr(font, "font_bytes", None)
    if not data and isinstance(font.path, io.BytesIO):
        data = font.path.getvalue()
    if not data:
        return NotImplemented
    return (load_font, (data, font.size, font.index, font.encoding, int(font.layout_engine)))


def load_font(data: bytes, size: float, index: int, encoding: str, layout: int) -> Any:
    """`ImageFont.truetype` of a file in memory."""
    from PIL import ImageFont

    engine = ImageFont.Layout(layout)
    return ImageFont.truetype(io.BytesIO(data), size, index, encoding, engine)


def reduce_sequence(sequence: Any) -> Any:
    """The image, and which frame comes next."""
    return (load_sequence, (sequence.im, sequence.position))


def load_sequence(image: Any, position: int) -> Any:
    """`ImageSequence.Iterator`."""
    from PIL import ImageSequence

    made = ImageSequence.Iterator.__new__(ImageSequence.Iterator)
    vars(made).update({"im": image, "position": position})
    made.position = position
    return made


named_reduction("PIL.ImageFile", "ImageFile", reduce_image_file, subclasses=True)
named_reduction("PIL.ImageDraw", "ImageDraw", reduce_draw)
named_reduction("PIL.ImageFont", "FreeTypeFont", reduce_font)
