"""The vendors' own API descriptions: where each comes from, and what an OpenAPI document says of an answer.

``python -m tests.contract.specifications`` tells where they are taken from and what belongs there.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from openapi_schema_validator import OAS30Validator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT4

SOURCES: Mapping[str, str] = {
    "github.json": "cut from npm @octokit/openapi 23.0.2, api.github.com (MIT)",
    "gitlab.json": "cut from GitLab's generated OpenAPI (CC BY-SA 4.0)",
    "slack.json": "github.com/slackapi/slack-api-specs, web-api/slack_web_openapi_v2.json (MIT)",
    "vertex.json": "converted from the aiplatform v1 discovery in google-api-python-client 2.202.0 (CC BY 3.0)",
    "linear.graphql": "github.com/linear/linear, packages/sdk/src/schema.graphql (MIT)",
}
"""File → its origin and licence."""

DOCUMENT = "urn:document"


def directory() -> Path | None:
    """``CONTRACTS_DIR``, when every specification is in it."""
    named = os.environ.get("CONTRACTS_DIR")
    return Path(named) if named and all((Path(named) / name).is_file() for name in SOURCES) else None


class Specification:
    """An OpenAPI 3.0 or Swagger 2.0 document. Swagger's schemas are a subset of OpenAPI's, so one validator serves."""

    def __init__(self, file: Path) -> None:
        self.document = json.loads(file.read_text(encoding="utf-8"))
        resource = Resource.from_contents(self.document, default_specification=DRAFT4)
        self._registry: Registry[object] = Registry().with_resource(DOCUMENT, resource)
        self._routes = {template: _pattern(template) for template in self.document["paths"]}

    def schema(self, method: str, path: str, status: int | str) -> dict[str, object] | None:
        """The schema of an answer's JSON body; None where the document leaves it open.

        ``default`` stands for every status that the operation does not name.
        """
        template = next((name for name, pattern in self._routes.items() if pattern.fullmatch(path)), None)
        responses = self.document["paths"].get(template, {}).get(method.lower(), {}).get("responses", {})
        named = str(status) if str(status) in responses else "default"
        pointer = f"/paths/{_escaped(template or '')}/{method.lower()}/responses/{named}"
        response = responses.get(named, {})
        if "$ref" in response:
            pointer = response["$ref"].removeprefix("#")
            response = self._registry.resolver().lookup(DOCUMENT + response["$ref"]).contents
        if "schema" in response:
            return {"$ref": f"{DOCUMENT}#{pointer}/schema"}
        if "application/json" in response.get("content", {}):
            return {"$ref": f"{DOCUMENT}#{pointer}/content/{_escaped('application/json')}/schema"}
        return None

    def violations(self, schema: Mapping[str, object], body: bytes) -> list[str]:
        """What is wrong with a body by its schema, without the lists of what would be right.

        ``format`` is a remark in these documents, not a condition.
        """
        validator = OAS30Validator(schema, registry=self._registry)
        found = validator.iter_errors(json.loads(body))
        return [f"{error.json_path}: {error.message.partition(' [')[0]}" for error in found]


def _pattern(template: str) -> re.Pattern[str]:
    parts = re.split(r"\{[^}]*\}", template)
    return re.compile("[^/]+".join(re.escape(part) for part in parts))


def _escaped(part: str) -> str:
    """A part of a JSON pointer inside a URI fragment."""
    return part.replace("~", "~0").replace("/", "~1").replace("{", "%7B").replace("}", "%7D")


def told() -> Iterator[str]:
    """The lines that say where the specifications are taken from."""
    found = directory()
    yield f"Specifications: {found}" if found else "Specifications: set CONTRACTS_DIR to a directory that holds"
    yield from (f"  {name:<15} {origin}" for name, origin in SOURCES.items())


if __name__ == "__main__":
    sys.stdout.write("".join(f"{line}\n" for line in told()))
