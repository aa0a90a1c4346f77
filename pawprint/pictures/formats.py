"""The one list of picture formats: which decoders are tried, and which file names look like one."""

from pathlib import PurePosixPath

from PIL import Image

# Pillow's name of each format, and the suffixes of its files; the first one names files we write.
# Other formats that Pillow knows start programs (EPS), or are not used for pictures.
SUFFIXES_OF = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "PNG": (".png",),
    "GIF": (".gif",),
    "WEBP": (".webp",),
    "BMP": (".bmp",),
    "DIB": (".dib",),
    "TIFF": (".tif", ".tiff"),
    "AVIF": (".avif",),
    "JPEG2000": (".jp2", ".j2k"),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm"),
    "ICO": (".ico",),
    "TGA": (".tga",),
    "PCX": (".pcx",),
}
SUFFIXES = frozenset(suffix for suffixes in SUFFIXES_OF.values() for suffix in suffixes)

Image.init()
FORMATS = tuple(form for form in SUFFIXES_OF if form in Image.OPEN)  # AVIF came late to Pillow


def looks_like_picture(name: str) -> bool:
    """Return whether a file's name looks like a picture's.

    Hidden files do not, nor those in hidden folders, such as macOS's `._` twins.
    name: with slashes.
    """
    path = PurePosixPath(name)
    hidden = any(part.startswith(".") for part in path.parts)
    return path.suffix.lower() in SUFFIXES and not hidden
