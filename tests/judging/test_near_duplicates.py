"""Near duplicates form groups."""

from pawprint.judging.near_duplicates import find_groups


def test_near_duplicates_share_a_group_and_unrelated_pictures_do_not():
    hashes = ["0000000000000000", "00000000000000ff", "000000000000000f", "ffffffffffffffff"]
    assert find_groups(hashes, [""] * 4, 4) == [0, 0, 0, 3]
    assert find_groups(hashes, [""] * 4, 3) == [0, 1, 2, 3]
    assert find_groups(hashes, ["", "day", "", "day"], 3) == [0, 1, 2, 1]
