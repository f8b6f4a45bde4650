"""Findings as JUnit's XML: a test suite for each file, and a failed test for each error."""

import re
from collections import defaultdict
from xml.etree import ElementTree

from datafixes.check.checking import Checked
from datafixes.check.finding import Finding
from datafixes.check.forges import path_in_repository, sentences
from datafixes.report.text import one_line

_NO_XML = re.compile("[\ufffe\uffff]")


def to_junit(checked: Checked) -> str:
    """An XML document in ASCII. A note is a test that passes and prints it; a file without findings passes too."""
    root = ElementTree.Element("testsuites", name="datafixes check")
    by_file: defaultdict[str, list[Finding]] = defaultdict(list)
    for one in checked.findings:
        by_file[one.file].append(one)
    for file in dict.fromkeys((*checked.files, *by_file)):
        _suite(root, file, by_file[file])
    for count in ("tests", "failures", "errors"):
        root.set(count, str(sum(int(suite.get(count, "0")) for suite in root)))
    document: bytes = ElementTree.tostring(root, encoding="us-ascii", xml_declaration=True)
    return document.decode("ascii") + "\n"


def _suite(root: ElementTree.Element, file: str, findings: list[Finding]) -> None:
    path = _text(path_in_repository(file))
    failures = sum(one.severity == "error" for one in findings)
    suite = ElementTree.SubElement(root, "testsuite", name=path, file=path, time="0")
    for name, count in (("tests", len(findings) or 1), ("failures", failures), ("errors", 0)):
        suite.set(name, str(count))
    for one in findings:
        place = f"{one.line}:{one.column}"
        case = _case(suite, path, f"{one.code} {place} {one_line(one.message)}")
        if one.severity == "error":
            failure = ElementTree.SubElement(
                case, "failure", type=one.code, message=_text(one_line(one.message))
            )
            failure.text = _text(f"{path}:{place}: {sentences(one)}")
        else:
            ElementTree.SubElement(case, "system-out").text = _text(f"{path}:{place}: {sentences(one)}")
    if not findings:
        _case(suite, path, "no findings")


def _case(suite: ElementTree.Element, path: str, name: str) -> ElementTree.Element:
    classname = path.removesuffix(".py").replace("/", ".")
    return ElementTree.SubElement(suite, "testcase", classname=classname, name=_text(name), time="0")


def _text(text: str) -> str:
    return _NO_XML.sub("\ufffd", text)
