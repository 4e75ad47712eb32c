"""Images: what is none, too large, spoilt or a trap is refused; pixels are kept."""

import io
import random
import struct
import zlib

import pytest
from PIL import Image

from newsletter import images
from newsletter.errors import InvalidInput

LIMITS = images.Limits(400_000, 16_000_000, jpeg_pixels=80_000_000, side=40)
SECRET = b"59.3293N 18.0686E"


def saved(
    format: str, size: tuple[int, int] = (60, 50), mode: str = "RGB", **options: object
) -> bytes:
    out = io.BytesIO()
    colour = 0 if mode == "P" else "red"
    Image.new(mode, size, colour).save(out, format, **options)
    return out.getvalue()


def bomb(width: int, height: int) -> bytes:
    """A PNG that says it is large and is small on the wire."""

    def chunk(name: bytes, data: bytes) -> bytes:
        body = name + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(bytes(3 * 1000 * 1000)))
        + chunk(b"IEND", b"")
    )


def spreading(side: int) -> bytes:
    """A GIF of 89 bytes whose second frame is larger than the first."""

    def frame(side: int, disposal: int) -> bytes:
        control = b"\x21\xf9\x04" + bytes([disposal << 2, 0, 0, 0, 0])
        extent = struct.pack("<HHHHB", 0, 0, side, side, 0)
        return control + b"\x2c" + extent + b"\x02\x02\x4c\x01\x00"

    head = b"GIF89a" + struct.pack("<HH", 1, 1) + b"\x80\0\0\0\0\0\xff\xff\xff"
    return head + frame(1, 0) + frame(side, 2) + frame(1, 0) + b";"


def drawn(data: bytes) -> images.Drawn:
    """Draw it in each of the ways there are, and return the last."""
    with images.opened(data, LIMITS, field="cover") as upload:
        still = upload.still(near=200)
        still.square(40, (0.5, 0.5)).jpeg(80)
        moving = [
            (frame.within((30, 30), alpha=True), t) for frame, t in upload.frames()
        ]
        images.gif([frame for frame, _ in moving], [time for _, time in moving])
        return still.within((200, 200), alpha=still.has_holes).png()


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "PNG, JPEG, GIF or WebP"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "PNG, JPEG, GIF or WebP"),
        (b"%PDF-1.7 not a picture", "PNG, JPEG, GIF or WebP"),
        (saved("BMP"), "PNG, JPEG, GIF or WebP"),
        (saved("TIFF"), "PNG, JPEG, GIF or WebP"),
        (saved("JPEG", (600, 300))[:700], "damaged"),
        (saved("JPEG", (300, 500))[:400], "damaged"),
        (saved("PNG")[:60], "damaged"),
        (saved("PNG", (300, 500))[:200], "damaged"),
        (bomb(2_000, 2_000), "damaged"),
        (bomb(4_100, 4_000), "4100 × 4000 pixels"),
        (bomb(30_000, 30_000), "too many pixels"),
        (bomb(2**31 - 1, 2**31 - 1), "too many pixels"),
        (saved("PNG", (100, 39)), "at least 40 pixels"),
        (bytes(LIMITS.bytes + 1), "400 kB fit"),
    ],
)
def test_what_is_no_fit_picture_is_refused_in_words(data: bytes, said: str) -> None:
    with pytest.raises(InvalidInput, match=said) as refused:
        drawn(data)
    assert refused.value.field == "cover"


def test_a_jpeg_may_have_more_pixels_for_it_is_read_at_a_fraction() -> None:
    large = saved("JPEG", (5_000, 4_000), "L")
    assert max(drawn(large).width, drawn(large).height) == 200
    with (
        pytest.raises(InvalidInput, match="5000 × 4000"),
        images.opened(large, LIMITS, field="cover") as upload,
    ):
        upload.still(near=5_000)


def test_damage_anywhere_is_a_picture_or_a_refusal() -> None:
    dice = random.Random(1)
    for kind in images.FORMATS:
        whole = saved(kind, (60, 60), "P" if kind == "GIF" else "RGB")
        for _ in range(60):
            spoilt = bytearray(whole)
            for _ in range(dice.randrange(1, 5)):
                spoilt[dice.randrange(len(spoilt))] = dice.randrange(256)
            try:
                assert drawn(bytes(spoilt)).format == "png"
            except InvalidInput:
                continue


def test_what_is_transparent_lies_on_white() -> None:
    clear = io.BytesIO()
    Image.new("RGBA", (100, 100), (255, 0, 0, 0)).save(clear, "PNG")
    with images.opened(clear.getvalue(), LIMITS, field="cover") as upload:
        jpeg = upload.still().square(50, (0.5, 0.5)).jpeg(80)
    pixel = Image.open(io.BytesIO(jpeg.content)).convert("RGB").getpixel((25, 25))
    assert isinstance(pixel, tuple)
    assert min(pixel) > 250


def test_nothing_that_a_file_says_is_left() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turn it by 90 degrees
    exif[0x010E] = SECRET.decode()
    loud = b"x" * images.MAX_PROFILE_BYTES + SECRET
    data = saved("JPEG", comment=SECRET, exif=exif, icc_profile=loud) + SECRET
    assert data.count(SECRET) == 4
    with images.opened(data, LIMITS, field="cover") as upload:
        made = upload.still().within((100, 100), alpha=False)
        written = [made.png(), made.jpeg(80, profile=True)]
    moving = saved("GIF", comment=SECRET, save_all=True)
    with images.opened(moving, LIMITS, field="cover") as upload:
        frames = [frame.within((9, 9), alpha=True) for frame, _ in upload.frames()]
        written.append(images.gif(frames, [100]))
    assert [(made.format, made.width) for made in written] == [
        ("png", 50),
        ("jpeg", 50),
        ("gif", 9),
    ]
    assert not [made.format for made in written if SECRET in made.content]
