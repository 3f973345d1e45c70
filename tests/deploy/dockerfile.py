"""A Dockerfile as far as ours goes: instructions, continued lines, stages, arguments in JSON."""

import json
import re
from dataclasses import dataclass, field
from pathlib import Path

from tests.deploy.credentials import DEPLOY

DOCKERFILE = DEPLOY / "docker" / "Dockerfile"


@dataclass
class Stage:
    """What stands below one FROM: pairs of an instruction and its text."""

    base: str
    instructions: list[tuple[str, str]] = field(default_factory=list)

    def all(self, instruction: str) -> list[str]:
        return [text for name, text in self.instructions if name == instruction]

    def words(self, instruction: str) -> list[str]:
        """The words of an instruction in exec form, which needs no shell."""
        (text,) = self.all(instruction)
        return [str(word) for word in json.loads(text[text.index("[") :])]


def stages(path: Path = DOCKERFILE) -> list[Stage]:
    """The stages in their order; what stands above the first is left out."""
    text = re.sub(r"^#.*\n", "", path.read_text(), flags=re.MULTILINE)
    found: list[Stage] = []
    for line in re.sub(r"\\\n\s*", " ", text).splitlines():
        name, _, rest = line.strip().partition(" ")
        if name == "FROM":
            found.append(Stage(rest))
        elif name and found:
            found[-1].instructions.append((name, rest))
    return found
