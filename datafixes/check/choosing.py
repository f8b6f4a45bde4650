"""Which findings a project wants to see: codes, files, and what its baseline knows already."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

from datafixes.check.baseline import Baseline
from datafixes.check.checking import Checked
from datafixes.check.finding import CATALOGUE, Finding
from datafixes.declaration.project_fixes import nearest
from datafixes.errors import SettingError


@dataclass(frozen=True)
class Choice:
    """The findings that are wanted. A code may be the beginning of codes; the longest that matches decides.

    Attributes:
        select: the codes that are reported.
        ignore: the codes that are not.
        files: by pattern for the end of a path, the codes that are not reported of such files.
    """

    select: tuple[str, ...] = ("FIX",)
    ignore: tuple[str, ...] = ()
    files: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for code in (*self.select, *self.ignore, *(one for codes in self.files.values() for one in codes)):
            if not any(known.startswith(code) for known in CATALOGUE):
                raise SettingError(f"No code begins with {code}.{nearest(code, list(CATALOGUE))}")

    def wants(self, finding: Finding) -> bool:
        """Whether a finding is reported."""
        path = PurePosixPath(Path(finding.file).as_posix())
        ignore = [
            *self.ignore,
            *(code for one, codes in self.files.items() if path.match(one) for code in codes),
        ]
        return _longest(self.select, finding.code) > _longest(ignore, finding.code)


def _longest(codes: Iterable[str], code: str) -> int:
    return max((len(one) for one in codes if code.startswith(one)), default=0)


def chosen(checked: Checked, choice: Choice, baseline: Baseline) -> Checked:
    """Leave out what is not wanted, and what the baseline knows.

    Args:
        checked: all findings.
        choice: the wanted ones.
        baseline: the known ones.
    """
    wanted = [one for one in checked.findings if choice.wants(one)]
    new = baseline.without_known(wanted)
    return replace(
        checked,
        findings=tuple(new),
        ignored=len(checked.findings) - len(wanted),
        known=len(wanted) - len(new),
    )
