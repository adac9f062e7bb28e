"""Names that may be spellings of one name are found; different names are not."""

import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from preprocessing.errors import InputError
from preprocessing.inputs.paths import check_distinct, check_name
from preprocessing.inputs.spelling import groups, shown

PROPERTY = settings(max_examples=300, deadline=None, derandomize=True, database=None)
ONE = [("7", "07", "7.0", "7,00", "007", " 7", "７", "٧", "7\u200b", "7e0"), ("S1", "S01", "S_1", "S-1", "S 1", "S\u00a01"),
       ("Anna", "АNNА", "Ａｎｎａ", "an\u00adna", "An na", "𝐀nna"), ("Zoë", "Zoe", "Zoe\u0308"), ("P10", "PlO", "P1O", "PI0"),
       ("3", "З"), ("ΡΑ4", "PA4"), ("100000", "1e5", "1E+05", "100,000"), ("P\u3164", "P"),
       ("Łukasz", "lukasz")]
TWO = [("1_11", "11_1", "111"), ("AI", "AL"), ("1.1", "1.10", "11"), ("S1", "S10", "S11"), ("7", "70", "17"), ("कि", "की"),
       ("+", "-"), ("P1", "R1"), ("BL1-081", "BL10-81", "PA1-081")]


@pytest.mark.parametrize("names", ONE)
def test_spellings_of_one_name(names):
    assert groups(names) == [list(names)]


@pytest.mark.parametrize("names", TWO)
def test_two_different_names(names):
    assert groups(names) == []


def test_a_sign_distinguishes_classes_but_not_subjects():
    assert groups(["-1", "1"], signs=True) == groups(["calm+", "calm-"], signs=True) == []
    assert groups(["-1", "1"]) == [["-1", "1"]]


def test_a_letter_and_a_digit_distinguish_channels_but_not_subjects():
    tens = ["P3", "PO3", "P4", "PO4", "O1", "Oz", "P7", "PO7", "PO8", "P8"]
    assert groups(tens, signs=True) == [] and groups(["P3", "PO3"]) == [["P3", "PO3"]]
    assert groups(["P3", "p 3"], signs=True) == [["P3", "p 3"]]


LETTERS = dict(zip("aceopxyABEHKMOPTX", "асеорхуАВЕНКМОРТХ", strict=True))
SEPARATORS = st.sampled_from(["", "_", "-", " ", ".", "\u00a0", "\u2009", "\u200b", "\u2010", "\ufeff"])


@PROPERTY
@given(st.text(string.ascii_letters, min_size=1, max_size=6), st.integers(0, 99999), st.data())
def test_a_name_changed_by_an_export_tool_is_recognised(letters, number, data):
    spelt = "".join(LETTERS.get(c, c) if data.draw(st.booleans()) else c for c in letters)
    if data.draw(st.booleans()) and spelt.isascii():
        spelt = spelt.swapcase()
    digits = "0" * data.draw(st.integers(0, 3)) + str(number)
    if data.draw(st.booleans()):
        digits = "".join(chr(0xFF10 + int(d)) for d in digits)
    spelt += data.draw(SEPARATORS) + digits + data.draw(SEPARATORS)
    names = [f"{letters}{number}", spelt]
    assert len(set(names)) == 1 or groups(names) == [names]
    if names[0] != names[1]:
        with pytest.raises(InputError, match="may be one subject spelt in two ways"):
            check_distinct(names, "subject", "here")
        check_distinct(names, "subject", "here", differ=names)


@PROPERTY
@given(st.sets(st.integers(0, 10**6), max_size=30), st.sampled_from(["", "S", "sub-", "P_"]))
def test_different_numbers_are_different_names(numbers, prefix):
    assert groups(f"{prefix}{n:04d}" for n in numbers) == []


def test_the_list_shows_look_alike_characters():
    with pytest.raises(InputError) as info:
        check_distinct(["b", "Anna", "Аnna", "B"], "subject", "file")
    assert "'b' and 'B'" in str(info.value) and "(= '\\u0410nna')" in str(info.value) and "\n" not in str(info.value)
    assert shown(["a", "b"]) == "'a' and 'b'"
    with pytest.raises(InputError):  # one of three rows is not marked
        check_distinct(["7", "07", "7.0"], "subject", "file", differ=["7", "07"])


@pytest.mark.parametrize("name", ["nan", "NaN", "NA", "None", "#N/A", "<NA>"])
def test_a_missing_value_is_not_a_name(name):
    with pytest.raises(InputError, match="missing value"):
        check_name(name, "row 1")
