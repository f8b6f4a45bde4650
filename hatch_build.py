"""What an index such as PyPI shows: the project's URLs, and README with links that work there.

The repository cannot know where it is hosted, so whoever releases says it: PROJECT_URL=https://github.com/OWNER/datafixes.
Without it, there are no URLs, and README is as it is.
"""

import os
import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

_RELATIVE = re.compile(r"\]\((?!https?://)([^)\s]+)\)")


class Links(MetadataHookInterface):
    """Sets `urls` and `readme`."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Read README and PROJECT_URL."""
        url = os.environ.get("PROJECT_URL", "").rstrip("/")
        text = Path(self.root, "README.md").read_text("utf-8")
        metadata["urls"] = {}
        if url:
            if not re.fullmatch(r"https://[^\s/]+/\S+", url):
                raise ValueError(f"PROJECT_URL is not the https:// URL of a repository: {url}")
            files = f"{url}/blob/HEAD"  # GitHub has it, and GitLab leads on from it
            metadata["urls"] = {
                "Homepage": url,
                "Documentation": f"{files}/docs/README.md",
                "Changelog": f"{files}/CHANGELOG.md",
                "Issues": f"{url}/issues",
            }
            text = _RELATIVE.sub(lambda link: f"]({_absolute(link[1], files)})", text)
        metadata["readme"] = {"content-type": "text/markdown", "text": text}


def _absolute(target: str, files: str) -> str:
    return f"{files}/README.md{target}" if target.startswith("#") else f"{files}/{target}"
