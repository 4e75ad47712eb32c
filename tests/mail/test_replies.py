"""What replies mean: one case or more for each row of the table."""

from datetime import timedelta

import pytest

from newsletter.mail.replies import (
    GIVE_UP_BULK,
    GIVE_UP_SINGLE,
    RULINGS,
    Blame,
    Brake,
    Phase,
    Reply,
    Then,
    Verdict,
    judge,
    retry_delay,
)

MAIL, RCPT, DATA, DOT = Phase.MAIL, Phase.RCPT, Phase.DATA, Phase.DOT

CASES = [
    # reply, phase, verdict
    ((250, "2.0.0", "Ok: queued as 4F2"), DOT, Verdict.SENT),
    ((250, "", "OK"), DOT, Verdict.SENT),
    ((450, "4.7.1", "Try again in 300 seconds"), RCPT, Verdict.GREYLISTED),
    ((451, "4.2.0", "Recipient deferred"), RCPT, Verdict.GREYLISTED),
    ((451, "", "Greylisted, come back"), RCPT, Verdict.GREYLISTED),
    ((450, "", "Graylisting in effect"), DATA, Verdict.GREYLISTED),
    ((452, "4.2.2", "Over quota"), RCPT, Verdict.MAILBOX_SOFT),
    ((552, "5.2.2", "Mailbox full"), RCPT, Verdict.MAILBOX_SOFT),
    ((450, "4.2.1", "Mailbox busy"), RCPT, Verdict.MAILBOX_SOFT),
    ((552, "", "Mailbox is full"), RCPT, Verdict.MAILBOX_SOFT),
    ((550, "5.1.1", "No such user"), RCPT, Verdict.UNKNOWN_MAILBOX),
    ((553, "5.1.3", "Bad address"), RCPT, Verdict.UNKNOWN_MAILBOX),
    ((550, "5.1.6", "Moved"), RCPT, Verdict.UNKNOWN_MAILBOX),
    ((550, "5.1.10", "Recipient not found"), RCPT, Verdict.UNKNOWN_MAILBOX),
    ((550, "5.2.1", "Disabled"), RCPT, Verdict.UNKNOWN_MAILBOX),
    ((550, "", "User unknown"), RCPT, Verdict.UNKNOWN_MAILBOX),
    ((553, "", "No"), RCPT, Verdict.UNKNOWN_MAILBOX),
    ((550, "5.1.2", "Host unknown"), RCPT, Verdict.DOMAIN_DEAD),
    ((550, "5.4.4", "Unable to route"), RCPT, Verdict.DOMAIN_DEAD),
    ((556, "", "Domain has a null MX"), RCPT, Verdict.DOMAIN_DEAD),
    ((421, "", "Too many connections"), MAIL, Verdict.THROTTLED),
    ((450, "4.7.0", "Slow down"), RCPT, Verdict.THROTTLED),
    ((421, "4.7.28", "Unusual rate"), DOT, Verdict.THROTTLED),
    ((450, "4.2.1", "receiving mail at a rate that"), RCPT, Verdict.THROTTLED),
    ((451, "", "[TSS04] deferred"), MAIL, Verdict.THROTTLED),
    ((451, "", "RP-001 rate limited"), MAIL, Verdict.THROTTLED),
    ((550, "5.7.1", "Relaying denied"), RCPT, Verdict.SENDER_BLOCKED),
    ((550, "5.7.26", "Unauthenticated"), DOT, Verdict.SENDER_BLOCKED),
    ((550, "5.7.515", "Access denied"), DOT, Verdict.SENDER_BLOCKED),
    ((450, "4.7.23", "No PTR"), RCPT, Verdict.SENDER_BLOCKED),
    ((550, "", "Blocked by zen.spamhaus.org"), RCPT, Verdict.SENDER_BLOCKED),
    ((553, "5.1.8", "Sender domain unknown"), MAIL, Verdict.SENDER_BLOCKED),
    ((552, "5.3.4", "Too big"), MAIL, Verdict.CONTENT),
    ((554, "5.6.0", "Malformed"), DOT, Verdict.CONTENT),
    ((552, "", "Message size exceeds the limit"), DOT, Verdict.CONTENT),
    ((530, "5.7.0", "Authentication required"), MAIL, Verdict.RELAY_TROUBLE),
    ((535, "5.7.8", "Bad credentials"), Phase.CONNECT, Verdict.RELAY_TROUBLE),
    ((538, "", "Encryption required"), Phase.CONNECT, Verdict.RELAY_TROUBLE),
    ((451, "4.3.0", "Temporary lookup failure"), RCPT, Verdict.RELAY_TROUBLE),
    ((452, "4.3.1", "Insufficient storage"), MAIL, Verdict.RELAY_TROUBLE),
    ((452, "", "Insufficient storage"), MAIL, Verdict.RELAY_TROUBLE),
    ((451, "4.4.1", "No answer from host"), DOT, Verdict.RELAY_TROUBLE),
    ((550, "5.6.7", "No SMTPUTF8"), MAIL, Verdict.SMTPUTF8_LACKING),
    ((451, "", "Local error"), RCPT, Verdict.UNKNOWN_4XX),
    ((450, "4.1.8", "Later"), RCPT, Verdict.SENDER_BLOCKED),
    ((554, "", "Transaction failed"), DOT, Verdict.UNKNOWN_5XX),
    ((550, "", "No"), DOT, Verdict.UNKNOWN_5XX),
    ((550, "5.5.0", "Something"), DOT, Verdict.UNKNOWN_5XX),
    # Where the codes disagree, the basic one decides whether it is for good.
    ((451, "5.1.1", "Confused"), RCPT, Verdict.UNKNOWN_4XX),
    ((250, "5.1.1", "Confused"), DOT, Verdict.SENT),
]


@pytest.mark.parametrize(("reply", "phase", "verdict"), CASES)
def test_each_reply_is_understood(
    reply: tuple[int, str, str], phase: Phase, verdict: Verdict
) -> None:
    assert judge(Reply(*reply), phase).verdict is verdict


def test_every_verdict_has_a_case_and_a_ruling() -> None:
    assert {verdict for _, _, verdict in CASES} == set(Verdict) == set(RULINGS)


def test_a_positive_reply_is_the_tables_first_row() -> None:
    assert judge(Reply(250), DOT) == RULINGS[Verdict.SENT]


@pytest.mark.parametrize("verdict", [Verdict.THROTTLED, Verdict.SENDER_BLOCKED])
def test_the_senders_fault_never_counts_against_an_address(verdict: Verdict) -> None:
    assert RULINGS[verdict].blame is Blame.NONE
    assert RULINGS[verdict].brake is not Brake.NONE


def test_a_full_mailbox_is_not_a_dead_one() -> None:
    ruling = judge(Reply(552, "5.2.2", "Full"), RCPT)
    assert (ruling.then, ruling.blame) == (Then.RETRY, Blame.SOFT)


def test_a_sender_blocked_for_now_tries_again() -> None:
    assert judge(Reply(450, "4.7.29"), RCPT).then is Then.RETRY
    assert judge(Reply(550, "5.7.1"), RCPT).then is Then.FAIL


@pytest.mark.parametrize("code", [*range(200, 600, 50), 421, 999])
def test_no_reply_is_left_without_a_ruling(code: int) -> None:
    for phase in Phase:
        assert judge(Reply(code, "", ""), phase)


def test_a_reply_is_kept_on_one_line_and_short() -> None:
    reply = Reply(550, "5.1.1", "No such user\n  here" + "x" * 1000)
    assert str(reply).startswith("550 5.1.1 No such user here")
    assert len(str(reply)) == 500


def minutes(attempts: int, delivery_id: int = 1) -> float:
    delay = retry_delay(delivery_id, attempts, GIVE_UP_BULK)
    assert delay
    return delay / timedelta(minutes=1)


@pytest.mark.parametrize(
    ("attempts", "wanted"),
    [(1, 5), (2, 10), (3, 20), (4, 40), (5, 60), (6, 120), (7, 240), (20, 240)],
)
def test_retries_come_more_and_more_seldom(attempts: int, wanted: int) -> None:
    found = [minutes(attempts, delivery_id) for delivery_id in range(200)]
    assert all(wanted * 0.8 <= value <= wanted * 1.2 for value in found)
    assert len(set(found)) > 100  # spread, not all at once


def test_an_issue_is_tried_for_three_days_a_confirmation_for_four_hours() -> None:
    def last(give_up: timedelta) -> int:
        return max(n for n in range(1, 100) if retry_delay(1, n, give_up))

    assert last(GIVE_UP_SINGLE) == 5  # 135 minutes in all; the sixth would pass 4 h
    assert last(GIVE_UP_BULK) == 22  # 68 hours
