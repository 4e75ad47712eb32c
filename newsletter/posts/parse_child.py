"""The process that reads feeds: little memory, counted seconds, no secrets.

It is asked on standard input and answers on standard output, each time with a length
in four bytes and then as much JSON; a question is followed by the feed's bytes.
"""

import json
import resource
import sys
from typing import IO

from newsletter.errors import N_, InkorgError
from newsletter.posts import entries, parsing

CPU_SECONDS = 10
MEMORY_BYTES = 512 * 1024 * 1024


def main() -> None:
    """Answer until standard input ends."""
    _limit()
    questions, answers = sys.stdin.buffer, sys.stdout.buffer
    _write(answers, b"ready")
    while head := questions.read(entries.LENGTH.size):
        question = json.loads(questions.read(entries.LENGTH.unpack(head)[0]))
        body = questions.read(question["length"])
        _allow_more_seconds()
        answer = _answer(body, question["url"], question["content_type"])
        _write(answers, answer)


def _limit() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))


def _allow_more_seconds() -> None:
    used = resource.getrusage(resource.RUSAGE_SELF)
    seconds = int(used.ru_utime + used.ru_stime) + 1 + CPU_SECONDS
    _soft, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, hard))


def _answer(body: bytes, url: str, content_type: str) -> bytes:
    try:
        return entries.dump(parsing.parse(body, url=url, content_type=content_type))
    except InkorgError as error:
        return json.dumps({"error": error.message, "values": error.values}).encode()
    except (MemoryError, RecursionError):
        message = N_("The feed is too big or too deeply nested to be read.")
    except Exception as error:  # feedparser has its own ways to fail on broken input
        message, cause = N_("The feed is damaged beyond reading."), repr(error)[:200]
        return json.dumps({"error": message, "values": {}, "cause": cause}).encode()
    return json.dumps({"error": message, "values": {}}).encode()


def _write(stream: IO[bytes], answer: bytes) -> None:
    stream.write(entries.LENGTH.pack(len(answer)) + answer)
    stream.flush()


if __name__ == "__main__":
    main()
