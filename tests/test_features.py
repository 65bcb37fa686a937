"""docs/FEATURES.md promises a test for every feature; the promise is checked by reading, not by running."""

from tests.documents import ROOT, TEST_ID, missing_tests, rows_of

TEXT = (ROOT / "docs" / "FEATURES.md").read_text(encoding="utf-8")


def test_every_row_names_a_test() -> None:
    assert [row[0] for row in rows_of(TEXT) if not TEST_ID.search(row[-1])] == []


def test_every_test_that_a_row_names_exists() -> None:
    assert list(missing_tests(TEXT)) == []


def test_no_feature_is_listed_twice() -> None:
    features = [row[0] for row in rows_of(TEXT)]

    assert sorted(set(features)) == sorted(features)


def test_there_is_something_to_check() -> None:
    assert len(rows_of(TEXT)) > 20
