"""Images from outside: read within limits, drawn anew. The doorway to Pillow.

Contents say what a file is, never its name; its size is checked before anything is
unpacked. What is written is pixels and at most a small colour profile: no place, no
camera, no words, no second file.
"""

import io
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from PIL import Image, ImageOps, ImageSequence, UnidentifiedImageError

from newsletter.errors import N_, InvalidInput

FORMATS = ("JPEG", "PNG", "GIF", "WEBP")
MAX_PROFILE_BYTES = 4096
PAPER = (255, 255, 255)  # under what is transparent
_UNREADABLE = (
    *(OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, TypeError),
    *(struct.error, zlib.error, OverflowError, AssertionError),
)

# Whoever asks has limits of their own, checked before anything is unpacked. This one is
# for what only Pillow sees, a later frame larger than the first; it refuses twice that.
Image.MAX_IMAGE_PIXELS = 100_000_000
warnings.simplefilter("ignore", Image.DecompressionBombWarning)


@dataclass(frozen=True, slots=True)
class Limits:
    """What an upload may be."""

    bytes: int
    pixels: int  # once unpacked
    jpeg_pixels: int  # a JPEG can be read at a fraction of its size
    side: int = 1  # at least, in pixels


@dataclass(frozen=True, slots=True)
class Drawn:
    """An image as it was written: `format` is jpeg, png or gif."""

    format: str
    width: int
    height: int
    content: bytes


@dataclass(frozen=True, slots=True)
class Still:
    """An image without motion, unpacked."""

    _image: Image.Image
    _profile: bytes | None = None

    @property
    def pixels(self) -> int:
        """Return how many there are."""
        return self._image.width * self._image.height

    @property
    def has_holes(self) -> bool:
        """Tell whether anything may show through."""
        return self._image.has_transparency_data

    def square(self, side: int, middle: tuple[float, float]) -> "Still":
        """Return a square cut out around `middle` (parts of width and height)."""
        paper = self._on_paper()
        fitted = ImageOps.fit(
            paper, (side, side), Image.Resampling.LANCZOS, centering=middle
        )
        return Still(fitted, self._profile)

    def within(
        self, size: tuple[int, int], *, alpha: bool, fast: bool = False
    ) -> "Still":
        """Return it no larger than `size`, and never enlarged."""
        made = self._image.convert("RGBA" if alpha else "RGB")
        way = Image.Resampling.BICUBIC if fast else Image.Resampling.LANCZOS
        made.thumbnail(size, way)
        return Still(made, self._profile)

    def jpeg(
        self, quality: int, *, progressive: bool = False, profile: bool = False
    ) -> Drawn:
        """Write it as JPEG, with its small colour profile if `profile`."""
        return _write(
            self._image,
            "JPEG",
            quality=quality,
            optimize=True,
            progressive=progressive,
            icc_profile=self._profile if profile else None,
        )

    def png(self) -> Drawn:
        """Write it as PNG, with its colour profile if that is small."""
        return _write(self._image, "PNG", optimize=True, icc_profile=self._profile)

    def _on_paper(self) -> Image.Image:
        if not self.has_holes:
            return self._image.convert("RGB")
        seen = self._image.convert("RGBA")
        paper = Image.new("RGB", seen.size, PAPER)
        paper.paste(seen, mask=seen.getchannel("A"))
        return paper


@dataclass(frozen=True, slots=True)
class Upload:
    """An image that is being read."""

    _image: Image.Image
    _limits: Limits
    _field: str

    @property
    def format(self) -> str:
        """Return what the file is, one of `FORMATS`."""
        return self._image.format or ""

    @property
    def moves(self) -> bool:
        """Tell whether it is a GIF of several frames."""
        return self.format == "GIF" and bool(getattr(self._image, "is_animated", False))

    def still(self, *, near: int = 0) -> Still:
        """Return the first frame, the way up that the file says. Raises InvalidInput.

        A JPEG is read at a fraction of its size, yet with `near` pixels each way.
        """
        if near:
            self._image.draft("RGB", (near, near))
            _check_pixels(self._image, self._limits.pixels, self._field)
        profile = self._image.info.get("icc_profile") or b""
        upright = ImageOps.exif_transpose(self._image)
        fits = len(profile) <= MAX_PROFILE_BYTES
        ours = self._image.mode in ("RGB", "RGBA", "P") and fits
        return Still(upright, profile if ours else None)

    def frames(self) -> Iterator[tuple[Still, int]]:
        """Yield each frame, unpacked as it is asked for, and its milliseconds."""
        for frame in ImageSequence.Iterator(self._image):
            time = max(20, int(frame.info.get("duration", 100)))
            yield Still(frame), time


@contextmanager
def opened(data: bytes, limits: Limits, *, field: str) -> Iterator[Upload]:
    """Read an upload, while it is drawn too. Raises InvalidInput, saying what to do."""
    if len(data) > limits.bytes:
        raise InvalidInput(
            N_("That file is too large: %(limit)s fit. Choose a smaller one."),
            field=field,
            limit=_in_words(limits.bytes),
        )
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            _check_size(image, limits, field)
            yield Upload(image, limits, field)
    except UnidentifiedImageError:
        raise InvalidInput(
            N_("That is no picture Inkorg can read. Choose a PNG, JPEG, GIF or WebP."),
            field=field,
        ) from None
    except Image.DecompressionBombError:
        raise InvalidInput(
            N_("The picture has too many pixels. Make it smaller."), field=field
        ) from None
    except _UNREADABLE:
        raise InvalidInput(
            N_("The picture is damaged. Save it anew and try again."), field=field
        ) from None


def gif(frames: list[Still], times: list[int]) -> Drawn:
    """Write frames as a GIF that moves for ever; `times` are milliseconds."""
    first, *rest = [frame._image for frame in frames]
    return _write(
        first,
        "GIF",
        save_all=True,
        append_images=rest,
        duration=times,
        loop=0,
        disposal=2,
    )


def _in_words(count: int) -> str:
    mega = 1024 * 1024
    return f"{count // mega} MB" if count >= mega else f"{count // 1000} kB"


def _check_size(image: Image.Image, limits: Limits, field: str) -> None:
    is_jpeg = image.format == "JPEG"
    _check_pixels(image, limits.jpeg_pixels if is_jpeg else limits.pixels, field)
    if min(image.size) < limits.side:
        raise InvalidInput(
            N_(
                "The picture is too small: it needs at least %(least)s pixels each way."
            ),
            field=field,
            least=limits.side,
        )


def _check_pixels(image: Image.Image, limit: int, field: str) -> None:
    width, height = image.size
    if width * height > limit:
        raise InvalidInput(
            N_("That picture is %(width)s × %(height)s pixels. Make it smaller first."),
            field=field,
            width=width,
            height=height,
        )


def _write(image: Image.Image, format: str, **options: object) -> Drawn:
    image.info.pop("comment", None)  # or it would be written again
    out = io.BytesIO()
    image.save(out, format, **options)
    return Drawn(format.lower(), *image.size, out.getvalue())
