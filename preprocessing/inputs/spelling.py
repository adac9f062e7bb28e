"""Find names that may be spellings of one name: export tools write S7, S07, S-7 and "S 7" for one subject."""

import re
import unicodedata
from collections.abc import Iterable
from decimal import Decimal, InvalidOperation

# Letters of other scripts that look like Latin ones (a selection of Unicode's confusables); NFKC handles wide, circled, bold.
_ALIKE = str.maketrans(
    "АВСЕНІЈКМОРЅТХУԌԚԜЗҮ" "асеһіјкорѕхуԁԛԝѵзүӏ" "ΑΒΕΖΗΙΚΜΝΟΡΤΥΧ" "αοορνικυγχϲ" "օսհոցՏՕԼ" "ıɑɡøØłŁđĐʟɪʙɢʜɴʀʏ"
    "ᴀᴄᴅᴇᴊᴋᴍᴏᴘꜱᴛᴜᴠᴡᴢ" "ᎪᏴᏟᎠᎬᏀᎻᎫᏦᏞᎷᏢᎡᏚᎢᏙᏔᏃ",
    "ABCEHIJKMOPSTXYGQW3Y" "acehijkopsxydqwv3yl" "ABEZHIKMNOPTYX" "aoopvikuyxc" "ouhngSOL" "iagoOlLdDlibghnry"
    "acdejkmopstuvwz" "ABCDEGHJKLMPRSTVWZ")
_ROUND = str.maketrans({"l": "1", "I": "1", "|": "1", "O": "0", "o": "0"})
_UNSEEN = "\u115f\u1160\u3164\uffa0\u2800\u034f"  # invisible letters and symbols; those of category Cf are found by it
_PARTS = re.compile(r"\d+|[^\W\d_]+|[^\w\s]")
_EXPONENT = re.compile(r"[+-]?\d+(?:\.\d*)?(?:[eE][+-]?\d{1,3})?|[+-]?\d{1,3}(?:,\d{3})+")


def spellings(name: str, signs: bool = False) -> set[tuple]:
    """Normal forms of `name`: two names that share one may be two spellings of one name.

    Case, Unicode form, blanks, separators, invisible characters, leading zeros, ".0", accents on Latin letters and letters
    or digits that look alike make no difference. signs (for classes and channels): a leading or trailing + or - makes a
    difference, and letters are not taken for digits.
    """
    text = alike = name
    if not name.isascii():
        text = unicodedata.normalize("NFKC", name)
        text = "".join(_digit(c) for c in text if c not in _UNSEEN and unicodedata.category(c) != "Cf")
        alike = text.translate(_ALIKE)
    forms = {_parts(text, signs), _parts(alike, signs)}
    if not signs:  # channels and classes are words: P3 and PO3 are different electrodes
        forms.add(_parts(alike.translate(_ROUND), signs))
    whole = alike.strip()
    if _EXPONENT.fullmatch(whole):
        try:
            value = Decimal(whole.replace(",", ""))
            if value == value.to_integral_value():
                forms.add((str(int(value)),))
        except (InvalidOperation, ValueError):
            pass  # too large a number to be an id
    return forms


def _digit(char: str) -> str:
    value = unicodedata.decimal(char, None)
    return char if value is None else str(value)


def _parts(text: str, signs: bool) -> tuple:
    """Runs of letters, runs of digits, and symbols. Separators are dropped, but two separate numbers stay separate."""
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
    if signs or not found:  # a name of separators only is kept as it is
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
    """Groups of names that may be spellings of one name, in order of appearance; no group has a single name."""
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
    """The names of a group for the terminal; characters that look alike are also written as escapes."""
    words = [repr(name) if repr(name) == ascii(name) else f"{name!r} (= {name!a})" for name in group]
    return " and ".join(words)
