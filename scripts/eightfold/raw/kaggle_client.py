"""Kaggle by its official client (package ``kaggle``, optional): a competition's data in, a submission out.

Credentials are the client's own affair (KAGGLE_API_TOKEN, or KAGGLE_USERNAME and KAGGLE_KEY, or its files). Nothing that
the client says is passed on but a status and the server's sentence: its addresses may carry a signature.
"""

import contextlib
import io
import os
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from eightfold.core.files import UserError, file_digest

SITE = "https://www.kaggle.com/competitions"
EXTRAS = "pip install -r envs/requirements-extra.txt"
SECRET = re.compile(r"(?i)(//)[^/@\s]+@|\?\S+|\b(bearer|basic|token|key|password)(\s*[:=]?\s+|\s*[:=]\s*)\S+")


def scrubbed(text: object) -> str:
    """A message without what may be a secret: queries of addresses, names before an @, words after "token" and its like."""
    return SECRET.sub("...", " ".join(str(text).split()))[:300]


def client():
    """The client, signed in. Raises UserError where it is not installed or has no credentials."""
    with contextlib.redirect_stdout(io.StringIO()):
        try:
            import kaggle  # signs in as it is imported, and keeps silent when that fails
        except ImportError as error:
            raise UserError(f"Kaggle's client is not installed ({error.name}): {EXTRAS}") from error
        api = kaggle.KaggleApi()
        try:
            api.authenticate()
        except SystemExit as error:
            raise UserError(
                "Kaggle: no credentials. Make a token at https://www.kaggle.com/settings and set KAGGLE_API_TOKEN, or "
                "KAGGLE_USERNAME and KAGGLE_KEY, or keep ~/.kaggle/kaggle.json"
            ) from error
    return api


@contextlib.contextmanager
def _refusals(competition: str, doing: str) -> Iterator[None]:
    """Turn what the client raises into a UserError that says what to do; keep what it prints to itself."""
    import requests

    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    except requests.HTTPError as error:
        status = error.response.status_code if error.response is not None else None
        said = scrubbed(_sentence(error.response))
        message = f"Kaggle, {doing} {competition}: refused with status {status}" + (f" ({said})" if said else "")
        todo = {
            401: "the credentials are not valid: make a new token at https://www.kaggle.com/settings",
            403: f"accept the competition's rules first, at {SITE}/{competition}/rules",
            404: f"there is no such competition, or it has no such data: look at {SITE}/{competition}",
            429: "too many requests: try again later",
        }.get(status, "try again later")
        raise UserError(f"{message}; {todo}") from None
    except (requests.RequestException, OSError) as error:
        raise UserError(
            f"Kaggle, {doing} {competition}: no connection ({type(error).__name__}); run again to go on"
        ) from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        # The client's own refusals, and its stumbling over replies that it does not understand.
        raise UserError(f"Kaggle, {doing} {competition}: {scrubbed(error)}; run again to go on") from None


def _sentence(response) -> str:
    try:
        return str(response.json().get("message", ""))
    except (ValueError, AttributeError):
        return ""


def download(competition: str, folder: str | os.PathLike) -> Path:
    """The competition's archive below ``folder``. A download that broke off is taken up where it stopped.

    Raises UserError: terms not accepted (with the link), no such competition, no credentials, no connection.
    """
    api = client()
    with _refusals(competition, "downloading"):
        api.competition_download_files(competition, path=os.fspath(folder), quiet=True)
    found = [path for path in Path(folder).glob(f"{competition}.*") if not path.name.endswith("-partial")]
    if len(found) != 1:
        raise UserError(f"Kaggle, downloading {competition}: expected one archive in {folder}, found {len(found)}")
    return found[0]


def submit(
    competition: str,
    path: str | os.PathLike,
    run: str,
    poll_s: float,
    wait_s: float,
    report: Callable[[str], None] = lambda text: None,
) -> dict:
    """Upload a submission and wait for its score: {"ref", "status", "public_score", "private_score", ...}.

    A submission is described by the run and the digest of its file: one that was uploaded before and whose wait broke
    off is found by that and not uploaded again, which would cost one of the day's few.
    Raises UserError for any failing reply, a submission that Kaggle could not score, and after ``wait_s`` seconds.
    """
    api, digest = client(), file_digest(path, "sha256")
    mark = f"eightfold {run} {digest[:16]}"

    def ours() -> object | None:
        with _refusals(competition, "listing submissions to"):
            listed = api.competition_submissions(competition) or []
        return next((one for one in listed if one is not None and one.description == mark), None)

    found = ours()
    if found is None or found.status.name == "ERROR":
        with _refusals(competition, "submitting to"):
            reply = api.competition_submit(os.fspath(path), mark, competition, quiet=True)
        if not reply.ref:
            raise UserError(
                f"Kaggle, submitting to {competition}: refused ({scrubbed(reply.message) or 'no reason given'})"
            )
        report(f"uploaded as submission {reply.ref}; waiting for its score")
        ref = reply.ref
    else:
        ref = found.ref
        report(f"already uploaded as submission {ref}; waiting for its score")
    ends = time.monotonic() + wait_s
    while True:
        found = ours()
        if found is not None and found.ref == ref and found.status.name != "PENDING":
            break
        if time.monotonic() > ends:
            raise UserError(
                f"Kaggle, {competition}: submission {ref} has no score after {wait_s:.0f} s. It is not lost: ask for "
                "`submit` again later, it will not be uploaded twice"
            )
        time.sleep(poll_s)
    if found.status.name != "COMPLETE":
        why = scrubbed(found.error_description or "no reason given")
        raise UserError(f"Kaggle, {competition}: submission {ref} could not be scored: {why}")
    return {
        "competition": competition,
        "ref": ref,
        "status": found.status.name,
        "public_score": found.public_score or None,
        "private_score": found.private_score or None,
        "description": mark,
        "sha256": digest,
        "date": None if found.date is None else str(found.date),
    }
