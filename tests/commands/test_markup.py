import json

import pytest

from registry.health import Details, Fault, HealthCheck, HealthStatus, Reason, Status, StepStatus, Verdict
from worker.commands.check import show_check
from worker.commands.printing import note, print_json, say


def test_a_vendors_text_is_shown_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    """In Rich's markup ``[/foo]`` would be an error and ``[link=…]`` a link."""
    text = "oops [/foo] [link=https://evil.example]click[/link]"
    show(text)
    shown = "".join(capsys.readouterr().out.split())
    assert shown.count("[/foo]") >= 1
    assert "[link=https://evil.example]click[/link]" in shown


def test_nothing_that_is_shown_tells_the_terminal_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    text = "a\x1b[2Jb\x9b31mc\rd\u202ee"
    show(text)
    say(text)
    note(text)
    print_json({"note": text})
    told = capsys.readouterr()
    assert json.loads(told.out[told.out.rindex("{") :])["note"] == text
    assert (told.out + told.err).replace("\n", "").isprintable()
    assert "a[2Jb31mcde" in told.err


def show(text: str) -> None:
    raw = Verdict(Reason.VENDOR_ERROR, Fault.VENDOR, 1_000, text, (HealthCheck("api", StepStatus.FAIL, 1.0, text),))
    show_check(HealthStatus("github", "acme", Status.UNHEALTHY, raw.reason, raw.fault, 1_000, 1_000, kept=Details(raw)))
