"""What phones and cameras write: HEIC files, and pictures with ICC profiles of many kinds."""

import io
import struct

import numpy as np
import pi_heif
import pillow_heif
from PIL import Image

pillow_heif.register_heif_opener()  # it writes HEIF …
pi_heif.register_heif_opener()  # … and what pawprint installs reads it

# The primaries of RGB spaces as columns of XYZ under D50, which ICC profiles are relative to.
P3 = ((0.51512, 0.24120, -0.00105), (0.29198, 0.69225, 0.04189), (0.15710, 0.06657, 0.78407))
ADOBE = ((0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457))
PROPHOTO = ((0.79767, 0.28804, 0.0), (0.13519, 0.71188, 0.0), (0.03134, 0.00009, 0.82491))
SRGB = ((0.43607, 0.22249, 0.01392), (0.38515, 0.71687, 0.09708), (0.14307, 0.06061, 0.71410))
WHITE = (0.9642, 1.0, 0.8249)
Primaries = tuple[tuple[float, float, float], ...]


def fixed(value: float) -> bytes:
    """A number as ICC profiles hold it, s15Fixed16."""
    return struct.pack(">i", round(value * 65536))


def xyz(values: tuple[float, ...]) -> bytes:
    return b"XYZ \0\0\0\0" + b"".join(map(fixed, values))


def curve(gamma: float) -> bytes:
    """A tone curve: a power, or sRGB's own for 0."""
    if gamma:
        return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256)) + b"\0\0"
    numbers = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
    return b"para\0\0\0\0" + struct.pack(">HH", 3, 0) + b"".join(map(fixed, numbers))


def text(kind: str, words: str) -> bytes:
    content = words.encode() + b"\0"
    if kind == "text":
        return b"text\0\0\0\0" + content
    return b"desc\0\0\0\0" + struct.pack(">I", len(content)) + content + bytes(78)


def profile(space: bytes, name: str, device: bytes = b"mntr", **tags: bytes) -> bytes:
    """An ICC profile. space: `RGB `, `GRAY` or `CMYK`."""
    contents = {"desc": text("desc", name), "cprt": text("text", "none"), "wtpt": xyz(WHITE)}
    contents |= tags
    table, data = b"", b""
    start = 128 + 4 + 12 * len(contents)
    for tag, content in contents.items():
        content = content.ljust(-len(content) % 4 + len(content), b"\0")
        table += tag.encode() + struct.pack(">II", start + len(data), len(content))
        data += content
    pcs = b"Lab " if "A2B0" in tags else b"XYZ "
    head = struct.pack(">I4sI4s4s4s", start + len(data), b"lcms", 0x02400000, device, space, pcs)
    head += struct.pack(">6H4s", 2026, 1, 1, 0, 0, 0, b"acsp") + bytes(28)
    head += b"".join(map(fixed, WHITE))
    return head.ljust(128, b"\0") + struct.pack(">I", len(contents)) + table + data


def rgb_profile(primaries: Primaries, gamma: float, name: str) -> bytes:
    columns = zip(("rXYZ", "gXYZ", "bXYZ"), primaries, strict=True)
    tags = {tag: xyz(column) for tag, column in columns}
    return profile(b"RGB ", name, **tags, **{f"{c}TRC": curve(gamma) for c in "rgb"})


def grey_profile(gamma: float, name: str = "grey") -> bytes:
    return profile(b"GRAY", name, kTRC=curve(gamma))


def cmyk_profile() -> bytes:
    """A table of two steps a side: lightness 100 less 25 for each ink, no hue."""
    identity = bytes(range(256))
    inks = [bin(index).count("1") for index in range(16)]
    table = b"".join(bytes((round(255 * (1 - ink / 4)), 128, 128)) for ink in inks)
    matrix = b"".join(map(fixed, (1, 0, 0, 0, 1, 0, 0, 0, 1)))
    lut = b"mft1\0\0\0\0" + bytes((4, 3, 2, 0)) + matrix + identity * 4 + table + identity * 3
    return profile(b"CMYK", "greyish inks", b"prtr", A2B0=lut)


DISPLAY_P3 = rgb_profile(P3, 0, "Display P3")


def in_srgb(colour: tuple[int, ...], primaries: Primaries, gamma: float) -> np.ndarray:
    """A colour of an RGB space in sRGB, computed by the book, clipped to what sRGB can show."""
    shares = np.array(colour) / 255
    below, above = shares / 12.92, ((shares + 0.055) / 1.055) ** 2.4
    linear = shares**gamma if gamma else np.where(shares <= 0.04045, below, above)
    light = np.linalg.inv(np.array(SRGB).T) @ np.array(primaries).T @ linear
    light = np.clip(light, 0, 1)
    curved = 1.055 * light ** (1 / 2.4) - 0.055
    return 255 * np.where(light <= 0.0031308, 12.92 * light, curved)


def written(image: Image.Image, form: str, **more: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **more)
    return buffer.getvalue()


def heic(image: Image.Image, orientation: int = 0, **more: object) -> bytes:
    """A HEIC file. orientation: of EXIF and, as phones do it, of the boxes irot and imir."""
    if orientation:
        exif = Image.Exif()
        exif[0x0112] = orientation
        more["exif"] = exif.tobytes()
    return written(image, "HEIF", **{"quality": 95, "chroma": 444} | more)


def movie() -> bytes:
    """The first bytes of the moving half of a live photo."""
    return b"\0\0\0\x14ftypqt  \0\0\0\0qt  \0\0\0\x08wide" + bytes(500)
