"""One HTML file that stands by itself: no script, nothing fetched, light and dark, on paper too."""

from collections.abc import Sequence
from html import escape
from pathlib import Path

_STYLE = Path(__file__).with_name("page.css")


def document(
    title: str, header: str, top: str, sections: Sequence[tuple[str, str]], footer: str
) -> str:
    """Return a page with a list of its sections; everything but titles is HTML.

    Args:
        title: of the page.
        header: what stands above all else.
        top: what stands above the list of sections.
        sections: their titles and contents.
        footer: what stands below.
    """
    contents = "".join(
        f'<li><a href="#s{n}">{escape(name)}</a></li>' for n, (name, _) in enumerate(sections)
    )
    body = "".join(
        f'<section id="s{n}"><h2>{escape(name)}</h2>{html}</section>'
        for n, (name, html) in enumerate(sections)
    )
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>{escape(title)}</title><style>{_STYLE.read_text(encoding='utf-8')}</style></head>"
        f"<body><header>{header}</header><main>{top}"
        f'<nav aria-label="Contents"><ul>{contents}</ul></nav>{body}</main>'
        f"<footer>{footer}</footer></body></html>\n"
    )
