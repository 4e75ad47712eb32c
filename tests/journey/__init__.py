"""The whole of Inkorg from outside: real processes, HTTP, SMTP and commands."""
