from __future__ import annotations

from pathlib import Path

import pytest

from registry.connector import SecretRef
from registry.errors import SecretNotFound, SecretUnavailable
from registry.ids import Pair
from registry.secrets.file import MAX_BYTES, FileSecrets

ACME = Pair("github", "acme:eu")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for tenant, content in (("acme_3aeu", "mine\n"), ("globex", "theirs\n")):
        (tmp_path / "secrets" / tenant).mkdir(parents=True)
        (tmp_path / "secrets" / tenant / "TOKEN").write_text(content)
    (tmp_path / "platform").write_text("the platform's")
    return tmp_path / "secrets"


async def read(root: Path, reference: str = "file://TOKEN", pair: Pair = ACME) -> str:
    return (await FileSecrets(root).read(pair, SecretRef(reference))).get_secret_value()


async def test_a_secret_is_read_from_its_tenants_folder_without_the_last_newline(root: Path) -> None:
    assert await read(root) == "mine"
    assert await read(root, pair=Pair("github", "globex")) == "theirs"


@pytest.mark.parametrize(("content", "secret"), [("a\n\n", "a\n"), ("a\r\n", "a"), ("a", "a"), (" a ", " a ")])
async def test_only_one_trailing_newline_is_stripped(root: Path, content: str, secret: str) -> None:
    (root / "acme_3aeu" / "TOKEN").write_bytes(content.encode())
    assert await read(root) == secret


async def test_a_missing_file_is_named(root: Path) -> None:
    for pair, path in ((ACME, root / "acme_3aeu" / "NONE"), (Pair("github", "new"), root / "new" / "NONE")):
        with pytest.raises(SecretNotFound, match=f"create {path}$"):
            await read(root, "file://NONE", pair)


@pytest.mark.parametrize(
    "reference",
    [
        "file://../globex/TOKEN",
        "file:///etc/passwd",
        "file://..",
        "file://.",
        "file://a/b",
        "file://.hidden",
        "file://",
    ],
)
async def test_a_path_is_not_a_name(root: Path, reference: str) -> None:
    with pytest.raises(SecretNotFound, match="plain file name"):
        await read(root, reference)


@pytest.mark.parametrize("target", ["../globex/TOKEN", "../../platform", "/etc/hostname"])
async def test_a_link_does_not_lead_out_of_the_folder(root: Path, target: str) -> None:
    (root / "acme_3aeu" / "LINK").symlink_to(target)
    with pytest.raises(SecretNotFound, match="inside the tenant's folder"):
        await read(root, "file://LINK")


async def test_a_folder_that_is_a_link_to_anothers_is_refused(root: Path) -> None:
    (root / "initech").symlink_to("globex")
    (root / "hooli").symlink_to("/etc")
    for tenant in ("initech", "hooli"):
        with pytest.raises(SecretNotFound, match="inside the tenant's folder"):
            await read(root, "file://hostname" if tenant == "hooli" else "file://TOKEN", Pair("github", tenant))


async def test_a_secret_mounted_by_kubernetes_is_found_through_its_links(root: Path) -> None:
    data = root / "..2026_01_01" / "initech"
    data.mkdir(parents=True)
    (data / "TOKEN").write_text("mounted")
    (root / "..data").symlink_to("..2026_01_01")
    (root / "initech").symlink_to("..data/initech")
    (root / "acme_3aeu" / "..now").mkdir()
    (root / "acme_3aeu" / "..now" / "KEY").write_text("mounted too")
    (root / "acme_3aeu" / "KEY").symlink_to("..now/KEY")
    assert await read(root, pair=Pair("github", "initech")) == "mounted"
    assert await read(root, "file://KEY") == "mounted too"


async def test_what_is_not_a_usable_text_file_is_refused_without_being_shown(root: Path) -> None:
    folder = root / "acme_3aeu"
    (folder / "LARGE").write_text("x" * (MAX_BYTES + 1))
    (folder / "EMPTY").write_text("\n")
    (folder / "BINARY").write_bytes(b"\xff\xfe\x00hunter2")
    (folder / "FOLDER").mkdir()
    for name, why in (("LARGE", "larger"), ("EMPTY", "empty"), ("BINARY", "UTF-8"), ("FOLDER", "not a file")):
        with pytest.raises(SecretNotFound, match=why) as refused:
            await read(root, f"file://{name}")
        assert "hunter2" not in str(refused.value)
    (folder / "LARGE").write_text("x" * MAX_BYTES)
    assert len(await read(root, "file://LARGE")) == MAX_BYTES


async def test_a_directory_of_secrets_that_is_gone_is_ours_to_mend(root: Path) -> None:
    with pytest.raises(SecretUnavailable, match="directory of secrets"):
        await read(root / "gone")


async def test_links_in_a_circle_are_ours_to_mend(root: Path) -> None:
    (root / "acme_3aeu" / "LOOP").symlink_to("LOOP")
    with pytest.raises(SecretUnavailable, match="LOOP"):
        await read(root, "file://LOOP")
