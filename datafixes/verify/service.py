"""The ECS service: which task definition runs, and whether its deployment is over."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from datafixes.errors import DatafixError
from datafixes.settings import Settings
from datafixes.verify.aws import Aws, NotAsked
from datafixes.verify.checklist import Line

NAME = "ECS service"

_MISSING = ("ClusterNotFoundException", "ServiceNotFoundException")
_REVISION = re.compile(r":(\d+)$")


def look_at_service(aws: Aws, settings: Settings, deployment: str = "") -> Line:
    """Ask ECS about the service.

    Args:
        aws: where to ask.
        settings: which service, and what is wanted of it.
        deployment: the deployment that must be the one that runs, where one was just begun.
    """
    try:
        answer = aws.ask(
            "ecs", "describe_services", cluster=settings.ecs_cluster, services=[settings.ecs_service]
        )
    except NotAsked as error:
        if error.code in _MISSING:
            return _missing(settings, str(error))
        return Line(NAME, "unknown", str(error))
    found = answer.get("services", [])
    if not found or found[0].get("status") == "INACTIVE":
        why = [str(one.get("reason")) for one in answer.get("failures", [])] or ["INACTIVE"]
        return _missing(settings, ", ".join(why))
    return check_service(found[0], settings.task_revision, deployment)


def _missing(settings: Settings, why: str) -> Line:
    evidence = f"there is no service {settings.ecs_service} in the cluster {settings.ecs_cluster}: {why}"
    hint = "Another one: -x ecs_cluster=NAME -x ecs_service=NAME"
    return Line(NAME, "red", evidence, hint)


def check_service(service: Mapping[str, Any], revision: int, deployment: str = "") -> Line:
    """Whether a service, as ECS describes it, runs what is wanted and nothing else.

    Args:
        service: one of the answer's services.
        revision: the oldest revision of its task definition that will do.
        deployment: as for `look_at_service`.
    """
    definition = str(service.get("taskDefinition", "")).rpartition("/")[2]
    running, desired = int(service.get("runningCount", 0)), int(service.get("desiredCount", 0))
    evidence = f"{definition or 'no task definition'}, {running} of {desired} running"
    found = _REVISION.search(definition)
    wrong = [] if found and int(found[1]) >= revision else [f"revision {revision} or newer is wanted"]
    if desired == 0:
        wrong.append("nothing is to run")
    elif running != desired:
        wrong.append(f"{desired} are to run")
    wrong += _unsettled(service.get("deployments", ()), deployment)
    if wrong:
        return Line(NAME, "red", f"{evidence}: {'; '.join(wrong)}")
    return Line(NAME, "green", f"{evidence}, the deployment is complete")


def _unsettled(deployments: Sequence[Mapping[str, Any]], wanted: str) -> list[str]:
    """What shows that a deployment is not over, or not the one that is wanted."""
    primary = [one for one in deployments if one.get("status") == "PRIMARY"]
    wrong = []
    if len(primary) != 1:
        wrong.append(f"{len(primary)} primary deployments")
    if len(deployments) > len(primary):
        wrong.append(f"{len(deployments) - len(primary)} older deployments still run")
    for one in primary:
        # Services that something other than ECS deploys have no such state.
        state = one.get("rolloutState", "COMPLETED")
        if state != "COMPLETED":
            reason = str(one.get("rolloutStateReason", "")).rstrip(".")
            wrong.append(f"the deployment is {state}" + (f" ({reason})" if reason else ""))
        if wanted and one.get("id") != wanted:
            wrong.append("the new deployment has not begun")
    return wrong


def redeploy(aws: Aws, settings: Settings) -> str:
    """Force a new deployment of the service.

    Returns:
        the id of the deployment that was begun.

    Raises:
        DatafixError: ECS does not do it.
    """
    try:
        answer = aws.ask(
            "ecs",
            "update_service",
            cluster=settings.ecs_cluster,
            service=settings.ecs_service,
            forceNewDeployment=True,
        )
    except NotAsked as error:
        raise DatafixError(f"No new deployment of {settings.ecs_service} was begun: {error}") from None
    begun = answer["service"].get("deployments", [])
    return next((str(one.get("id", "")) for one in begun if one.get("status") == "PRIMARY"), "")
