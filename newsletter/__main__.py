"""`python -m newsletter <command>`."""

import sys

try:
    from newsletter.cli.main import main
except ModuleNotFoundError as error:
    if (error.name or "").startswith("newsletter"):
        raise
    sys.stderr.write(
        f"{error.name} is not installed for {sys.executable}.\n"
        "Run `make run` once, then use .venv/bin/python -m newsletter.\n"
    )
    sys.exit(1)

if __name__ == "__main__":
    main()
