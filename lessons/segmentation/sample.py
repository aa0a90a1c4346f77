"""Draw bears with exact masks: the main pipeline's drawn sample, and which pixels are bear.

The masks are exact because they are drawn, not painted afterwards: each stroke of the bear goes
into the mask too, and what is drawn before it (grass, a branch) is taken out again.
"""

import io
from collections.abc import Iterator
from random import Random

from PIL import Image, ImageChops, ImageDraw

from pawprint.sources import bears

WIDTH, HEIGHT, OVERSAMPLING = 128, 96, 4
CODES = ("background", *bears.KINDS, "Void")  # as in CamVid; here no pixel is Void


def draw(size: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """Yield codes.txt, images/NAME.png and labels/NAME_P.png, whose pixels are places in codes."""
    yield "codes.txt", ("\n".join(CODES) + "\n").encode()
    for number in range(size):
        kind = bears.KINDS[number % len(bears.KINDS)]
        picture, is_bear = draw_bear(kind, Random(f"mask:{seed}:{number}"))
        code = CODES.index(kind)
        mask = is_bear.resize(picture.size, Image.Resampling.BOX)
        yield f"images/{number:04}.png", to_png(picture)
        yield f"labels/{number:04}_P.png", to_png(mask.point([0] * 128 + [code] * 128))


def draw_bear(kind: str, random: Random) -> tuple[Image.Image, Image.Image]:
    """Return a picture, and 255 where the bear is in it, at the size before scaling down."""
    image = Image.new("RGB", (WIDTH * OVERSAMPLING, HEIGHT * OVERSAMPLING))
    scenes = [bears.outdoors, bears.forest, bears.snow, bears.room, bears.shelf]
    random.choice(scenes)(image, random)

    # the bear, on the picture and on the mask
    brush = bears.Brush(image, random)
    is_bear = Image.new("L", image.size)
    brush.draw = Twice(brush.draw, ImageDraw.Draw(is_bear))  # type: ignore[assignment]
    coat = bears.jitter(random.choice(bears.COATS[kind]), 14, random)
    random.choice([bears.face, bears.side, bears.sitting])(brush, kind, coat, random)

    # what hides it: the same strokes on black and on white are alike where there is a stroke
    state, canvases = random.getstate(), []
    for colour in ("black", "white"):
        random.setstate(state)
        canvases.append(Image.new("RGB", image.size, colour))
        bears.foreground(canvases[-1], random)
    free = ImageChops.difference(*canvases).convert("L").point([0] + [255] * 255)
    image.paste(canvases[0], mask=ImageChops.invert(free))
    small = image.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS)
    return bears.finish(small, random), ImageChops.darker(is_bear, free)


class Twice:
    """Draws on a picture, and the same in white on a mask."""

    def __init__(self, picture: ImageDraw.ImageDraw, mask: ImageDraw.ImageDraw) -> None:
        self.picture, self.mask = picture, mask

    def polygon(self, points: list[tuple[int, int]], colour: bears.Colour) -> None:
        self.picture.polygon(points, colour)
        self.mask.polygon(points, 255)

    def line(
        self, points: list[tuple[int, int]], colour: bears.Colour, width: int, joint: str
    ) -> None:
        self.picture.line(points, colour, width, joint)
        self.mask.line(points, 255, width, joint)


def to_png(image: Image.Image) -> bytes:
    """Return a picture as PNG."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()
