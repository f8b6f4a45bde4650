"""AWS: whose credentials are used, which task definition the service runs, and whether its deployment is complete.

The identity is checked first, because a wrong account looks like a missing service.
"""

import datetime as dt
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from datafixes.audit.wording import counted
from datafixes.book.settings import BookSettings
from datafixes.book.verify.checklist import not_asked
from datafixes.database.aws_client import BROKEN, DENIED, NO_CREDENTIALS, Aws, NotAsked
from datafixes.errors import DatafixError
from datafixes.report.document import Fact, bad, good, unknown

IDENTITY, SERVICE = "AWS identity", "ECS service"

_MISSING = ("ClusterNotFoundException", "ServiceNotFoundException")
_ARN = re.compile(r"arn:aws[\w-]*:[\w-]+:[\w-]*:(\d{12}):")
# Credentials that AWS rejects: waiting does not help.
_REFUSED = ("ExpiredToken", "ExpiredTokenException", "InvalidClientTokenId", "SignatureDoesNotMatch", "AccessDenied",
            "NoCredentialsError", "PartialCredentialsError", "UnauthorizedSSOTokenError", "SSOTokenLoadError",
            "TokenRetrievalError")  # fmt: skip
# Errors of the client that may be temporary.
_PASSING = ("CredentialRetrievalError", "MetadataRetrievalError", "EndpointConnectionError", "ConnectTimeoutError",
            "ReadTimeoutError", "ConnectionClosedError", "HTTPClientError")  # fmt: skip
_NO_CREDENTIALS = "Set AWS_PROFILE or log in; without AWS: --skip logs --skip service"


@dataclass(frozen=True)
class Deployment:
    """A deployment of the service.

    Attributes:
        id: ECS's name for it.
        began: when it was begun, by ECS's clock, or None.
    """

    id: str = ""
    began: dt.datetime | None = None


def look_at_identity(aws: Aws, wanted: Mapping[str, str]) -> Fact:
    """Ask AWS for the identity.

    Args:
        aws: AWS.
        wanted: the expected account, by origin; see `accounts_of`.
    """
    try:
        if not aws.has_credentials():
            return unknown(IDENTITY, NO_CREDENTIALS, _NO_CREDENTIALS, lasting=True)
    except NotAsked as error:
        lasting = error.code not in _PASSING
        return unknown(IDENTITY, f"no credentials: {error}", _NO_CREDENTIALS, lasting=lasting)
    try:
        caller = aws.ask("sts", "get_caller_identity")
    except NotAsked as error:
        refused = error.code in (*_REFUSED, BROKEN)
        hint = _NO_CREDENTIALS if refused else ""
        return unknown(
            IDENTITY, f"AWS does not say whose credentials these are: {error}", hint, lasting=refused
        )
    return check_identity(str(caller["Account"]), str(caller["Arn"]), aws.region, wanted)


def check_identity(account: str, arn: str, region: str, wanted: Mapping[str, str]) -> Fact:
    """Whether it is the account of the settings."""
    evidence = f"{arn} of account {account}, region {region}"
    others = {who: number for who, number in wanted.items() if number != account}
    if others:
        words = ", ".join(f"{who} names account {number}" for who, number in others.items())
        return bad(IDENTITY, f"another account: {evidence}; {words}", "Set AWS_PROFILE", lasting=True)
    return good(IDENTITY, evidence)


def accounts_of(settings: BookSettings, named: str | None) -> dict[str, str]:
    """The expected account numbers: the given one, and those in the settings' ARNs."""
    found = {"--aws-account": named} if named else {}
    for name in ("log_group", "ecs_cluster", "ecs_service"):
        if match := _ARN.match(str(getattr(settings, name))):
            found[name] = match[1]
    return found


def look_at_service(
    aws: Aws, settings: BookSettings, begun: Deployment | None = None
) -> tuple[Fact, Deployment | None]:
    """Ask ECS about the service.

    Args:
        aws: AWS.
        settings: the service and its requirements.
        begun: the deployment that was just begun, which must be the running one.

    Returns:
        the line, and the running deployment, if there is one.
    """
    try:
        answer = aws.ask(
            "ecs", "describe_services", cluster=settings.ecs_cluster, services=[settings.ecs_service]
        )
    except NotAsked as error:
        if error.code in _MISSING:
            return _missing(settings, str(error)), None
        return not_asked(SERVICE, error, "ecs:DescribeServices"), None
    found = answer.get("services", [])
    if not found or found[0].get("status") == "INACTIVE":
        why = [str(one.get("reason")) for one in answer.get("failures", [])] or ["INACTIVE"]
        return _missing(settings, ", ".join(why)), None
    return check_service(found[0], settings.task_revision, begun), _primary(found[0])


def _missing(settings: BookSettings, why: str) -> Fact:
    place = (
        f"the cluster {settings.ecs_cluster}, {settings.engine.aws_region or 'the region of the AWS profile'}"
    )
    evidence = f"service {settings.ecs_service} not found in {place}: {why}"
    hint = "To check another one: -x ecs_cluster=SERVICE -x ecs_service=SERVICE"
    return bad(SERVICE, evidence, hint)


def check_service(service: Mapping[str, Any], oldest: str, begun: Deployment | None = None) -> Fact:
    """Whether a service, as described by ECS, runs the required task definition and nothing else.

    Args:
        service: one of the answer's services.
        oldest: the oldest acceptable task definition: ``8``, or ``FAMILY:8``.
        begun: as for `look_at_service`.
    """
    definition = _name(service)
    running, desired = int(service.get("runningCount", 0)), int(service.get("desiredCount", 0))
    evidence = f"{definition or 'no task definition'}, {running} of {desired} running"
    controller = service.get("deploymentController", {}).get("type", "ECS")
    if controller != "ECS":
        words = f"{evidence}; {controller} deploys it, so the state of the deployment is unknown"
        return unknown(SERVICE, words, "Check there, and skip it here: --skip service", lasting=True)
    wrong = [missing] if (missing := _missing_in(definition, oldest)) else []
    if (status := service.get("status", "ACTIVE")) != "ACTIVE":
        wrong.append(f"the service is {status}")
    wrong += _running(running, desired, int(service.get("pendingCount", 0)))
    wrong += _unsettled(service.get("deployments", ()), definition, begun)
    if not wrong:
        return good(SERVICE, f"{evidence}, the deployment is complete")
    under_way = any(one.get("rolloutState") == "IN_PROGRESS" for one in service.get("deployments", ()))
    return bad(
        SERVICE, f"{evidence}: {'; '.join(wrong)}", "A deployment is in progress: --wait" if under_way else ""
    )


def _missing_in(definition: str, oldest: str) -> str:
    """What is wrong with ``FAMILY:REVISION``, or an empty text."""
    family, _, least = oldest.rpartition(":")
    own, _, revision = definition.rpartition(":")
    if revision.isdecimal() and int(revision) >= int(least) and family in ("", own):
        return ""
    return f"revision {least} or newer{f' of {family}' if family else ''} is required"


def _name(described: Mapping[str, Any]) -> str:
    """``FAMILY:REVISION`` of a service or a deployment."""
    return str(described.get("taskDefinition", "")).rpartition("/")[2]


def _running(running: int, desired: int, pending: int) -> list[str]:
    wrong = []
    if desired == 0:
        wrong.append("the desired count is 0")
    elif running != desired:
        wrong.append("fewer than desired" if running < desired else "more than desired")
    if pending:
        wrong.append(f"{pending} still starting")
    return wrong


def _unsettled(
    deployments: Sequence[Mapping[str, Any]], definition: str, begun: Deployment | None
) -> list[str]:
    """Signs that a deployment is not complete, or not the expected one."""
    primary = [one for one in deployments if one.get("status") == "PRIMARY"]
    wrong = []
    if len(primary) != 1:
        wrong.append(f"{len(primary)} primary deployments")
    if older := len(deployments) - len(primary):
        wrong.append(f"{older} older deployment{' still runs' if older == 1 else 's still run'}")
    for one in primary:
        # Services behind a Classic Load Balancer have no such state.
        state = one.get("rolloutState", "COMPLETED")
        if state != "COMPLETED":
            wrong.append(f"the deployment is {state}{_why(one)}")
        if (own := _name(one) or definition) != definition:
            wrong.append(f"the deployment is of {own}")
        if begun is not None and begun.id and one.get("id") != begun.id:
            wrong.append(_another(one, begun))
    return wrong


def _another(primary: Mapping[str, Any], begun: Deployment) -> str:
    created = primary.get("createdAt")
    if created is None or begun.began is None or created <= begun.began:
        return "the new deployment has not begun"
    return f"deployment {begun.id} was replaced by {primary.get('id')}: by another deployment, or by a rollback of ECS"


def _why(deployment: Mapping[str, Any]) -> str:
    said = [str(deployment.get("rolloutStateReason", "")).rstrip(".")]
    if failed := int(deployment.get("failedTasks", 0)):
        said.append(f"{counted(failed, 'task')} failed to start")
    words = "; ".join(filter(None, said))
    return f" ({words})" if words else ""


def _primary(service: Mapping[str, Any]) -> Deployment | None:
    for one in service.get("deployments", ()):
        if one.get("status") == "PRIMARY":
            return Deployment(str(one.get("id", "")), one.get("createdAt"))
    return None


def redeploy(aws: Aws, settings: BookSettings) -> Deployment:
    """Force a new deployment of the service.

    Returns:
        the deployment that was begun.

    Raises:
        DatafixError: ECS refuses, or does not answer whether it did.
    """
    try:
        answer = aws.do(
            "ecs",
            "update_service",
            cluster=settings.ecs_cluster,
            service=settings.ecs_service,
            forceNewDeployment=True,
        )
    except NotAsked as error:
        if error.is_uncertain:
            unknown = f"It is unknown whether a new deployment of {settings.ecs_service} was begun: {error}"
            raise DatafixError(unknown, hint="Check before trying again: datafixes verify --wait") from None
        hint = "These credentials need ecs:UpdateService" if error.code in DENIED else ""
        raise DatafixError(
            f"No new deployment of {settings.ecs_service} was begun: {error}", hint=hint
        ) from None
    return _primary(answer["service"]) or Deployment()
