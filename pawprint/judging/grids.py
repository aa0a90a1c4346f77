"""Pictures side by side, as in fast.ai's `show_batch` and `plot_top_losses`."""

import io
import math
from collections.abc import Iterable, Sequence

from PIL import Image, ImageDraw, ImageOps

from pawprint.judging.fonts import AnyFont, choose_font
from pawprint.pictures.opening import AS_STORED, open_picture

TILE, LINE = 176, 20  # pixels a side of a picture's place, and the height of a line of its caption


def picture_grid(paths: Sequence[str], captions: Sequence[str], columns: int = 6) -> bytes:
    """Return a PNG of picture files, each above its caption of two lines.

    The same input gives the same bytes.
    """
    return tiles(map(load_tile, paths), captions, columns, lines=2)


def tiles(
    images: Iterable[Image.Image], captions: Sequence[str], columns: int, lines: int
) -> bytes:
    """Return a PNG of square images, each above its caption of so many lines.

    A white image without a caption leaves its place free.
    """
    height = TILE + lines * LINE
    rows = max(1, math.ceil(len(captions) / columns))
    grid = Image.new("RGB", (columns * TILE, rows * height), "white")
    draw = ImageDraw.Draw(grid)
    for i, (image, caption) in enumerate(zip(images, captions, strict=True)):
        x, y = i % columns * TILE, i // columns * height
        grid.paste(image.resize((TILE - 4, TILE - 4)), (x + 2, y + 2))
        font, text = choose_font(caption, size=13)
        text = "\n".join(shorten(line, font) for line in text.split("\n"))
        below = (x + TILE // 2, y + TILE)
        draw.multiline_text(below, text, "black", font, anchor="ma", align="center", spacing=2)
    buffer = io.BytesIO()
    grid.save(buffer, "PNG")
    return buffer.getvalue()


def shorten(line: str, font: AnyFont, width: int = TILE - 4) -> str:
    """Return a line cut to a width in pixels, each of its parts between slashes alike."""
    if font.getlength(line) <= width:
        return line
    parts, gap = line.split(" / "), font.getlength(" / ")
    room = (width - gap * (len(parts) - 1)) / len(parts)
    cut = []
    for part in parts:
        if font.getlength(part) > room:
            fits = (n for n in range(len(part), 0, -1) if font.getlength(part[:n] + "..") <= room)
            part = part[: next(fits, 1)] + ".."
        cut.append(part)
    return " / ".join(cut)


def load_tile(path: str) -> Image.Image:
    """Return the middle of a picture file, at the size of a tile."""
    return ImageOps.fit(open_picture(path, AS_STORED), (TILE - 4, TILE - 4))
