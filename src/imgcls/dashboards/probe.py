"""Whether a server is there, answered in a given time whatever the network does."""

import threading
from urllib.error import HTTPError
from urllib.request import Request, urlopen

LIMIT = 2.0  # seconds


def unreachable(url: str, limit: float = LIMIT) -> str | None:
    """Why a server cannot be used, in a few words; None if it answers.

    Any answer but a server error will do. The question is asked in a thread of its own, because looking
    up a name can hang for much longer than any time limit of a socket.
    """
    answers: list[str | None] = []
    thread = threading.Thread(target=lambda: answers.append(_asked(url, limit)), daemon=True)
    thread.start()
    thread.join(limit + 0.5)
    return answers[0] if answers else f"{url} does not answer"


def _asked(url: str, limit: float) -> str | None:
    try:
        with urlopen(Request(f"{url}/healthz", method="GET"), timeout=limit):
            return None
    except HTTPError as error:
        return f"{url} answers with error {error.code}" if error.code >= 500 else None
    except (OSError, ValueError):  # no network, no such host, nobody there, no answer; no address
        return f"{url} does not answer"
