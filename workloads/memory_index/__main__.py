"""Ask an index: `python -m workloads.memory_index INDEX QUESTION`."""

import argparse
import sys
from pathlib import Path

from rich.console import Console
from rich.text import Text

from .searching import MemoryIndex, NoIndex, Scope
from .writing import WrongEmbedder


def main() -> int:
    """Print the answer and the passages that it comes from. Exit 1 when nothing is found, 2 when there is no index."""
    parser = argparse.ArgumentParser(prog="python -m workloads.memory_index", description="Ask a memory index.")
    parser.add_argument("index", type=Path, help="the index directory")
    parser.add_argument("question", nargs="+")
    parser.add_argument("--person", help="search one person's memories only")
    parser.add_argument("--abandoned", action="store_true", help="search abandoned branches of conversations too")
    asked = parser.parse_args()
    console = Console(highlight=False)
    try:
        answer = MemoryIndex(asked.index).ask(" ".join(asked.question), scope=Scope(asked.person, asked.abandoned))
    except (NoIndex, WrongEmbedder) as error:
        console.print(Text(str(error)), style="red")
        return 2
    if not answer.hits:
        console.print("Nothing was found.")
        return 1
    console.print(Text(answer.text or "(no sentence answers it)"), style="bold")
    for hit in answer.hits:
        ranks = f"words {hit.word_rank or '-'}, vectors {hit.vector_rank or '-'}"
        console.print(Text(f"\n{hit.passage.id}  ({ranks})"), style="dim")
        console.print(Text(" ".join(hit.passage.text.split())[:300]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
