"""What a configuration of a connector may be: the same rules for those who write it and for what was stored.

The rules are the models themselves (`ConnectorConfig`, and the settings a manifest declares). `config_schema` shows
them as JSON Schema, and what a misspelt field is called in that schema is suggested.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from typing import Any, cast

from pydantic import BaseModel, ValidationError

from registry.connector import ConnectorConfig, ConnectorMetadata
from registry.errors import InvalidConfig

_FIELD = re.compile(r"[A-Za-z_-]{1,32}")

Schema = dict[str, Any]
"""JSON Schema, draft 2020-12: nested plain data."""


def accept(manifest: ConnectorMetadata, config: ConnectorConfig) -> None:
    """Raise `InvalidConfig`, naming the field, unless auth and settings are what the manifest says."""
    if config.auth.type not in manifest.auth_methods:
        accepted = " or ".join(manifest.auth_methods)
        raise InvalidConfig(f"auth.type: {manifest.title} takes {accepted}, not {config.auth.type}")
    if manifest.settings is not None:
        try:
            manifest.settings.model_validate(config.settings)
        except ValidationError as error:
            raise InvalidConfig(problems(error, manifest.settings, "settings")) from None


def problems(error: ValidationError, model: type[BaseModel], *above: str) -> str:
    """Everything that is wrong, as ``field: what``; a field nobody knows comes with the one that was meant.

    Args:
        model: what was validated.
        above: the path to it.
    """
    return "; ".join(_sentences(error, model, above))


def place(path: Iterable[str | int]) -> str:
    """Where something is wrong, as ``auth.bearer.token``; what cannot be meant as a field's name may be a secret.

    >>> place(["settings", "required_scopes", 0]), place(["auth", "hunter2"])
    ('settings.required_scopes.0', 'auth.…')
    """
    return ".".join(str(part) if isinstance(part, int) or _FIELD.fullmatch(part) else "…" for part in path)


def _sentences(error: ValidationError, model: type[BaseModel], above: Iterable[str]) -> Iterator[str]:
    for row in error.errors(include_input=False, include_url=False):
        where = [str(part) for part in row["loc"]]
        path = place([*above, *row["loc"]]) or "document"
        if row["type"] == "union_tag_invalid":  # pydantic's own sentence repeats what stands there instead
            yield f"{path}.type: expected one of {row['ctx']['expected_tags']}"
            continue
        if row["type"] != "extra_forbidden":
            yield f"{path}: {row['msg'].removeprefix('Value error, ')}"
            continue
        known = _fields(model.model_json_schema(), where[:-1])
        meant = get_close_matches(where[-1], known, 1)
        hint = f", did you mean {meant[0]}?" if meant else f", there are: {', '.join(known)}" if known else ""
        yield f"{path}: no such field{hint}"


def _fields(schema: Schema, path: Iterable[str]) -> list[str]:
    """The names of the fields at `path`, a location as pydantic tells it."""
    node = schema
    for step in path:
        found = _resolved(schema, node)
        if "discriminator" in found:
            node = {"$ref": found["discriminator"]["mapping"].get(step, "")}
        else:
            node = found.get("properties", {}).get(step, {})
    return sorted(_resolved(schema, node).get("properties", {}))


def _resolved(schema: Schema, node: Schema) -> Schema:
    name = str(node.get("$ref", "")).rpartition("/")[2]
    return cast("Schema", schema.get("$defs", {}).get(name, {})) if "$ref" in node else node


def config_schema(manifest: ConnectorMetadata) -> Schema:
    """The JSON Schema of this connector's configurations, made from the models that check them."""
    schema = ConnectorConfig.model_json_schema()
    properties, definitions = schema["properties"], schema["$defs"]
    mapping: Mapping[str, str] = properties["auth"]["discriminator"]["mapping"]
    accepted = {method: mapping[method] for method in manifest.auth_methods}
    properties["auth"]["discriminator"]["mapping"] = accepted
    properties["auth"]["oneOf"] = [{"$ref": reference} for reference in accepted.values()]
    properties["base_url"]["description"] = f"another address than {manifest.default_base_url}"
    if manifest.settings is not None:
        settings = manifest.settings.model_json_schema(ref_template="#/$defs/Settings.{model}")
        definitions |= {f"Settings.{name}": found for name, found in settings.pop("$defs", {}).items()}
        properties["settings"] = settings
        if settings.get("required"):
            schema["required"] = [*schema["required"], "settings"]
    unused = set(mapping.values()) - set(accepted.values())
    schema["$defs"] = {name: found for name, found in definitions.items() if f"#/$defs/{name}" not in unused}
    for reference in accepted.values():  # pydantic fills the type in; whoever writes a document has to give it
        auth = definitions[reference.rpartition("/")[2]]
        auth["required"] = ["type", *auth.get("required", ())]
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = f"{manifest.title}: one tenant's configuration"
    schema["description"] = manifest.documentation
    return schema
