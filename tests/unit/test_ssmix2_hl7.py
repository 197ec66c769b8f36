"""The parser: a worked message as literal bytes, the ends that python-hl7 would strip, and what is refused."""

import pytest

from app.errors import InvalidInput
from app.ssmix2 import decode, encode, parse
from app.ssmix2.hl7 import render

WORKED = (
    b"MSH|^~\\&|CHARTX|SAMPLEHP|GW|RCV|20260401113000.000||OUL^R22^OUL_R22|20260401000000000008|P|2.5||||||~ISO IR87||"
    b"ISO 2022-1994|SS-MIX2_1.20^SS-MIX2^1.2.392.200250.2.1.100.1.2.120^ISO\r"
    b"PID|0001||0000012345^^^^PI||\x1b$B8+K\\\x1b(B^\x1b$B2V;R\x1b(B^^^^^L^I~\x1b$B%_%[%s\x1b(B^\x1b$B%O%J%3\x1b(B"
    b"^^^^^L^P||19580314|F\r"
    b"OBX|1|ST|5F360141002305111^HCV\x1b$B93BN\x1b(B^JC10||  +|||A|||F|||202604010915\r"
    b"TQ1|1||1013044400000000&\x1b$BKh?)8e\x1b(B&JAMISDP01|||3^D&\x1b$BF|\x1b(B&ISO+|2026040112\r"
)


def test_worked_message() -> None:
    msh, pid, obx, tq1 = parse(decode(WORKED))
    assert (msh.get(1), msh.get(2), msh.get(9, 3), msh.get(18, repetition=2)) == ("|", "^~\\&", "OUL_R22", "ISO IR87")
    assert (pid.get(5), pid.get(5, 2), pid.get(5, 2, repetition=2)) == ("見本", "花子", "ハナコ")
    assert (obx.get(3, 2), obx.get(5), obx.get(8), obx.get(15)) == ("HCV抗体", "  +", "A", "")
    assert (tq1.get(3, subcomponent=2), tq1.get(6, 2, subcomponent=2)) == ("毎食後", "日")
    assert encode(render([msh, pid, obx, tq1])) == WORKED


@pytest.mark.parametrize("end", ["  +", "本文\u3000", "x|", "x||", "a^", "a&&b^~c", "\\E\\", '""'])
def test_what_stands_at_the_end_survives(end: str) -> None:
    text = f"MSH|^~\\&|A\rOBX|1||{end}\r"
    assert render(parse(text)) == text


def test_escapes_that_are_not_ours_survive() -> None:
    text = "MSH|^~\\&|A\rTQ1|\\H\\x\\N\\ \\X0D\\ \\F\\\r"
    [_, tq1] = parse(text)
    assert tq1.get(1) == "\\H\\x\\N\\ \\X0D\\ |"


@pytest.mark.parametrize("text", ["", "PID|1\r", "MSH|^~\\#|A\r", "MSH|^~\\&|A\nPID|1\n"])
def test_parser_refuses_what_is_no_message(text: str) -> None:
    with pytest.raises(InvalidInput):
        parse(text)
