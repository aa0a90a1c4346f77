"""What words mean as splits, and what they must not be taken for."""

import pytest

from pawprint.sources.splits import UNLABELLED, flag_of, is_container, meaning_of, split_of_flag

WORDS = {
    "train": "train Training training_set TRN seg_train Train-Images trainLabels train2017 "
    "trainset X_train train.csv train_val trainval 01_train TrainSet Training-Data train_small",
    "valid": "valid Validation VAL dev val2017 validation-set val_images DevSet x_val valid_data",
    "test": "test TESTING test_set TestSet seg_test test1 tst Test-Images test_resized testset",
    UNLABELLED: "seg_pred predict predictions unlabeled Unlabelled images_unlabelled",
    "": "train_station trainer tester latest contest value valley evaluation developer attest cat "
    "trening 3 images tests2train train_test élève training_shoes pretrained '' -",
}


@pytest.mark.parametrize(
    ("word", "meaning"),
    [(word, meaning) for meaning, words in WORDS.items() for word in words.split()],
)
def test_a_word_means_a_split_in_any_case_and_dress(word: str, meaning: str):
    assert meaning_of(word.removesuffix(".csv")) == meaning


@pytest.mark.parametrize("name", ["images", "IMG", "JPEGImages", "photos", "data"])
def test_a_folder_of_pictures_may_say_nothing_of_its_class(name: str):
    assert is_container(name)
    assert not meaning_of(name)


@pytest.mark.parametrize(
    ("column", "cell", "split"),
    [
        ("is_valid", "True", "valid"),
        ("is_valid", "0", "train"),
        ("isTest", "yes", "test"),
        ("IS TEST", "No", "train"),
        ("is_training_image", "1", "train"),
        ("is_training_image", "0", "test"),
        ("is_validation", "1.0", "valid"),
        ("is_valid", "maybe", ""),
        ("is_valid", "2", ""),
    ],
)
def test_yes_and_no_are_splits(column: str, cell: str, split: str):
    assert split_of_flag(flag_of(column), cell) == split


@pytest.mark.parametrize("column", ["valid", "is_cat", "island", "is", "is_trained"])
def test_other_columns_of_yes_and_no_are_no_splits(column: str):
    assert not flag_of(column)
