"""What is refused of a member of an archive, and what is not."""

import zipfile

import pytest

from eightfold.raw import archives


@pytest.mark.parametrize(
    "name", ["../a", "a/../../b", "/a", "\\a", "..\\a", "C:/a", "./c:a", "..", ".", "/", "", "a\0b"]
)
def test_a_name_that_leads_out_is_refused(name):
    assert archives.refusal(name, False, False) == "would leave its folder"


@pytest.mark.parametrize("name", ["a", "a/b.png", "./a", "a..b/..c", "a\\b", "12:30.png", "犬/C:x"])
def test_a_name_that_stays_is_not(name):
    assert archives.refusal(name, False, False) == ""
    assert "link" in archives.refusal(name, True, False) and "encrypted" in archives.refusal(name, False, True)


@pytest.mark.parametrize(
    "mode, fine", [(0, True), (0o100644, True), (0o040755, True), (0o120777, False), (0o020666, False)]
)
def test_links_and_devices_of_a_zip_are_refused(mode, fine):
    member = zipfile.ZipInfo("a")
    member.external_attr = mode << 16
    assert (archives.zip_refusal(member) == "") == fine


def test_a_bomb_is_too_large_or_packs_too_well():
    small, limit = archives.SMALL, 2**30
    assert (
        archives.bomb(small, 1, limit)
        == archives.bomb(small + 1, small, limit)
        == archives.bomb(limit, limit, limit)
        == ""
    )
    assert "zip bomb" in archives.bomb(small + 1, 1, limit) and "zip bomb" in archives.bomb(limit + 1, limit, limit)
