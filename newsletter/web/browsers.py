"""What a browser calls itself, in two words: "Firefox, Windows"."""

# The first that stands in the header; those that call themselves others come first.
BROWSERS = (
    *(("Edg", "Edge"), ("OPR", "Opera"), ("Vivaldi", "Vivaldi")),
    *(("SamsungBrowser", "Samsung Internet"), ("Firefox", "Firefox")),
    *(("FxiOS", "Firefox"), ("CriOS", "Chrome"), ("Chrome", "Chrome")),
    *(("Safari", "Safari"), ("curl", "curl")),
)
SYSTEMS = (
    *(("iPhone", "iPhone"), ("iPad", "iPad"), ("Android", "Android")),
    *(("Windows", "Windows"), ("CrOS", "ChromeOS"), ("Mac OS X", "Mac")),
    ("Linux", "Linux"),
)


def described(agent: str) -> str:
    """Return browser and system, or nothing where neither is known."""
    found = [
        next((name for mark, name in marks if mark in agent), "")
        for marks in (BROWSERS, SYSTEMS)
    ]
    return ", ".join(name for name in found if name)
