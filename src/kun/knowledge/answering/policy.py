"""Every constant of answering, in one record."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Policy:
    """The constants that an `Answerer` goes by."""

    found: int = 12
    """Passages that are searched for; they lead to the sections that are shown."""
    shown_tokens: int = 1100
    """Tokens of documents in a prompt, some two pages: read in about 1 s by 0.5B, 3 s by 1.5B on two cores."""
    first_share: float = 0.6
    """Share of these tokens that the best section may fill, so that a second document has room."""
    next_share: float = 0.4
    """Share that each later section may fill."""
    shown_passages: int = 4
    """Sections at most: further ones distract a small model more than they help."""
    close: float = 0.35
    """Score, as a share of the best one, below which a passage is not shown."""
    answer_tokens: int = 220
    """Tokens of an answer."""
    answer_sentences: int = 8
    """Sentences of an answer, list items not counted."""
    carried: float = 0.5
    """Share of what a sentence adds to its question that one unit, with its neighbours, must have."""
    own: float = 0.45
    """Part of that share that the unit itself must have, without its neighbours."""
    repeated: float = 0.75
    """Share of its terms that a unit must have to carry a sentence that only repeats its question."""
    strict: float = 0.75
    """Share of a sentence's terms that one unit must have where it is in doubt that the documents answer."""
    nearest: int = 1
    """Units nearest to a question in meaning that may answer it without one of its words."""
    asked: float = 0.5
    """Share of a question's terms in one unit from which another one, that has none of them, does not answer it."""
    corrects: float = 0.3
    """Share of the terms of a yes-or-no question from which a unit that denies something is its correction."""
    near: float = 0.45
    """Nearness in meaning that counts as all words of a sentence, where unit and sentence differ in language."""
    same_statement: float = 0.6
    """Share of a sentence's terms from which a unit says the same or its opposite."""
    as_near: float = 0.1
    """Units whose shares differ by no more make the same statement equally well."""
    again: int = 4
    """Units that a model is pointed to when its first answer failed."""
    quotes: int = 3
    """Units that are quoted at most, a list counting as one."""
    quoted_words: int = 90
    """Words (Chinese characters and pairs counted too) of all quotes together."""
    likely: float = 0.01
    """Probability below which the documents are taken not to answer, and the model is not asked at all.

    Of 150 questions about an office, the handbook and other short documents five that can be answered and four that
    cannot lie between 0.01 and 0.05, one that cannot below. With the strict checks below `doubtful` the 1.5B model
    answers at 0.01 one more right than at 0.05; three of those four were tried, and it declines them.
    """
    doubtful: float = 0.1
    """Probability below which the checks are strict."""
    insist: float = 0.5
    """Probability from which a model that writes that the documents do not say is asked once more."""
    sure: float = 0.9
    """Probability from which units are quoted where no answer of the model's passes."""
    doubt: tuple[float, float] = (0.1, 0.6)
    """Between these the model is asked how likely the question is: beyond, that changed no decision, and takes time."""
    at_home: float = 0.4
    """Probability from which documents in a question's own language answer it, and no other language is tried."""
    rival: float = 0.4
    """Score of a passage in the other language, as a share of the best of its own, from which it may be the answer."""
    likely_across: float = 0.08
    """As `likely`, for documents in the other language, by all three signs."""
    nearer: float = 1.3
    """Times by which the odds of an answer must be better in the other language: translating loses something."""
    longest_translated: int = 400
    """Characters of a question that is put into the other language."""
    translation_tokens: int = 96
    """Tokens of a question's translation."""
    longest_question: int = 4000
    """Characters of a question."""
    checked_identifiers: int = 8
    """Identifiers of a question that are looked for word for word, the first ones: each takes up to four searches."""
    named: int = 3
    """Passages that hold an identifier of the question which are looked at, however little else they share with it."""
    history_turns: int = 4
    """Turns of the conversation that a follow-up is completed from."""


POLICY = Policy()
