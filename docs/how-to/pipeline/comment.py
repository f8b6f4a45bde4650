"""Keeps a plan as one comment of a pull request (GitHub Actions) or merge request (GitLab CI).

Usage: comment.py plan.md [NAME]

The first call writes the comment, later ones replace its text. NAME tells several plans of one request apart. If the
file is not there, the comment says so: an older plan must not be taken for that of the new commit.

GitHub needs GITHUB_TOKEN with the permission `pull-requests: write`; GitLab needs GITLAB_TOKEN, a token with the scope
`api`. All else is in the environment of every job. Only the standard library is used.
"""

import json
import os
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PAGE = 100


@dataclass(frozen=True)
class Request:
    """A pull or merge request, and what its comments are called.

    Attributes:
        comments: the URL of all its comments.
        comment: the URL of one of them, with `{}` for its id.
        method: how one is changed.
        headers: who asks.
        author: the key and the value by which an author is known to be us.
        commit: the commit that was planned.
        job: the page with the job's log.
    """

    comments: str
    comment: str
    method: str
    headers: dict[str, str]
    author: tuple[str, Any]
    commit: str
    job: str


def github() -> Request:
    """The pull request of this job."""
    event = json.loads(Path(os.environ["GITHUB_EVENT_PATH"]).read_text("utf-8"))
    if "pull_request" not in event:
        sys.exit("comment.py: this job does not run for a pull request, so there is nothing to comment.")
    repository = os.environ["GITHUB_REPOSITORY"]
    issues = f"{os.environ['GITHUB_API_URL']}/repos/{repository}/issues"
    return Request(
        comments=f"{issues}/{event['pull_request']['number']}/comments",
        comment=f"{issues}/comments/{{}}",
        method="PATCH",
        headers={
            "Authorization": f"Bearer {os.environ['GITHUB_TOKEN']}",
            "Accept": "application/vnd.github+json",
        },
        # A job's own token cannot ask who it is.
        author=("login", os.environ.get("COMMENT_AUTHOR") or "github-actions[bot]"),
        commit=event["pull_request"]["head"]["sha"],
        job=f"{os.environ['GITHUB_SERVER_URL']}/{repository}/actions/runs/{os.environ['GITHUB_RUN_ID']}",
    )


def gitlab() -> Request:
    """The merge request of this job."""
    api, project = os.environ["CI_API_V4_URL"], os.environ["CI_PROJECT_ID"]
    notes = f"{api}/projects/{project}/merge_requests/{os.environ['CI_MERGE_REQUEST_IID']}/notes"
    headers = {"PRIVATE-TOKEN": os.environ["GITLAB_TOKEN"]}
    return Request(
        comments=notes,
        comment=f"{notes}/{{}}",
        method="PUT",
        headers=headers,
        author=("id", call("GET", f"{api}/user", headers)["id"]),
        commit=os.environ["CI_COMMIT_SHA"],
        job=os.environ["CI_JOB_URL"],
    )


def call(method: str, url: str, headers: dict[str, str], value: object = None) -> Any:
    """Ask the forge, and read its answer."""
    data = None if value is None else json.dumps(value).encode()
    headers = {**headers, "Content-Type": "application/json", "User-Agent": "datafixes"}
    asked = urllib.request.Request(url, data, headers, method=method)
    with urllib.request.urlopen(asked, timeout=60) as answer:
        return json.load(answer)


def existing(request: Request) -> Iterator[dict[str, Any]]:
    """All comments, oldest first."""
    page = 0
    while True:
        page += 1
        found = call("GET", f"{request.comments}?per_page={PAGE}&page={page}", request.headers)
        yield from found
        if len(found) < PAGE:
            return


def text_of(plan: Path, mark: str, request: Request) -> str:
    """The comment's text; a comment of GitHub has 65,536 characters at most, and a plan leaves 500 of them."""
    planned = plan.read_text("utf-8") if plan.exists() else "## No plan\n\n**It failed: see the log.**\n"
    return f"{mark}\n{planned}\nCommit {request.commit[:12]}, [log]({request.job})\n"


def keep(plan: Path, name: str) -> str:
    """Write the comment or replace its text, and say which."""
    request = gitlab() if "GITLAB_CI" in os.environ else github()
    mark, (key, ours) = f"<!-- datafixes plan: {name} -->", request.author
    value = {"body": text_of(plan, mark, request)}
    for comment in existing(request):
        # Anybody can write the mark, and could change the text of a comment that is theirs.
        author = comment.get("user") or comment.get("author") or {}
        if (comment["body"] or "").startswith(mark) and author.get(key) == ours:
            call(request.method, request.comment.format(comment["id"]), request.headers, value)
            return "replaced"
    call("POST", request.comments, request.headers, value)
    return "written"


def main() -> None:
    """Read the arguments, and end with one line."""
    if len(sys.argv) not in (2, 3):
        sys.exit("usage: comment.py plan.md [NAME]")
    try:
        done = keep(Path(sys.argv[1]), "".join(sys.argv[2:]) or "plan")
    except urllib.error.HTTPError as error:
        sys.exit(
            f"comment.py: the forge answered {error.code} {error.reason} to {error.url}. On GitHub the job needs "
            "`permissions: pull-requests: write`; on GitLab, GITLAB_TOKEN needs the scope api."
        )
    except (OSError, ValueError) as error:
        sys.exit(f"comment.py: the forge could not be asked: {error}")
    except KeyError as error:
        sys.exit(f"comment.py: the variable {error} is not set.")
    sys.stdout.write(f"comment.py: the comment was {done}.\n")


if __name__ == "__main__":
    main()
