"""Writes the rows that docs/results.md was measured with, out of public data sets that lie on the disk.

rows.py text GSM8K_TRAIN.jsonl WIKITEXT2_VALID.txt SHAKESPEARE.txt TINYSTORIES.txt   ->  train.jsonl, held.jsonl (the base model's text)
rows.py questions LLM_ADAPTERS_DATASET_FOLDER                                        ->  qa-train.jsonl, qa-held.jsonl (the comparisons' rows)

Python, because its random.Random(1) orders the rows; nothing else of the project needs it.
"""
import json
import random
import re
import sys

PIECE_CHARACTERS = 1500
HELD_OUT_EVERY = 20
HELD_OUT_QUESTIONS = 300


def pieces(text):
    return [text[i : i + PIECE_CHARACTERS] for i in range(0, len(text), PIECE_CHARACTERS)]


def write(name, rows):
    with open(name, "w") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)
    print(name, len(rows), "rows")


def text_rows(gsm8k, wikitext, shakespeare, stories):
    questions = [json.loads(line) for line in open(gsm8k)]
    articles = re.split(r"\n\s*= [^=].*? =\s*\n", open(wikitext).read())
    sources = [
        [f"Question: {row['question']}\nAnswer: {re.sub(r'<<.*?>>', '', row['answer'])}" for row in questions],
        [piece for article in articles for piece in pieces(article.strip())],
        pieces(open(shakespeare).read()),
        [story.strip() for story in open(stories).read().split("<|endoftext|>")],
    ]
    train, held = [], []
    for source in sources:
        for i, document in enumerate(document for document in source if document.strip()):
            (held if i % HELD_OUT_EVERY == HELD_OUT_EVERY - 1 else train).append(document)
    random.Random(1).shuffle(train)
    write("train.jsonl", [{"text": document} for document in train])
    write("held.jsonl", [{"text": document} for document in held])


def question_rows(folder):
    splits = {"train": [], "test": []}
    for task in ["boolq", "ARC-Easy", "ARC-Challenge", "openbookqa"]:
        for split, rows in splits.items():
            for row in json.load(open(f"{folder}/{task}/{split}.json")):
                rows.append({"instruction": row["instruction"], "input": "", "output": row["output"]})
    for rows in splits.values():
        random.Random(1).shuffle(rows)
    write("qa-train.jsonl", splits["train"])
    write("qa-held.jsonl", splits["test"][:HELD_OUT_QUESTIONS])


if __name__ == "__main__":
    if len(sys.argv) == 6 and sys.argv[1] == "text":
        text_rows(*sys.argv[2:])
    elif len(sys.argv) == 3 and sys.argv[1] == "questions":
        question_rows(sys.argv[2])
    else:
        sys.exit(__doc__)
