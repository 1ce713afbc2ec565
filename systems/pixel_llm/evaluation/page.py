"""A page as one HTML file that needs nothing else: its template, style and script in one, nothing asked of a network.

Templates lie beside this module. Jinja escapes whatever they are given: captions and names are anybody's text. Should
one slip through all the same, the page's Content-Security-Policy lets the browser load nothing from elsewhere and run
no script but the very one that belongs to the page, known by its SHA-256.
"""

import base64
import hashlib
from pathlib import Path
from typing import Any

import jinja2

__all__ = ["render_page"]

_FOLDER = Path(__file__).parent


def render_page(template: str, *, script: str | None = None, **values: Any) -> str:
    """The text of a page.

    Args:
        template: name of the template, a file beside this module that extends `page.html`.
        script: name of the file with the page's script; the page is whole without it.
        **values: what the template speaks of.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_FOLDER),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    source = "" if script is None else (_FOLDER / script).read_text(encoding="utf-8")
    environment.globals |= {"policy": _policy(source), "script": source}
    return environment.get_template(template).render(**values)


def _policy(script: str) -> str:
    """The Content-Security-Policy of a page with this script, or with none where it is empty."""
    rules = [
        "default-src 'none'",
        "img-src data:",
        "style-src 'unsafe-inline'",
        "base-uri 'none'",
        "form-action 'none'",
    ]
    if script:
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
        rules.append(f"script-src 'sha256-{digest}'")
    return "; ".join(rules)
