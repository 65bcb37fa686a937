"""Five questions with known answers: where each passage comes from and words that it must contain.

The words stand in the documentation of Python 3.11 to 3.14 alike, and in conversations.json.
"""

from dataclasses import dataclass

from workloads.memory_index.searching import Hit


@dataclass(frozen=True, slots=True)
class Question:
    """`text` must find, in the top three, a passage of a document whose id begins with `document` that contains `words`."""

    text: str
    document: str
    words: str

    def rank_in(self, hits: tuple[Hit, ...]) -> int:
        """Return the place of the known passage among `hits`, from 1; 0 when it is not there."""
        for rank, hit in enumerate(hits, 1):
            if hit.passage.document_id.startswith(self.document) and self.words in " ".join(hit.passage.text.split()):
                return rank
        return 0


QUESTIONS = (
    Question(
        "When are default parameter values evaluated?",
        "python/topics/",
        "Default parameter values are evaluated from left to right",
    ),
    Question("How is a chained comparison evaluated?", "python/topics/", "Comparisons can be chained arbitrarily"),
    Question(
        "Which module implements the heap queue algorithm, a priority queue?",
        "python/modules/heapq",
        "Heap queue algorithm",
    ),
    Question("How can I compare two texts and compute a delta?", "python/modules/difflib", "computing deltas"),
    Question("Which restaurant did we choose for the anniversary dinner?", "ada/", "We chose Marisqueira do Miradouro"),
)
