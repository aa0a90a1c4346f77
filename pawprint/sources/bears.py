"""Draw a grizzly, a black bear or a teddy bear on one of many backgrounds, from one generator."""

import math
from random import Random

from PIL import Image, ImageChops, ImageDraw, ImageEnhance

KINDS = ("black", "grizzly", "teddy")
OVERSAMPLING = 2  # pictures are drawn larger and scaled down, which smooths their edges

Colour = tuple[int, int, int]

# Coats overlap on purpose: there are dark grizzlies, cinnamon black bears, teddies of all colours.
COATS: dict[str, list[Colour]] = {
    "black": [(38, 34, 36), (54, 46, 44), (28, 28, 34), (104, 68, 44), (74, 52, 42), (46, 40, 46)],
    "grizzly": [
        (140, 96, 62),
        (112, 74, 46),
        (168, 124, 84),
        (78, 54, 40),
        (188, 150, 106),
        (58, 44, 38),
    ],
    "teddy": [
        (206, 162, 112),
        (172, 118, 72),
        (122, 78, 48),
        (62, 48, 44),
        (226, 178, 188),
        (232, 216, 190),
        (40, 36, 38),
    ],
}


def draw_bear(kind: str, random: Random) -> Image.Image:
    """Return a picture of a bear: 256 to 400 pixels a side, RGB.

    kind: one of KINDS. The same state of `random` gives the same pixels.
    """
    width, height = random.randint(256, 400), random.randint(256, 360)
    image = Image.new("RGB", (width * OVERSAMPLING, height * OVERSAMPLING))
    random.choice([outdoors, outdoors, forest, snow, room, shelf])(image, random)
    coat = jitter(random.choice(COATS[kind]), 14, random)
    brush = Brush(image, random)
    pose = (
        random.choice([face, side, sitting])
        if kind != "teddy"
        else random.choice([face, side, sitting, sitting])
    )
    pose(brush, kind, coat, random)
    foreground(image, random)
    return finish(image.resize((width, height), Image.Resampling.LANCZOS), random)


class Brush:
    """Draws in a bear's own coordinates: the origin its middle, one unit its size, y down."""

    def __init__(self, image: Image.Image, random: Random) -> None:
        self.draw = ImageDraw.Draw(image)
        self.random = random
        self.scale = min(image.size) * random.uniform(0.38, 0.62)
        self.x = image.width * random.uniform(0.36, 0.64)
        self.y = image.height * random.uniform(0.42, 0.62)
        self.mirror = random.choice([-1, 1])
        angle = random.uniform(-0.22, 0.22)
        self.cos, self.sin = math.cos(angle), math.sin(angle)

    def place(self, x: float, y: float) -> tuple[int, int]:
        x *= self.mirror
        return (
            round(self.x + self.scale * (x * self.cos - y * self.sin)),
            round(self.y + self.scale * (x * self.sin + y * self.cos)),
        )

    def oval(
        self, x: float, y: float, rx: float, ry: float, colour: Colour, tilt: float = 0.0
    ) -> None:
        cos, sin = math.cos(tilt), math.sin(tilt)
        steps = [
            (rx * math.cos(t * math.pi / 24), ry * math.sin(t * math.pi / 24)) for t in range(48)
        ]
        self.draw.polygon(
            [self.place(x + a * cos - b * sin, y + a * sin + b * cos) for a, b in steps], colour
        )

    def line(self, points: list[tuple[float, float]], colour: Colour, width: float) -> None:
        pixels = max(1, round(width * self.scale))
        self.draw.line([self.place(*point) for point in points], colour, pixels, joint="curve")

    def fur(
        self, x: float, y: float, rx: float, ry: float, colour: Colour, strokes: int, length: float
    ) -> None:
        """Draw short hairs over an oval, outwards and down, lighter and darker than its colour."""
        for _ in range(strokes):
            t, r = self.random.uniform(0, 2 * math.pi), math.sqrt(self.random.random())
            px, py = x + rx * r * math.cos(t), y + ry * r * math.sin(t)
            dx, dy = length * math.cos(t), length * (0.6 + 0.5 * math.sin(t))
            self.line(
                [(px, py), (px + dx, py + dy)],
                shade(colour, self.random.uniform(0.72, 1.35)),
                0.008,
            )


def face(brush: Brush, kind: str, coat: Colour, random: Random) -> None:
    """Draw a close-up from the front."""
    brush.scale *= random.uniform(1.1, 1.4)
    brush.oval(0, 0.75, 0.7, 0.6, shade(coat, 0.85))
    if kind != "teddy":
        brush.fur(0, 0.75, 0.66, 0.5, coat, 160, 0.07)
    head(brush, kind, coat, 0.0, 0.0, 0.5, random)


def sitting(brush: Brush, kind: str, coat: Colour, random: Random) -> None:
    """Draw the whole bear from the front, sitting."""
    dark = shade(coat, 0.82)
    for sign in (-1, 1):
        brush.oval(sign * 0.36, 0.78, 0.2, 0.26, dark, sign * 0.5)
        brush.oval(sign * 0.42, 0.28, 0.13, 0.3, dark, sign * random.uniform(-0.9, -0.2))
    brush.oval(0, 0.42, 0.4, 0.46, coat)
    if kind == "teddy":
        belly = shade(coat, 1.25) if sum(coat) < 480 else shade(coat, 0.85)
        brush.oval(0, 0.46, 0.26, 0.3, belly)
        brush.line([(0, 0.18), (0, 0.74)], shade(belly, 0.75), 0.012)
        for sign in (-1, 1):
            brush.oval(sign * 0.4, 0.9, 0.12, 0.12, belly)
            for toe in (-1, 0, 1):
                brush.oval(sign * 0.4 + toe * 0.06, 0.8, 0.028, 0.028, shade(belly, 0.6))
    else:
        brush.fur(0, 0.42, 0.38, 0.44, coat, 220 if kind == "grizzly" else 90, 0.06)
        if kind == "black" and random.random() < 0.5:
            brush.oval(0, 0.2, 0.12, 0.07, (206, 186, 150))
        for sign in (-1, 1):
            for toe in (-1, 0, 1):
                foot = (sign * 0.42 + toe * 0.06, 0.98)
                brush.line(
                    [foot, (foot[0], foot[1] + (0.09 if kind == "grizzly" else 0.05))],
                    (214, 204, 184),
                    0.018,
                )
    head(brush, kind, coat, 0.0, -0.22, 0.32, random)


def side(brush: Brush, kind: str, coat: Colour, random: Random) -> None:
    """Draw a bear on four legs, the head to the right before mirroring."""
    dark = shade(coat, 0.75)
    leg = 0.34 if kind == "teddy" else 0.48
    thick = {"black": 0.1, "grizzly": 0.13, "teddy": 0.15}[kind]
    for x, colour in ((-0.34, dark), (0.26, dark), (-0.5, coat), (0.42, coat)):
        stride = random.uniform(-0.06, 0.06)
        brush.oval(x + stride, 0.2 + leg / 2, thick, leg / 2 + 0.12, colour)
        if kind == "grizzly":
            for claw in (0.04, 0.08, 0.12):
                brush.line(
                    [(x + stride + claw, 0.3 + leg), (x + stride + claw + 0.06, 0.35 + leg)],
                    (220, 210, 190),
                    0.016,
                )
    brush.oval(-0.05, 0.06, 0.62, {"black": 0.27, "grizzly": 0.33, "teddy": 0.32}[kind], coat)
    if kind == "grizzly":
        brush.oval(0.24, -0.2, 0.26, 0.2, shade(coat, 1.1))
        brush.fur(0.24, -0.2, 0.26, 0.2, shade(coat, 1.15), 130, 0.06)
    elif kind == "black":
        brush.oval(-0.36, -0.04, 0.26, 0.25, coat)
    else:
        brush.line([(-0.6, 0.1), (-0.2, 0.17), (0.3, 0.15)], shade(coat, 0.6), 0.012)
        brush.oval(-0.66, -0.06, 0.09, 0.09, shade(coat, 1.15))
    if kind != "teddy":
        brush.fur(-0.05, 0.06, 0.6, 0.3, coat, 320 if kind == "grizzly" else 110, 0.06)
    profile(brush, kind, coat, random)


def profile(brush: Brush, kind: str, coat: Colour, random: Random) -> None:
    """Draw the head of a bear seen from the side."""
    y = random.uniform(-0.22, 0.02)
    muzzle = muzzle_colour(kind, coat, random)
    brush.oval(0.52, y + 0.02, 0.24, 0.23, coat, 0.5)
    if kind == "teddy":
        brush.oval(0.66, y - 0.06, 0.27, 0.26, coat)
        brush.oval(0.54, y - 0.3, 0.12, 0.12, coat)
        brush.oval(0.54, y - 0.3, 0.07, 0.07, shade(coat, 1.3))
        brush.oval(0.86, y, 0.13, 0.11, muzzle)
        brush.oval(0.96, y - 0.04, 0.04, 0.035, (30, 24, 24))
        button(brush, 0.74, y - 0.12)
        bow(brush, 0.52, y + 0.22, random)
        return
    long, ear = (0.24, 0.07) if kind == "grizzly" else (0.2, 0.09)
    brush.oval(0.66, y - 0.02, 0.2 if kind == "grizzly" else 0.17, 0.18, coat)
    brush.oval(0.58, y - 0.2, ear, ear * (1.0 if kind == "grizzly" else 1.45), shade(coat, 0.85))
    brush.oval(0.84, y + 0.04, long * 0.75, 0.085, muzzle, 0.15)
    brush.oval(0.84 + long * 0.68, y + 0.05, 0.04, 0.035, (22, 20, 22))
    brush.oval(0.74, y - 0.06, 0.024, 0.024, (20, 14, 10))
    brush.fur(0.64, y, 0.18, 0.17, coat, 90 if kind == "grizzly" else 36, 0.05)


def head(
    brush: Brush, kind: str, coat: Colour, x: float, y: float, size: float, random: Random
) -> None:
    """Draw the head from the front; size: its half width."""
    muzzle = muzzle_colour(kind, coat, random)
    wide, tall, apart, ear, ear_tall = {
        "grizzly": (1.0, 0.86, 0.74, 0.2, 1.0),
        "black": (0.8, 0.9, 0.56, 0.21, 1.5),
        "teddy": (1.0, 0.94, 0.76, 0.36, 1.0),
    }[kind]
    for sign in (-1, 1):
        ear_x, ear_y = x + sign * apart * size, y - 0.72 * size
        brush.oval(ear_x, ear_y, ear * size, ear * ear_tall * size, shade(coat, 0.9), sign * 0.3)
        brush.oval(
            ear_x,
            ear_y,
            0.55 * ear * size,
            0.55 * ear * ear_tall * size,
            shade(coat, 1.35 if kind == "teddy" else 0.6),
        )
    brush.oval(x, y, wide * size, tall * size, coat)
    if kind != "teddy":
        brush.fur(
            x, y, wide * size, tall * size, coat, 300 if kind == "grizzly" else 90, 0.14 * size
        )
    if kind == "grizzly":
        brush.oval(x, y - 0.02 * size, 0.2 * size, 0.36 * size, shade(coat, 1.12))
    brush.oval(x, y + 0.34 * size, 0.42 * size, (0.32 if kind == "teddy" else 0.4) * size, muzzle)
    nose = (
        (34, 28, 30)
        if kind != "teddy"
        else random.choice([(40, 30, 30), (110, 50, 50), (30, 30, 60)])
    )
    brush.oval(x, y + 0.18 * size, 0.15 * size, 0.1 * size, nose)
    brush.line([(x, y + 0.26 * size), (x, y + 0.42 * size)], shade(nose, 1.2), 0.03 * size)
    for sign in (-1, 1):
        brush.line(
            [(x, y + 0.42 * size), (x + sign * 0.16 * size, y + 0.5 * size)],
            shade(nose, 1.2),
            0.03 * size,
        )
        if kind == "teddy":
            button(brush, x + sign * 0.36 * size, y - 0.14 * size)
        else:
            brush.oval(
                x + sign * 0.34 * size, y - 0.16 * size, 0.07 * size, 0.06 * size, (36, 22, 14)
            )
            brush.oval(
                x + sign * 0.32 * size, y - 0.18 * size, 0.02 * size, 0.02 * size, (240, 235, 225)
            )
    if kind == "teddy":
        brush.line([(x, y - 0.9 * size), (x, y - 0.1 * size)], shade(coat, 0.72), 0.02)
        bow(brush, x, y + 1.0 * size, random)


def muzzle_colour(kind: str, coat: Colour, random: Random) -> Colour:
    if kind == "black":
        return jitter((158, 118, 80), 14, random)
    if kind == "grizzly":
        return shade(coat, random.uniform(0.9, 1.25))
    return shade(coat, 1.3) if sum(coat) < 520 else shade(coat, 0.9)


def button(brush: Brush, x: float, y: float) -> None:
    """Draw a teddy's eye, with the light in it."""
    brush.oval(x, y, 0.042, 0.042, (20, 18, 20))
    brush.oval(x - 0.014, y - 0.014, 0.013, 0.013, (250, 250, 250))


def bow(brush: Brush, x: float, y: float, random: Random) -> None:
    """Draw a ribbon round a teddy's neck; two in three wear one."""
    if random.random() < 0.33:
        return
    colour = jitter(
        random.choice(
            [(190, 30, 40), (40, 70, 170), (40, 130, 70), (230, 190, 60), (150, 60, 150)]
        ),
        20,
        random,
    )
    for sign in (-1, 1):
        brush.oval(x + sign * 0.11, y, 0.11, 0.07, colour, sign * 0.4)
    brush.oval(x, y, 0.045, 0.045, shade(colour, 0.7))


def outdoors(image: Image.Image, random: Random) -> None:
    """Draw sky, mountains or hills, a meadow or a river."""
    width, height = image.size
    horizon = round(height * random.uniform(0.25, 0.7))
    gradient(image, (0, horizon), random_sky(random), jitter((222, 226, 226), 26, random))
    draw = ImageDraw.Draw(image)
    for _ in range(random.randint(1, 4)):
        colour = jitter(
            random.choice([(92, 104, 116), (70, 96, 72), (128, 112, 92), (150, 158, 172)]),
            24,
            random,
        )
        peak, middle, spread = (
            round(height * random.uniform(0.05, 0.5)),
            random.randint(0, width),
            random.randint(100, 420),
        )
        draw.polygon(
            [(middle - spread, horizon), (middle, peak), (middle + spread, horizon)], colour
        )
    ground = random.choice(
        [(104, 132, 62), (148, 138, 74), (84, 104, 58), (96, 128, 148), (136, 110, 80)]
    )
    gradient(
        image, (horizon, height), jitter(ground, 24, random), jitter(shade(ground, 0.7), 20, random)
    )
    for _ in range(random.randint(60, 260)):
        x, y = random.randint(0, width), random.randint(horizon, height)
        draw.line(
            [(x, y), (x + random.randint(-6, 6), y - random.randint(6, 26))],
            shade(ground, random.uniform(0.6, 1.3)),
            2,
        )


def forest(image: Image.Image, random: Random) -> None:
    """Draw trunks and leaves, near and far."""
    width, height = image.size
    gradient(
        image, (0, height), jitter((96, 128, 84), 40, random), jitter((62, 66, 40), 24, random)
    )
    draw = ImageDraw.Draw(image)
    for depth in range(random.randint(5, 16)):
        x, thick = random.randint(0, width), random.randint(8, 20 + 4 * depth)
        bark = jitter(
            random.choice([(84, 66, 50), (60, 52, 44), (196, 190, 180), (110, 80, 56)]), 20, random
        )
        draw.rectangle([x, 0, x + thick, round(height * random.uniform(0.55, 0.95))], bark)
    for _ in range(random.randint(40, 160)):
        x, y, r = random.randint(0, width), random.randint(0, height), random.randint(6, 34)
        green = jitter(
            random.choice([(70, 110, 56), (110, 140, 70), (160, 130, 60), (50, 80, 50)]), 24, random
        )
        draw.ellipse([x - r, y - r, x + r, y + r // 2], green)


def snow(image: Image.Image, random: Random) -> None:
    """Draw white ground, dark firs, flakes."""
    width, height = image.size
    horizon = round(height * random.uniform(0.3, 0.65))
    gradient(
        image,
        (0, horizon),
        jitter((150, 164, 186), 40, random),
        jitter((212, 218, 228), 16, random),
    )
    gradient(
        image,
        (horizon, height),
        jitter((226, 232, 240), 12, random),
        jitter((188, 200, 218), 20, random),
    )
    draw = ImageDraw.Draw(image)
    for _ in range(random.randint(2, 9)):
        x, tall, wide = random.randint(0, width), random.randint(60, 260), random.randint(24, 80)
        foot = horizon + random.randint(-10, 40)
        draw.polygon(
            [(x - wide, foot), (x, foot - tall), (x + wide, foot)], jitter((52, 78, 66), 18, random)
        )
    for _ in range(random.randint(0, 240)):
        x, y, r = random.randint(0, width), random.randint(0, height), random.randint(1, 4)
        draw.ellipse([x - r, y - r, x + r, y + r], (250, 250, 255))


def room(image: Image.Image, random: Random) -> None:
    """Draw a wall with stripes and a window, a floor, perhaps a sofa."""
    width, height = image.size
    wall = jitter(
        random.choice(
            [(216, 200, 176), (168, 190, 200), (200, 168, 168), (120, 130, 110), (90, 96, 120)]
        ),
        24,
        random,
    )
    floor = round(height * random.uniform(0.6, 0.85))
    image.paste(wall, (0, 0, width, floor))
    image.paste(
        jitter(random.choice([(150, 110, 74), (120, 116, 112), (190, 170, 140)]), 20, random),
        (0, floor, width, height),
    )
    draw = ImageDraw.Draw(image)
    step = random.randint(24, 90)
    for x in range(random.randint(0, step), width, step):
        draw.rectangle([x, 0, x + step // random.randint(2, 6), floor], shade(wall, 0.93))
    x, y, wide = random.randint(0, width), random.randint(0, height // 3), random.randint(90, 220)
    draw.rectangle([x - 10, y - 10, x + wide + 10, y + wide + 10], shade(wall, 1.2))
    gradient(
        image,
        (y, min(height, y + wide)),
        random_sky(random),
        (226, 232, 236),
        x,
        min(width, x + wide),
    )
    if random.random() < 0.5:
        sofa, top = (
            jitter(
                (random.randint(50, 200), random.randint(50, 170), random.randint(50, 180)),
                10,
                random,
            ),
            floor - 160,
        )
        draw.rounded_rectangle(
            [random.randint(-60, 60), top, width - random.randint(-60, 120), height - 20], 50, sofa
        )
        draw.line([(width // 2, top + 20), (width // 2, height)], shade(sofa, 0.75), 6)


def shelf(image: Image.Image, random: Random) -> None:
    """Draw boards with books and toys."""
    width, height = image.size
    back = jitter(
        random.choice([(196, 176, 150), (120, 92, 70), (220, 220, 214), (92, 100, 108)]), 20, random
    )
    image.paste(back, (0, 0, width, height))
    draw = ImageDraw.Draw(image)
    step = random.randint(130, 280)
    for board in range(random.randint(60, step), height + step, step):
        x = random.randint(-20, 30)
        while x < width:
            wide, tall = random.randint(12, 46), random.randint(50, step - 20)
            if random.random() < 0.75:
                colour = (random.randint(30, 220), random.randint(30, 210), random.randint(30, 210))
                draw.rectangle([x, board - tall, x + wide, board], colour)
            x += wide + random.randint(1, 12)
        draw.rectangle([0, board, width, board + 16], shade(back, 0.65))


def foreground(image: Image.Image, random: Random) -> None:
    """Draw grass, a branch, or nothing before the bear."""
    width, height = image.size
    draw = ImageDraw.Draw(image)
    chance = random.random()
    if chance < 0.3:
        green = jitter(random.choice([(96, 124, 60), (150, 140, 80), (70, 90, 50)]), 24, random)
        for _ in range(random.randint(40, 130)):
            x, tall = random.randint(0, width), random.randint(30, height // 3)
            blade = [(x, height), (x + random.randint(-20, 20), height - tall)]
            draw.line(blade, shade(green, random.uniform(0.7, 1.3)), random.randint(2, 6))
    elif chance < 0.45:
        left, right = random.randint(0, height), random.randint(0, height)
        draw.line(
            [(0, left), (width, right)], jitter((86, 66, 48), 16, random), random.randint(8, 22)
        )
        for _ in range(random.randint(6, 24)):
            x = random.randint(0, width)
            y, r = (
                left + (right - left) * x // width + random.randint(-30, 30),
                random.randint(6, 20),
            )
            draw.ellipse([x - r, y - r // 2, x + r, y + r // 2], jitter((92, 126, 66), 30, random))


def finish(image: Image.Image, random: Random) -> Image.Image:
    """Change light, tint and contrast, and add the grain of a sensor."""
    tint = [
        random.uniform(0.85, 1.15) * random.choice([0.6, 0.8, 1.0, 1.0, 1.0, 1.2]) for _ in range(1)
    ] * 3
    tint = [gain * random.uniform(0.9, 1.1) for gain in tint]
    image = image.point([min(255, round(value * gain)) for gain in tint for value in range(256)])
    image = ImageEnhance.Contrast(image).enhance(random.choice([0.75, 0.9, 1.0, 1.1, 1.25]))
    grain = Image.frombytes("L", image.size, random.randbytes(image.width * image.height))
    strength = random.randint(8, 40)
    grain = grain.point([value * strength // 255 for value in range(256)])
    return ImageChops.add(image, Image.merge("RGB", [grain] * 3), offset=-strength // 2)


def gradient(
    image: Image.Image,
    rows: tuple[int, int],
    top: Colour,
    bottom: Colour,
    left: int = 0,
    right: int | None = None,
) -> None:
    """Fill rows (and columns from left to right) with a blend from one colour to another."""
    draw, (first, last) = ImageDraw.Draw(image), rows
    for y in range(first, last):
        part = (y - first) / max(1, last - first)
        colour = tuple(round(a + (b - a) * part) for a, b in zip(top, bottom, strict=True))
        draw.line([(left, y), (image.width if right is None else right, y)], colour)


def random_sky(random: Random) -> Colour:
    return jitter(
        random.choice(
            [(110, 160, 214), (150, 170, 190), (226, 170, 120), (70, 90, 130), (190, 200, 206)]
        ),
        20,
        random,
    )


def jitter(colour: Colour, by: int, random: Random) -> Colour:
    """Return the colour, each channel moved by at most `by`."""
    red, green, blue = (max(0, min(255, channel + random.randint(-by, by))) for channel in colour)
    return red, green, blue


def shade(colour: Colour, factor: float) -> Colour:
    """Return the colour, darker (factor below 1) or lighter (above 1)."""
    red, green, blue = (max(0, min(255, round(channel * factor))) for channel in colour)
    return red, green, blue
