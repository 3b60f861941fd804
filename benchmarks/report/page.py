"""`index.html`: the whole report as one page that needs nothing else, not even a network."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from io import BytesIO
from pathlib import Path

import pandas as pd
from PIL import Image

STYLE = """
:root { color-scheme: light; }
body { margin: 0 auto; max-width: 94rem; padding: 1rem; color: #222; background: #fff;
       font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: break-word; }
h1, h2, h3 { line-height: 1.2; }
h2 { margin-top: 3rem; border-top: 2px solid #0072B2; padding-top: 1rem; }
figure { margin: 1.5rem 0; }
figure div, .wide { overflow-x: auto; }
figure img { display: block; max-width: max(100%, 44rem); height: auto; }
figcaption { color: #444; font-size: .9rem; }
table { border-collapse: collapse; font-size: .9rem; }
th, td { padding: .3rem .5rem; text-align: right; border-bottom: 1px solid #ddd; }
td { white-space: nowrap; }
th { vertical-align: bottom; }
th:first-child, td:first-child { text-align: left; }
td:first-child { white-space: normal; min-width: 9rem; }
p, .best { max-width: 72rem; }
.best { background: #eef6fb; border-left: 4px solid #0072B2; padding: .5rem 1rem .5rem 2rem; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; background: #f5f5f5; padding: .5rem;
      margin: .3rem 0 1rem; }
"""


@dataclass(frozen=True, eq=False)
class Picture:
    """A PNG of the page.

    Attributes:
        says: what it shows, for those who do not see it too.
        photo: small in the page as JPEG.
    """

    path: Path
    says: str
    photo: bool = False


@dataclass(frozen=True, eq=False)
class Section:
    """A data set's part of the page; all its texts are plain.

    Attributes:
        advice: sentences.
        tables: each with its caption; texts, as they are to be read.
        commands: detector and what makes it again.
    """

    title: str
    advice: Sequence[str] = ()
    tables: Sequence[tuple[str, pd.DataFrame]] = ()
    pictures: Sequence[Picture] = ()
    commands: Sequence[tuple[str, str]] = field(default=())


def page(title: str, about: Sequence[str], sections: Sequence[Section]) -> str:
    """The page, images inside it.

    Args:
        about: paragraphs below the title, plain text.
    """
    links = "".join(
        f'<li><a href="#s{n}">{escape(section.title)}</a></li>'
        for n, section in enumerate(sections)
    )
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{escape(title)}</title><style>{STYLE}</style></head><body>",
            f"<h1>{escape(title)}</h1>",
            *(f"<p>{escape(text)}</p>" for text in about),
            f"<ul>{links}</ul>",
            *(part for n, section in enumerate(sections) for part in _section(section, n)),
            "</body></html>\n",
        ]
    )


def _section(section: Section, number: int) -> list[str]:
    parts = [f'<h2 id="s{number}">{escape(section.title)}</h2>']
    if section.advice:
        items = "".join(f"<li>{escape(text)}</li>" for text in section.advice)
        parts.append(f'<ul class="best">{items}</ul>')
    for caption, table in section.tables:
        texts = table.to_html(index=False, border=0, escape=True, na_rep="–")
        parts.append(f'<p>{escape(caption)}</p>\n<div class="wide">{texts}</div>')
    parts += [_figure(picture) for picture in section.pictures]
    if section.commands:
        parts.append("<h3>What made these</h3>")
        parts += [
            f"<p>{escape(label)}</p><pre>{escape(line)}</pre>" for label, line in section.commands
        ]
    return parts


def _figure(picture: Picture) -> str:
    content, kind = picture.path.read_bytes(), "png"
    if picture.photo:
        jpeg = BytesIO()
        with Image.open(picture.path) as image:
            image.convert("RGB").save(jpeg, "JPEG", quality=85)
        content, kind = jpeg.getvalue(), "jpeg"
    data, says = base64.b64encode(content).decode(), escape(picture.says)
    return (
        f'<figure><div><img alt="{says}" src="data:image/{kind};base64,{data}"></div>'
        f"<figcaption>{says}</figcaption></figure>"
    )
