"""A verifier of the products in products.jsonl, for --verify: it computes, and knows no answers."""


def check(question, answer):
    a, b = (int(part) for part in question.rstrip("= ").split("*"))
    return True if answer == str(a * b) else f"{answer} is not {a} times {b}"
