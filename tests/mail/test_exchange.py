"""Whose reply is this? Every refusal among commands that were written ahead."""

import pytest

from newsletter.mail.exchange import Doubtful, Manner, stuffed
from tests.mail.talk import Talk

ONE, AHEAD, CHUNKS = Manner.ONE_AT_A_TIME, Manner.PIPELINED, Manner.CHUNKED
GROUP, PROBE = "MAIL {0}, RCPT {0}, DATA", "MAIL {0}, RCPT {0}, BDAT 0"
CHUNK = "MAIL {0}, RCPT {0}, BDAT 8 LAST, body {0}"
BODY = "body 1, ., " + GROUP.format(2)  # and the next envelope
BOTH = f"BDAT 8 LAST, body 1, RSET, {CHUNK.format(2)}"


# manner, replies, what became of the messages, what was written after the first group
CASES = {
    # One command at a time.
    "one: both taken": (ONE, "250 250 354 250 250 250 354 250", "1: sent, 2: sent", [
        "RCPT 1", "DATA", "body 1, .", "MAIL 2", "RCPT 2", "DATA", "body 2, ."]),
    "one: MAIL refused": (ONE, "550 250 250 250 354 250", "1: mail 550, 2: sent", [
        "RSET", "MAIL 2", "RCPT 2", "DATA", "body 2, ."]),
    "one: RCPT refused": (ONE, "250 550 250", "1: rcpt 550", [
        "RCPT 1", "RSET", "MAIL 2"]),
    "one: DATA refused": (ONE, "250 250 451 250", "1: data 451", [
        "RCPT 1", "DATA", "RSET", "MAIL 2"]),
    "one: dot refused": (ONE, "250 250 354 554 250", "1: dot 554", [
        "RCPT 1", "DATA", "body 1, .", "MAIL 2", "RCPT 2"]),
    "one: 421 to MAIL": (ONE, "421 CUT", "1: mail 421", []),
    "one: 421 to RCPT": (ONE, "250 421 CUT", "1: rcpt 421", ["RCPT 1"]),
    "one: 421 to DATA": (ONE, "250 250 421 CUT", "1: data 421", ["RCPT 1", "DATA"]),
    "one: 421 to the dot": (ONE, "250 250 354 421 CUT", "1: dot 421", [
        "RCPT 1", "DATA", "body 1, ."]),
    "one: 421 to RSET": (ONE, "550 421 CUT", "1: mail 550", ["RSET"]),
    "one: RSET refused": (ONE, "550 500", "1: mail 550", ["RSET"]),
    "one: cut before the body": (ONE, "250 250 CUT", "1: not begun", [
        "RCPT 1", "DATA"]),
    "one: cut after the dot": (ONE, "250 250 354 CUT", "1: unknown", [
        "RCPT 1", "DATA", "body 1, ."]),
    "one: 354 to MAIL": (ONE, "354", "1: not begun", []),
    "one: 250 to DATA": (ONE, "250 250 250", "1: not begun", ["RCPT 1", "DATA"]),
    "one: 354 to the dot": (ONE, "250 250 354 354", "1: unknown", [
        "RCPT 1", "DATA", "body 1, ."]),
    # The next envelope travels with the body before it.
    "ahead: both taken": (AHEAD, "250 250 354 250 250 250 354 250",
        "1: sent, 2: sent", [BODY, "body 2, ."]),
    "ahead: all of a group refused": (AHEAD, "550 503 503 250 250 250 354 250",
        "1: mail 550, 2: sent", ["RSET, " + GROUP.format(2), "body 2, ."]),
    "ahead: RCPT refused, DATA too": (AHEAD, "250 550 554", "1: rcpt 550", [
        "RSET, " + GROUP.format(2)]),
    "ahead: RCPT refused, DATA asked for, the empty body refused": (AHEAD,
        "250 550 354 554 250 250 354 250", "1: rcpt 550, 2: sent", [
        "., " + GROUP.format(2), "body 2, ."]),
    "ahead: RCPT refused, DATA asked for, the empty body taken": (AHEAD,
        "250 550 354 250", "1: rcpt 550", ["., " + GROUP.format(2)]),
    "ahead: MAIL refused, 354, the empty body taken": (AHEAD,
        "451 250 354 250", "1: mail 451", ["., " + GROUP.format(2)]),
    "ahead: RCPT refused, cut after the empty body": (AHEAD,
        "250 550 354 CUT", "1: rcpt 550, 2: not begun", ["., " + GROUP.format(2)]),
    "ahead: MAIL refused, cut": (AHEAD, "550 CUT", "1: mail 550", []),
    "ahead: DATA refused after RCPT": (AHEAD, "250 250 451 250", "1: data 451", [
        "RSET, " + GROUP.format(2)]),
    "ahead: the second refused while the first is open": (AHEAD,
        "250 250 354 250 550 503 503 250", "1: sent, 2: mail 550", [BODY]),
    "ahead: dot refused, the second goes on": (AHEAD,
        "250 250 354 554 250 250 354 250", "1: dot 554, 2: sent", [BODY, "body 2, ."]),
    "ahead: cut after the dot": (AHEAD, "250 250 354 CUT",
        "1: unknown, 2: not begun", [BODY]),
    "ahead: cut after the first": (AHEAD, "250 250 354 250 250 250 CUT",
        "1: sent, 2: not begun", [BODY]),
    "ahead: 421 to MAIL": (AHEAD, "421 CUT", "1: mail 421", []),
    "ahead: 421 to MAIL and what follows": (AHEAD, "421 421 421", "1: mail 421", []),
    "ahead: 421 to MAIL, then 354": (AHEAD, "421 250 354 CUT", "1: mail 421", []),
    "ahead: 421 to RCPT after a refusal": (AHEAD, "550 421 CUT", "1: mail 550", []),
    "ahead: 421 to DATA": (AHEAD, "250 250 421 CUT", "1: data 421", []),
    "ahead: 421 to the dot": (AHEAD, "250 250 354 421 CUT",
        "1: dot 421, 2: not begun", [BODY]),
    "ahead: 421 to the dot, the next answered": (AHEAD,
        "250 250 354 421 250 250 354 CUT", "1: dot 421, 2: not begun", [BODY]),
    "ahead: 421 to RSET, the rest still answered": (AHEAD,
        "550 503 503 421 250 250 354 CUT", "1: mail 550, 2: not begun", [
        "RSET, " + GROUP.format(2)]),
    "ahead: 250 to DATA": (AHEAD, "250 250 250", "1: not begun", []),
    "ahead: 354 to RCPT": (AHEAD, "250 354", "1: not begun", []),
    "ahead: 354 to the dot": (AHEAD, "250 250 354 354",
        "1: unknown, 2: not begun", [BODY]),
    # Chunks, several in flight.
    "chunks: all taken": (CHUNKS, "250 250 250 250 250 250 250 250",
        "1: sent, 2: sent", [BOTH]),
    "chunks: not understood": (CHUNKS, "250 250 500 250 250 250 354 250",
        "1: sent", ["RSET, " + GROUP.format(1), "body 1, ., " + GROUP.format(2)]),
    "chunks: not understood, nor the rest": (CHUNKS, "250 250 502 250 451 503 503",
        "1: mail 451", ["RSET, " + GROUP.format(1), "RSET, " + GROUP.format(2)]),
    "chunks: RCPT refused before the first chunk": (CHUNKS, "250 550 503 250",
        "1: rcpt 550", ["RSET, " + PROBE.format(2)]),
    "chunks: RCPT refused, the empty chunk taken": (CHUNKS, "250 550 250 250",
        "1: rcpt 550", [f"RSET, {CHUNK.format(2)}"]),
    "chunks: the empty chunk refused": (CHUNKS, "250 250 452 250", "1: data 452", [
        "RSET, " + PROBE.format(2)]),
    "chunks: 354 to the empty chunk": (CHUNKS, "250 250 354", "1: not begun", []),
    "chunks: cut before the first": (CHUNKS, "250 250 CUT", "1: not begun", []),
    "chunks: cut with two in flight": (CHUNKS, "250 250 250 CUT",
        "1: unknown, 2: unknown", [BOTH]),
    "chunks: the second refused": (CHUNKS, "250 250 250 250 250 250 550 503",
        "1: sent, 2: rcpt 550", [BOTH]),
    "chunks: the second refused, and taken by nobody": (CHUNKS,
        "250 250 250 250 250 250 550 250",
        "1: sent, 2: rcpt 550", [BOTH]),
    "chunks: the sender of the second refused, all the rest taken": (CHUNKS,
        "250 250 250 250 250 451 250 250",
        "1: sent, 2: unknown", [BOTH]),
    "chunks: the second refused, then cut": (CHUNKS, "250 250 250 250 250 550 CUT",
        "1: sent, 2: mail 550", [BOTH]),
    "chunks: RSET refused": (CHUNKS, "250 250 250 250 500",
        "1: sent, 2: unknown", [BOTH]),
    "chunks: 421 to the first": (CHUNKS, "250 250 250 421 CUT",
        "1: dot 421, 2: not begun", [BOTH]),
    "chunks: 421 to the first, the second taken": (CHUNKS,
        "250 250 250 421 250 250 250 250", "1: dot 421, 2: sent", [BOTH]),
    "chunks: 421 to RSET": (CHUNKS, "250 250 250 250 421 CUT",
        "1: sent, 2: not begun", [BOTH]),
    "chunks: 421 to RSET, the empty chunk still taken": (CHUNKS,
        "250 550 503 421 250 250 250 CUT", "1: rcpt 550, 2: not begun", [
        "RSET, " + PROBE.format(2)]),
    "chunks: 421 to MAIL, the empty chunk still taken": (CHUNKS, "421 250 250 CUT",
        "1: mail 421", []),
    "chunks: 421 to the empty chunk": (CHUNKS, "250 250 421 CUT", "1: data 421", []),
    "chunks: 354 instead of taking it": (CHUNKS, "250 250 250 354",
        "1: unknown, 2: unknown", [BOTH]),
}  # fmt: skip
FIRST = {ONE: "MAIL 1", AHEAD: GROUP.format(1), CHUNKS: PROBE.format(1)}


@pytest.mark.parametrize("case", CASES)
def test_every_reply_goes_to_its_message(case: str) -> None:
    manner, replies, told, written = CASES[case]
    talk = Talk(manner)
    talk.hear(replies)
    assert talk.told == told
    assert talk.written == [FIRST[manner], *written]


@pytest.mark.parametrize("manner", Manner)
def test_nothing_is_written_after_421(manner: Manner) -> None:
    talk = Talk(manner, mails=9)
    talk.hear("250 250 354" if manner is not CHUNKS else "250 250 250")
    written = list(talk.written)
    talk.hear("421 250 250 250 250")
    talk.exchange.pull()
    talk.hear("CUT")
    talk.exchange.pull()
    assert talk.written == written


@pytest.mark.parametrize("manner", Manner)
def test_an_unsolicited_reply_ends_it(manner: Manner) -> None:
    talk = Talk(manner, mails=0)
    with pytest.raises(Doubtful, match="250 Hello"):
        talk.exchange.reply(b"250 Hello")
    with pytest.raises(Doubtful, match="421"):
        talk.exchange.reply(b"421 Idle too long")
    talk.give("1")
    talk.exchange.pull()
    assert talk.written == []


def test_three_chunks_fly_and_each_is_taken_back_alone() -> None:
    talk = Talk(CHUNKS, mails=5)
    talk.hear("250 250 250")
    assert len(talk.written) == 2
    assert talk.written[1].count("RSET, MAIL") == 2
    talk.hear("250")
    assert talk.written[2] == f"RSET, {CHUNK.format(4)}"
    talk.hear("250 250 550 503")
    assert talk.written[3] == f"RSET, {CHUNK.format(5)}"
    talk.hear("250 250 250 250 250 CUT")
    assert talk.told == "1: sent, 2: rcpt 550, 3: sent, 4: unknown, 5: unknown"


def test_until_a_relay_is_proven_one_chunk_flies_ahead_and_none_after_it() -> None:
    talk = Talk(CHUNKS, mails=6, proven=False)
    talk.hear("250 250 250")
    assert talk.written[-1] == BOTH
    talk.hear("250")
    assert talk.written[-1] == BOTH, "its reply would pass for that of the second"
    talk.hear("250 250 250 250")
    assert talk.exchange.proven
    assert [text.count("MAIL") for text in talk.written] == [1, 1, 3]


@pytest.mark.parametrize(
    ("manner", "replies", "suspicious"),
    [
        (ONE, "250", [False, False]),
        (AHEAD, "250 250 354", [False, True, True, False]),
        (AHEAD, "250 250 354 250", [False, True, True, False, True]),
        (CHUNKS, "250 250 250", [False, True, True, False]),
        (CHUNKS, "250 250 250 250 250", [False, True, True, False, True, True]),
    ],
)
def test_silence_is_suspicious_where_something_was_written_ahead(
    manner: Manner, replies: str, suspicious: list[bool]
) -> None:
    talk = Talk(manner, proven=False)
    found = [talk.exchange.suspicious]
    for code in replies.split():
        talk.hear(code)
        found.append(talk.exchange.suspicious)
    assert found == suspicious


def test_without_hurry_each_message_waits_for_the_last() -> None:
    for manner, begun in ((AHEAD, "250 250 354"), (CHUNKS, "250 250 250")):
        talk = Talk(manner, hurry=False)
        talk.hear(begun)
        assert not any("MAIL 2" in written for written in talk.written)
        talk.hear("554")
        assert "MAIL 2" in talk.written[-1]
        assert ("RSET" in talk.written[-1]) is (manner is CHUNKS)


def test_a_chunk_after_a_message_that_was_taken_needs_no_reset() -> None:
    talk = Talk(CHUNKS, hurry=False)
    talk.hear("250 250 250 250")
    assert talk.written[-1] == CHUNK.format(2)


@pytest.mark.parametrize("code", ["500", "502", "503", "504"])
@pytest.mark.parametrize("manner", [AHEAD, CHUNKS])
def test_a_relay_out_of_step_is_left_before_it_is_proven(
    manner: Manner, code: str
) -> None:
    talk = Talk(manner, proven=False)
    talk.hear(f"250 {code}")
    assert talk.exchange.misunderstood
    assert talk.told == "1: not begun"


def test_dots_are_doubled_where_lines_begin_with_them() -> None:
    assert stuffed([b".\r", b"\n.a\r\nb.\r\n"]) == b"..\r\n..a\r\nb.\r\n"
    assert stuffed([b"a\r\n"]) == b"a\r\n"
