"""When two names could be one thing spelt twice: tools that export recordings write S7, S07, S-7 and "S 7" for one person."""

import re
import unicodedata
from collections.abc import Iterable
from decimal import Decimal, InvalidOperation

# Letters of other scripts that print as Latin ones (a selection of Unicode's confusables); NFKC knows the wide, circled, bold.
_ALIKE = str.maketrans(
    "АВСЕНІЈКМОРЅТХУԌԚԜЗҮ" "асеһіјкорѕхуԁԛԝѵзүӏ" "ΑΒΕΖΗΙΚΜΝΟΡΤΥΧ" "αοορνικυγχϲ" "օսհոցՏՕԼ" "ıɑɡøØłŁđĐʟɪʙɢʜɴʀʏ"
    "ᴀᴄᴅᴇᴊᴋᴍᴏᴘꜱᴛᴜᴠᴡᴢ" "ᎪᏴᏟᎠᎬᏀᎻᎫᏦᏞᎷᏢᎡᏚᎢᏙᏔᏃ",
    "ABCEHIJKMOPSTXYGQW3Y" "acehijkopsxydqwv3yl" "ABEZHIKMNOPTYX" "aoopvikuyxc" "ouhngSOL" "iagoOlLdDlibghnry"
    "acdejkmopstuvwz" "ABCDEGHJKLMPRSTVWZ")
_ROUND = str.maketrans({"l": "1", "I": "1", "|": "1", "O": "0", "o": "0"})
_UNSEEN = "\u115f\u1160\u3164\uffa0\u2800\u034f"  # letters and symbols that print nothing; Cf goes by its category
_PARTS = re.compile(r"\d+|[^\W\d_]+|[^\w\s]")
_EXPONENT = re.compile(r"[+-]?\d+(?:\.\d*)?(?:[eE][+-]?\d{1,3})?|[+-]?\d{1,3}(?:,\d{3})+")


def spellings(name: str, signs: bool = False) -> set[tuple]:
    """Forms of `name`: two names that share one could be one thing twice.

    Case, Unicode form, blanks, separators, what prints nothing, leading zeros, ".0", accents on Latin letters and letters
    or digits that look alike make no difference. signs: a + or - in front or behind does, and a letter is no digit (classes,
    channels).
    """
    text = alike = name
    if not name.isascii():
        text = unicodedata.normalize("NFKC", name)
        text = "".join(_digit(c) for c in text if c not in _UNSEEN and unicodedata.category(c) != "Cf")
        alike = text.translate(_ALIKE)
    forms = {_parts(text, signs), _parts(alike, signs)}
    if not signs:  # channels and classes are words: P3 and PO3 are two electrodes
        forms.add(_parts(alike.translate(_ROUND), signs))
    whole = alike.strip()
    if _EXPONENT.fullmatch(whole):
        try:
            value = Decimal(whole.replace(",", ""))
            if value == value.to_integral_value():
                forms.add((str(int(value)),))
        except (InvalidOperation, ValueError):
            pass  # a number beyond all ids
    return forms


def _digit(char: str) -> str:
    value = unicodedata.decimal(char, None)
    return char if value is None else str(value)


def _parts(text: str, signs: bool) -> tuple:
    """Runs of letters and of digits, and symbols. What separates them is not kept; that two numbers are separate is."""
    text = text.casefold()
    if not text.isascii():
        text = _without_accents(unicodedata.normalize("NFKC", text))
    text = re.sub(r"(?<=\d)[.,]0+$", "", text.strip())
    found = []
    for part in _PARTS.findall(text):
        if part.isdecimal():
            found.append(part.lstrip("0") or "0")
        elif not part[0].isalpha() and unicodedata.category(part[0])[0] not in "SM":
            continue
        elif found and found[-1][-1].isalpha() and part[0].isalpha():
            found[-1] += part
        else:
            found.append(part)
    if signs or not found:  # a name of separators alone is that name
        ends = [sign for sign in (text[:1], text[-1:]) if sign and unicodedata.category(sign) in ("Pd", "Sm")]
        return (*found, *ends) if found else (text,)
    return tuple(found)


def _without_accents(text: str) -> str:
    kept: list[str] = []
    for char in unicodedata.normalize("NFD", text):
        if not (kept and kept[-1].isascii() and kept[-1].isalpha() and unicodedata.category(char) == "Mn"):
            kept.append(char)
    return unicodedata.normalize("NFC", "".join(kept))


def groups(names: Iterable[str], signs: bool = False) -> list[list[str]]:
    """The names that could be one thing, together; each group in order of appearance, none of a single name."""
    first: dict[tuple, str] = {}
    leader: dict[str, str] = {}

    def head(name: str) -> str:
        while leader[name] != name:
            name = leader[name]
        return name

    for name in dict.fromkeys(names):
        leader[name] = name
        for form in spellings(name, signs):
            other = head(first.setdefault(form, name))
            leader[head(name)] = other
    found: dict[str, list[str]] = {}
    for name in leader:
        found.setdefault(head(name), []).append(name)
    return [group for group in found.values() if len(group) > 1]


def shown(group: Iterable[str]) -> str:
    """The names of a group for a terminal; what looks alike is written out."""
    words = [repr(name) if repr(name) == ascii(name) else f"{name!r} (= {name!a})" for name in group]
    return " and ".join(words)
