"""Storing a JPEG as it is, less everything that is not pixels: no second encoding, no loss.

A JPEG is a row of segments, each a marker with its content (ITU-T T.81, annex B). Tables, frame and
scans are the pixels. Application segments (EXIF, GPS, thumbnails, colour profiles), comments and
whatever follows the end are left out.
"""

import re

# ITU-T T.81, table B.1: start and end of image, of a baseline frame and of a scan
SOI, EOI, BASELINE, SOS = 0xD8, 0xD9, 0xC0, 0xDA
TABLES = {0xC4, 0xDB, 0xDD}  # Huffman and quantisation tables, and the restart interval
MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")  # in a scan: no stuffed byte, restart or padding
LEFT_OUT = {*range(0xE0, 0xF0), 0xFE}  # application segments and comments
# JFIF 1.01, without density or thumbnail: with it, every decoder takes the three colours for YCbCr
JFIF = bytes.fromhex("ffe000104a46494600010100000100010000")


def strip_jpeg(content: bytes, size: tuple[int, int]) -> bytes | None:
    """Return a baseline JPEG in YCbCr with its pixels alone; None for any other file.

    content: a file that a decoder has read to its end, and found to be RGB after YCbCr; size: width
    and height in pixels that it should have.
    """
    if content[:2] != bytes([0xFF, SOI]):
        return None
    kept, at, frames = [content[:2], JFIF], 2, 0
    while at + 4 <= len(content) and content[at] == 0xFF:
        marker = content[at + 1]
        if marker == 0xFF:  # a byte of padding
            at += 1
            continue
        if marker == EOI:
            return b"".join([*kept, content[at : at + 2]]) if frames == 1 else None
        end = at + 2 + int.from_bytes(content[at + 2 : at + 4], "big")
        if marker == BASELINE:
            frames += 1
            height, width = content[at + 5 : at + 7], content[at + 7 : at + 9]
            own = int.from_bytes(width, "big"), int.from_bytes(height, "big")
            names = content[at + 10 : end : 3]  # of the colours
            if own != size or len(names) != 3 or names == b"RGB":
                return None
        elif marker == SOS:
            end = end_of_scan(content, end)
        elif marker not in TABLES and marker not in LEFT_OUT:
            return None
        if marker not in LEFT_OUT:
            kept.append(content[at:end])
        at = end
    # without an end marker, or with something between the segments
    whole = content[at : at + 2] == bytes([0xFF, EOI]) and frames == 1
    return b"".join([*kept, content[at : at + 2]]) if whole else None


def end_of_scan(content: bytes, start: int) -> int:
    """Return where the coded data of a scan ends: at the next marker that is no restart."""
    marker = MARKER.search(content, start)
    return marker.start() if marker else len(content)
