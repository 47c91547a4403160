"""Classes that may be one, or none: named with their counts, and classes all the same."""

import logging
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from miniatures import encoded, put, table

from eightfold.config.resolve import resolve
from eightfold.raw import manifest
from eightfold.raw.class_names import alike, meaning

ONE = [
    ["caf\u00e9", "cafe\u0301"],
    ["True", "true"],
    ["0", "0.0", "00", "0e3"],
    ["cat", "cat ", "Cat"],
    ["new pot", "new  pot", "new\tpot"],
    ["\uff11", "1"],  # a full-width digit
    ["Stra\u00dfe", "STRASSE"],
]
OTHERS = [["ant", "bee"], ["1", "10"], ["12345678901234567890", "12345678901234567891"], ["nan", "0"], ["a b", "ab"]]


@pytest.mark.parametrize("names", ONE)
def test_spellings_of_one_class_are_one_group(names):
    assert alike(dict.fromkeys(["another", *names], 1)) == [names]


@pytest.mark.parametrize("names", OTHERS)
def test_different_classes_are_no_group(names):
    assert alike(dict.fromkeys(names, 1)) == []


@given(st.text("aB 1.e\u00e9\u00df\u0301", max_size=8))
def test_upper_case_and_spaces_never_change_what_a_name_means(name):
    assert meaning(f"  {name}\t") == meaning(name) == meaning(name.swapcase().swapcase())
    assert meaning(name.upper()) == meaning(name)


def test_the_manifest_names_them_with_counts_and_keeps_them_as_classes(tmp_path, caplog):
    labels = ["caf\u00e9"] * 3 + ["cafe\u0301"] * 2 + ["NaN", "NaN", "None", "bar"]
    for number in range(len(labels)):
        put(tmp_path / "train" / f"{number}.png", encoded(number % 3, number))
    table(tmp_path / "labels.csv", ["id", "label"], enumerate(labels))
    data = resolve({"data": {"source": "csv", "root": str(tmp_path), "suffix": ".png"}})["data"]
    with caplog.at_level(logging.INFO, "eightfold"):
        found = manifest.build(data)
    assert found.info["classes"] == sorted(set(labels))
    spellings, missing = (message for message in caplog.messages if message.startswith("Warning"))
    assert re.search(r"1 groups .*data\.labels", spellings)
    assert r"'cafe\u0301' (2 images), 'caf\xe9' (3 images)" in spellings
    assert missing.startswith("Warning: 2 classes") and "\n  'NaN' (2 images)\n  'None' (1 images)" in missing


def test_plain_names_are_not_warned_of(tmp_path, caplog):
    for number in range(4):
        put(tmp_path / "train" / f"kind {number % 2}" / f"{number}.png", encoded(number % 2, number))
    data = resolve({"data": {"source": "folders", "root": str(tmp_path)}})["data"]
    with caplog.at_level(logging.INFO, "eightfold"):
        manifest.build(data)
    assert "Warning" not in caplog.text
