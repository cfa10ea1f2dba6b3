"""The documentation stays short, and its docstrings begin with what they say."""

import words


def test_pages_have_no_more_words_than_a_reader_has_time_for():
    assert 5_000 < sum(words.words().values()) <= words.MAX_WORDS


def test_docstrings_begin_with_a_verb_or_a_noun():
    assert len(words.beginnings()) > 2_000
    assert words.share() < words.MAX_SHARE
