"""Pictures side by side, as fast.ai's `show_batch` and `plot_top_losses`."""

import io
import math
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont, ImageOps

TILE, CAPTION = 176, 40


def picture_grid(paths: Sequence[str], captions: Sequence[str], columns: int = 6) -> bytes:
    """A PNG of the pictures, each over its caption of two lines; the same input gives the same bytes."""
    rows = max(1, math.ceil(len(paths) / columns))
    grid = Image.new("RGB", (columns * TILE, rows * (TILE + CAPTION)), "white")
    draw, font = ImageDraw.Draw(grid), ImageFont.load_default(13)
    for i, (path, caption) in enumerate(zip(paths, captions, strict=True)):
        x, y = i % columns * TILE, i // columns * (TILE + CAPTION)
        with Image.open(path) as image:
            grid.paste(ImageOps.fit(image.convert("RGB"), (TILE - 4, TILE - 4)), (x + 2, y + 2))
        draw.multiline_text((x + TILE // 2, y + TILE), caption, "black", font, anchor="ma", align="center", spacing=2)
    buffer = io.BytesIO()
    grid.save(buffer, "PNG")
    return buffer.getvalue()
