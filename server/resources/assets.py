"""Files that do not change while the server runs: the pages, and the description of the API."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Callable
from importlib import resources

import falcon
from falcon.asgi import Request, Response

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none';"
    " form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
)
"""Nothing from elsewhere, nothing inline, and no text that becomes markup or code."""

MEDIA_TYPES = {
    "css": "text/css; charset=utf-8",
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}
"""By a file name's ending."""


class Asset:
    """Content with what it takes to send it only when it is new, and small.

    Args:
        content: The bytes.
        media_type: Its ``Content-Type``.
    """

    def __init__(self, content: bytes, media_type: str) -> None:
        self.content, self.media_type = content, media_type
        self.compressed = gzip.compress(content, mtime=0)
        # NOTE: weak, because the compressed bytes and the plain ones share it.
        self.etag = f'W/"{hashlib.sha256(content).hexdigest()[:32]}"'

    def send(self, request: Request, response: Response) -> None:
        """Answer."""
        response.cache_control = ["no-cache"]
        response.vary = ["Accept-Encoding"]
        response.set_header("ETag", self.etag)
        if self.etag.removeprefix("W/").strip('"') in (request.if_none_match or []):
            response.status = 304
            return
        response.content_type = self.media_type
        response.set_header("Content-Security-Policy", POLICY)
        response.set_header("Referrer-Policy", "no-referrer")
        response.set_header("X-Content-Type-Options", "nosniff")
        if _takes_gzip(request.get_header("Accept-Encoding") or ""):
            response.set_header("Content-Encoding", "gzip")
            response.data = self.compressed
        else:
            response.data = self.content


def page_names() -> list[str]:
    """The files of ``server/ui``."""
    return [file.name for file in resources.files("server").joinpath("ui").iterdir() if file.is_file()]


def load_pages() -> dict[str, Asset]:
    """The files of ``server/ui`` by name."""
    folder = resources.files("server").joinpath("ui")
    return {
        name: Asset(folder.joinpath(name).read_bytes(), MEDIA_TYPES[name.rpartition(".")[2]]) for name in page_names()
    }


class PageResource:
    """``/ui``, ``/docs``, and the files that these pages need.

    Args:
        pages: All files.
        name: The page's own.
    """

    def __init__(self, pages: dict[str, Asset], name: str) -> None:
        self._pages, self._name = pages, name

    async def on_get(self, request: Request, response: Response) -> None:
        """The page."""
        self._pages[self._name].send(request, response)

    async def on_get_part(self, request: Request, response: Response, name: str) -> None:
        """A file of it."""
        if name not in self._pages:
            raise falcon.HTTPNotFound
        self._pages[name].send(request, response)

    on_head, on_head_part = on_get, on_get_part


class DescriptionResource:
    """``/openapi.json``.

    Args:
        describe: Writes it; called at the first request.
    """

    def __init__(self, describe: Callable[[], bytes]) -> None:
        self._describe = describe
        self._asset: Asset | None = None

    async def on_get(self, request: Request, response: Response) -> None:
        """The document."""
        if self._asset is None:
            self._asset = Asset(self._describe(), "application/json")
        self._asset.send(request, response)

    on_head = on_get


def _takes_gzip(header: str) -> bool:
    for item in header.lower().split(","):
        coding, _, weight = item.replace(" ", "").partition(";q=")
        if coding == "gzip":
            return weight.strip("0.") != "" if weight else True
    return False
