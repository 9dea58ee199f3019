import pytest

from registry.health import Details, Fault, HealthCheck, HealthStatus, Reason, Status, StepStatus, Verdict
from worker.commands.check import show_check


def test_a_vendors_text_is_shown_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    """In Rich's markup ``[/foo]`` would be an error and ``[link=…]`` a link."""
    text = "oops [/foo] [link=https://evil.example]click[/link]"
    raw = Verdict(Reason.VENDOR_ERROR, Fault.VENDOR, 1_000, text, (HealthCheck("api", StepStatus.FAIL, 1.0, text),))
    show_check(HealthStatus("github", "acme", Status.UNHEALTHY, raw.reason, raw.fault, 1_000, 1_000, kept=Details(raw)))
    shown = "".join(capsys.readouterr().out.split())
    assert shown.count("[/foo]") >= 1
    assert "[link=https://evil.example]click[/link]" in shown
