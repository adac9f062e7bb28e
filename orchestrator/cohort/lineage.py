"""Who has seen whom: every fitted thing carries the people it learnt from, and a fold refuses what saw its test person.

A lineage is a set of (cohort, pseudonym) pairs and the parents it came through, so that an encoder that saw a person
in one part of a data set is refused for that person in another.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from orchestrator.errors import LineageError, UserError
from orchestrator.files.storage import hash_all


@dataclass(frozen=True)
class Lineage:
    """artefact: what it is, in words; people: "cohort/pseudonym" it saw itself; parents: what it was made from.

    proven: False where nobody knows who was seen (a public checkpoint): results become "unproven".
    """

    artefact: str
    people: frozenset[str] = frozenset()
    parents: tuple["Lineage", ...] = field(default=())
    proven: bool = True

    def everyone(self) -> frozenset[str]:
        return self.people.union(*(parent.everyone() for parent in self.parents))

    def is_proven(self) -> bool:
        return self.proven and all(parent.is_proven() for parent in self.parents)

    def way_to(self, person: str) -> list[str] | None:
        """The chain of artefacts through which `person` got in, outermost first; None if unseen."""
        if person in self.people:
            return [self.artefact]
        for parent in self.parents:
            way = parent.way_to(person)
            if way:
                return [self.artefact, *way]
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


def person_key(cohort: str, pseudonym: str) -> str:
    return f"{cohort}/{pseudonym}"


def guard(test_people: Iterable[str], used: Iterable[Lineage]) -> None:
    """Raise LineageError if anything in `used` has seen one of `test_people`, naming the artefact and the way in."""
    used = list(used)
    for person in test_people:
        for lineage in used:
            way = lineage.way_to(person)
            if way:
                raise LineageError(f"Test person {person} has been seen by {' <- '.join(way)}: use an encoder or setting "
                                   "that has not, or protocol=as_paper, which is stamped leaky.")


def check_roles(test: Iterable[int], train: Iterable[int], val: Iterable[int], leaky: bool) -> None:
    """Nobody in two roles. Raises UserError."""
    test, train, val = set(test), set(train), set(val)
    twice = (test & train) | (train & val) | (set() if leaky else test & val)
    if twice:
        raise UserError(f"People {sorted(twice)} stand in two roles of one fold: the split is wrong.")
