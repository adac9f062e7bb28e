"""Lineage: every fitted artefact records its training subjects, and a fold stops if one of them is its test subject.

A lineage is a set of (cohort, pseudonym) pairs and the lineages of its parents. So an encoder that was trained on a subject
in one part of a data set cannot be used to test this subject in another part.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from orchestrator.errors import LineageError, UserError
from orchestrator.files.storage import hash_all


@dataclass(frozen=True)
class Lineage:
    """artefact: what it is, in words; people: "cohort/pseudonym" of its own training subjects; parents: what it was made from.

    proven: False if the training subjects are not known (a public checkpoint); results become "unproven".
    """

    artefact: str
    people: frozenset[str] = frozenset()
    parents: tuple["Lineage", ...] = field(default=())
    proven: bool = True

    def everyone(self) -> frozenset[str]:
        return self.people.union(*(parent.everyone() for parent in self.parents))

    def is_proven(self) -> bool:
        return self.proven and all(parent.is_proven() for parent in self.parents)

    def chain_to(self, subject: str) -> list[str] | None:
        """The chain of artefacts through which `subject` leaked in, outermost first; None if it is not in the lineage."""
        if subject in self.people:
            return [self.artefact]
        for parent in self.parents:
            chain = parent.chain_to(subject)
            if chain:
                return [self.artefact, *chain]
        return None

    def to_json(self) -> dict:
        return {"artefact": self.artefact, "people": sorted(self.people), "proven": self.proven,
                "parents": [parent.to_json() for parent in self.parents]}

    @classmethod
    def from_json(cls, value: dict) -> "Lineage":
        return cls(value["artefact"], frozenset(value["people"]), tuple(map(cls.from_json, value["parents"])),
                   value["proven"])

    def sha256(self) -> str:
        return hash_all([self.artefact, str(self.proven), *sorted(self.people), *(p.sha256() for p in self.parents)])


def subject_key(cohort: str, pseudonym: str) -> str:
    return f"{cohort}/{pseudonym}"


def guard(test_subjects: Iterable[str], used: Iterable[Lineage]) -> None:
    """Raises LineageError if a lineage in `used` includes a test subject; the message shows the chain of artefacts."""
    used = list(used)
    for subject in test_subjects:
        for lineage in used:
            chain = lineage.chain_to(subject)
            if chain:
                raise LineageError(f"Test subject {subject} leaked into training through {' <- '.join(chain)}: use an encoder "
                                   "or setting without this subject, or protocol=as_paper, which is marked as leaky.")


def check_roles(test: Iterable[int], train: Iterable[int], val: Iterable[int], leaky: bool) -> None:
    """Raises UserError if a subject has two roles."""
    test, train, val = set(test), set(train), set(val)
    overlap = (test & train) | (train & val) | (set() if leaky else test & val)
    if overlap:
        raise UserError(f"Subjects {sorted(overlap)} have two roles in one fold: correct the split.")
