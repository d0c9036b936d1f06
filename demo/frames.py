"""What came back: every frame checked against its MD5, opened, and put on one contact sheet."""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from PIL import Image, ImageDraw

COLUMNS = 6
MARGIN = 6


def check(folder: Path, md5s: Mapping[str, str]) -> list[Path]:
    """Return the files, in order of name, each with the bytes it should have.

    Shapes: `md5s` maps relative paths to base64. Raises: ValueError naming the file that is missing or wrong.
    """
    for name, wanted in md5s.items():
        path = folder / name
        if not path.is_file():
            raise ValueError(f"{path} was not downloaded")
        if base64.b64encode(hashlib.md5(path.read_bytes()).digest()).decode() != wanted:
            raise ValueError(f"{path} has other bytes than the render made")
    return [folder / name for name in sorted(md5s)]


def contact_sheet(frames: Sequence[Path], target: Path) -> None:
    """Write all frames as one picture, each with its number."""
    pictures = [Image.open(frame).convert("RGB") for frame in frames]
    width, height = pictures[0].size
    rows = -(-len(pictures) // COLUMNS)
    size = (COLUMNS * (width + MARGIN) + MARGIN, rows * (height + MARGIN) + MARGIN)
    sheet = Image.new("RGB", size, (16, 18, 22))
    draw = ImageDraw.Draw(sheet)
    for index, picture in enumerate(pictures):
        row, column = divmod(index, COLUMNS)
        corner = (MARGIN + column * (width + MARGIN), MARGIN + row * (height + MARGIN))
        sheet.paste(picture, corner)
        draw.text((corner[0] + 6, corner[1] + 4), str(index + 1), fill=(235, 235, 235))
    sheet.save(target)
