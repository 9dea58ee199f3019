"""Style, scripts and the icon: files of this package, kept for ever by browsers that ask for them by their content."""

from __future__ import annotations

import os

from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope


class Assets(StaticFiles):
    """The files of ``registry/web/static``."""

    def __init__(self) -> None:
        super().__init__(packages=[("registry.web", "static")])

    def file_response(
        self, full_path: str | os.PathLike[str], stat_result: os.stat_result, scope: Scope, status_code: int = 200
    ) -> Response:
        """The file, and for how long it may be kept."""
        answer: Response = super().file_response(full_path, stat_result, scope, status_code)
        versioned = bytes(scope.get("query_string", b"")).startswith(b"v=")
        answer.headers["Cache-Control"] = "public, max-age=31536000, immutable" if versioned else "no-cache"
        return answer
