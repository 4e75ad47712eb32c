"""Distil caniemail.com's data into what the preflight asks of it.

    curl -O https://www.caniemail.com/api/data.json
    python scripts/distil_caniemail.py data.json

writes newsletter/digests/preflight/features.json: what a mail had better not use, and
which mail programs do not know it. Only the newest version of each program counts, and
only "not supported": what is partly supported, or unknown, is left to the writer. What
is lost without harm where it is not known (round corners, shadows, colours by night)
is not listed.
"""

import json
import sys
from pathlib import Path
from typing import Any

TARGET = Path(__file__).parent.parent / "newsletter/digests/preflight/features.json"
# What to look for in a mail → what the data calls it.
WANTED = {
    "declaration": {
        "display:flex": "css-display-flex",
        "display:grid": "css-display-grid",
    },
    "property": {
        "animation": "css-animation",
        "aspect-ratio": "css-aspect-ratio",
        "background-image": "css-background-image",
        "clip-path": "css-clip-path",
        "column-count": "css-column-count",
        "filter": "css-filter",
        "gap": "css-gap",
        "inset": "css-inset",
        "mix-blend-mode": "css-mix-blend-mode",
        "opacity": "css-opacity",
        "position": "css-position",
        "shape-outside": "css-shape-outside",
        "transform": "css-transform",
        "writing-mode": "css-writing-mode",
    },
    "function": {
        "calc": "css-unit-calc",
        "clamp": "css-function-clamp",
        "conic-gradient": "css-conic-gradient",
        "light-dark": "css-function-light-dark",
        "linear-gradient": "css-linear-gradient",
        "max": "css-function-max",
        "min": "css-function-min",
        "radial-gradient": "css-radial-gradient",
        "var": "css-variables",
    },
    "rule": {
        "@import": "css-at-import",
        "@supports": "css-at-supports",
    },
    "element": {
        "audio": "html-audio",
        "button": "html-button-submit",
        "dialog": "html-dialog",
        "form": "html-form",
        "input": "html-input-text",
        "link": "html-link",
        "marquee": "html-marquee",
        "meter": "html-meter",
        "object": "html-object",
        "picture": "html-picture",
        "progress": "html-progress",
        "select": "html-select",
        "svg": "html-svg",
        "textarea": "html-textarea",
        "video": "html-video",
    },
    "picture": {
        "apng": "image-apng",
        "avif": "image-avif",
        "bmp": "image-bmp",
        "data": "image-base64",
        "heic": "image-heif",
        "heif": "image-heif",
        "ico": "image-ico",
        "mp4": "image-mp4",
        "svg": "image-svg",
        "tif": "image-tiff",
        "tiff": "image-tiff",
        "webp": "image-webp",
    },
}
# The programs that most mail is read in; the data has names for the others too.
PROGRAMS = {
    "Gmail": ("gmail", ("desktop-webmail", "ios", "android", "mobile-webmail")),
    "Outlook for Windows": ("outlook", ("windows",)),
    "Outlook.com": ("outlook", ("outlook-com",)),
    "Outlook on phones": ("outlook", ("ios", "android")),
    "Outlook for Mac": ("outlook", ("macos",)),
    "Apple Mail": ("apple-mail", ("macos", "ios")),
    "Yahoo": ("yahoo", ("desktop-webmail", "ios", "android")),
    "Samsung Email": ("samsung-email", ("android",)),
    "Thunderbird": ("thunderbird", ("macos",)),
    "Proton Mail": ("protonmail", ("desktop-webmail", "ios", "android")),
}


def distil(data: dict[str, Any]) -> dict[str, Any]:
    """Return what is not known, and by which programs."""
    by_slug = {feature["slug"]: feature["stats"] for feature in data["data"]}
    found: dict[str, dict[str, list[str]]] = {}
    for kind, names in WANTED.items():
        for name, slug in names.items():
            if lacking := [p for p in PROGRAMS if lacks(by_slug[slug], p)]:
                found.setdefault(kind, {})[name] = lacking
    return {
        "source": "https://www.caniemail.com/",
        "licence": "MIT, Copyright (c) 2019 HTeuMeuLeu",
        "updated": data["last_update_date"][:10],
        "lacking": found,
    }


def lacks(stats: dict[str, Any], program: str) -> bool:
    """Tell whether the newest version of a program lacks it on one of its platforms."""
    family, platforms = PROGRAMS[program]
    tested = [stats.get(family, {}).get(platform) for platform in platforms]
    newest = [list(versions.values())[-1] for versions in tested if versions]
    return any(answer.startswith("n") for answer in newest)


def main() -> None:
    """Read the file that is named, write ours."""
    data = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    text = json.dumps(distil(data), indent=1, ensure_ascii=False)
    TARGET.write_text(f"{text}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
