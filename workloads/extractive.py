"""The honest local model: it writes nothing of its own, it picks the sentences of given texts that fit a question best.

What it says is always somewhere in the texts, word for word. It does not understand, combine or conclude; a deployment
that needs that sets PERDURE_MODEL_URL and PERDURE_MODEL_KEY.
"""

import re
from collections.abc import Sequence

from sklearn.feature_extraction.text import TfidfVectorizer

_PARAGRAPH = re.compile(r"\n\s*\n")
_SENTENCE_END = re.compile(r"(?<=[.!?])[\"')\]]*\s+(?=[\"'(\[*`]*[A-Z0-9])")
_WORD = re.compile(r"[A-Za-z]{2,}")
_FEWEST_WORDS = 4
_TOO_ALIKE = 0.6
_WORTH_SAYING = 0.3  # of the best sentence's likeness


def split_sentences(text: str) -> list[str]:
    """Split prose into sentences; a paragraph's end ends a sentence too."""
    sentences = []
    for paragraph in _PARAGRAPH.split(text):
        joined = " ".join(paragraph.split())
        sentences += [sentence for sentence in _SENTENCE_END.split(joined) if sentence]
    return sentences


def pick_sentences(question: str, texts: Sequence[str], at_most: int) -> tuple[str, ...]:
    """Return the sentences of `texts` (best text first) nearest to `question` by TF-IDF, leaving out repetitions."""
    candidates = [(sentence, 1 / rank) for rank, text in enumerate(texts, 1) for sentence in _statements(text)]
    if not candidates:
        return ()
    sentences = [sentence for sentence, _ in candidates]
    vectorizer = TfidfVectorizer(stop_words="english", sublinear_tf=True)
    try:
        rows = vectorizer.fit_transform(sentences)
    except ValueError:  # stop words only
        return ()
    likeness = (rows @ vectorizer.transform([question]).T).toarray().ravel() * [weight for _, weight in candidates]
    picked: list[int] = []
    for index in sorted(range(len(sentences)), key=lambda i: (-likeness[i], i)):
        least = likeness[picked[0]] * _WORTH_SAYING if picked else 0.0
        if likeness[index] <= least or len(picked) == at_most:
            break
        if all((rows[index] @ rows[other].T).sum() < _TOO_ALIKE for other in picked):
            picked.append(index)
    return tuple(sentences[index] for index in picked)


def _statements(text: str) -> list[str]:
    """Return the sentences that can answer something: not rules and headings, which are short in words, and not questions."""
    return [s for s in split_sentences(text) if len(_WORD.findall(s)) >= _FEWEST_WORDS and not s.endswith("?")]
