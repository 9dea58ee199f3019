"""Made for a framework of long ago; and one whose manifest has another name than its entry point."""

from registry.connector import ConnectorMetadata


class Renamed:
    manifest = ConnectorMetadata(
        name="something-else",
        version="1.0.0",
        title="Renamed",
        default_base_url="https://old.example.com",
        auth_methods=("bearer",),
        steps=("api",),
        documentation="https://old.example.com/docs",
    )


class Old:
    manifest = Renamed.manifest.model_copy(update={"name": "old", "framework": "<0.0.9"})
