"""Finds the CI pipeline in the environment: the commit and a link, for the ledger."""

from collections.abc import Mapping
from dataclasses import dataclass
from string import Formatter
from urllib.parse import quote


@dataclass(frozen=True)
class Pipeline:
    """The variables of one CI service.

    Attributes:
        name: the service.
        commit: the variable with the commit.
        links: forms of the link to the run; the first whose variables are all set counts.
    """

    name: str
    commit: str
    links: tuple[str, ...]


PIPELINES = (
    Pipeline(
        "GitHub Actions",
        "GITHUB_SHA",
        ("{GITHUB_SERVER_URL}/{GITHUB_REPOSITORY}/actions/runs/{GITHUB_RUN_ID}",),
    ),
    Pipeline("GitLab CI", "CI_COMMIT_SHA", ("{CI_PIPELINE_URL}", "{CI_JOB_URL}")),
    Pipeline("CircleCI", "CIRCLE_SHA1", ("{CIRCLE_BUILD_URL}",)),
    Pipeline("Buildkite", "BUILDKITE_COMMIT", ("{BUILDKITE_BUILD_URL}",)),
    Pipeline(
        "AWS CodeBuild",
        "CODEBUILD_RESOLVED_SOURCE_VERSION",
        ("{CODEBUILD_BUILD_URL}", "{CODEBUILD_BUILD_ARN}"),
    ),
    Pipeline(
        "Bitbucket Pipelines",
        "BITBUCKET_COMMIT",
        ("https://bitbucket.org/{BITBUCKET_REPO_FULL_NAME}/pipelines/results/{BITBUCKET_BUILD_NUMBER}",),
    ),
    Pipeline(
        "Azure Pipelines",
        "BUILD_SOURCEVERSION",
        ("{SYSTEM_COLLECTIONURI}{SYSTEM_TEAMPROJECT}/_build/results?buildId={BUILD_BUILDID}",),
    ),
    Pipeline("Travis CI", "TRAVIS_COMMIT", ("{TRAVIS_BUILD_WEB_URL}",)),
    # Last, because other tools set GIT_COMMIT too.
    Pipeline("Jenkins", "GIT_COMMIT", ("{BUILD_URL}",)),
)


def pipeline_of(environment: Mapping[str, str]) -> tuple[str, str]:
    """`commit …; pipeline https://…` and its origin; empty without a known pipeline."""
    for pipeline in PIPELINES:
        commit = environment.get(pipeline.commit, "").strip()
        link = next(filter(None, (_filled(form, environment) for form in pipeline.links)), "")
        parts = [f"commit {commit}"] if commit else []
        parts += [f"pipeline {link}"] if link else []
        if parts:
            return "; ".join(parts), f"environment of {pipeline.name}"
    return "", "default"


def _filled(form: str, environment: Mapping[str, str]) -> str:
    names = [name for _, name, _, _ in Formatter().parse(form) if name]
    values = {name: environment.get(name, "").strip() for name in names}
    if not all(values.values()):
        return ""
    # A project's name may contain a space; a value that is already a link is left unchanged.
    return form.format(**{name: quote(value, safe=":/?#[]@!$&'()*+,;=%~") for name, value in values.items()})
