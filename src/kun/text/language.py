"""Which language a text is in: by its script, then, among those of the Latin script, by its small words."""

import re
from collections import Counter

_SAMPLE = 20_000  # characters looked at; more changes no answer

_SCRIPTS = {
    "zh": r"[\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff〇]",
    "ja": r"[\u3041-\u30ff\uff66-\uff9f]",
    "ko": r"[\uac00-\ud7af\u1100-\u11ff]",
    "ru": r"[\u0400-\u052f]+",
    "el": r"[\u0370-\u03ff]{2,}",
    "he": r"[\u0590-\u05ff]+",
    "ar": r"[\u0600-\u06ff]+",
    "hi": r"[\u0900-\u097f]+",
    "th": r"[\u0e00-\u0e7f]{1,6}",
}
_SCRIPT_PATTERNS = {language: re.compile(pattern) for language, pattern in _SCRIPTS.items()}
_LATIN_WORD = re.compile(r"[A-Za-z\u00c0-\u024f\u1e00-\u1eff]+")
_CHINESE_SMALL_WORDS = re.compile(r"[的了是吗呢吧么哪谁怎几多何这那在有和与或把被从对为用请]")

_SMALL_WORDS = {
    "en": "the of and to in is that it was for on are with as be at by this from or an not what how who"
    " when where why which does did do can has have had were been you your i my me we they their he"
    " she his her its if but",
    "de": "der die das und ist nicht ein eine einen dem den des zu von mit auf für im wie was wer wo sich"
    " es auch wird sind ich sie wir aus bei nach oder werden",
    "fr": "le la les des et est un une du de en que qui dans pour sur pas avec ce cette il elle nous vous"
    " au aux sont quel quelle comment où par plus ne se",
    "es": "el la los las de y es un una que en por para con del no se su al como qué cuál cómo más pero"
    " son está fue lo este esta",
    "it": "il lo la gli le di e è un una che in per con del della non si come sono dei nel alla più"
    " questo quale",
    "pt": "o a os as de e é um uma que em para com do da não se no na dos das como mais por são qual ao foi",
    "nl": "de het een en van is dat in op te niet met voor zijn aan er ook als bij wat hoe wie waar naar om",
    "vi": "là và của có được không cho một các những trong với này người như để khi",
}
_SMALL = {language: frozenset(words.split()) for language, words in _SMALL_WORDS.items()}


def language_of(text: str) -> str:
    """The ISO 639-1 code of the language of most of `text`: "zh", "en", "ja", …; "und" where no letter is.

    Names and terms in another script weigh less than the sentence around them:
    "GPT-2 和 BERT 的区别" is Chinese.
    """
    text = text[:_SAMPLE]
    counts = {language: len(pattern.findall(text)) for language, pattern in _SCRIPT_PATTERNS.items()}
    if counts["ja"] * 8 >= counts["zh"]:  # kana are what sets Japanese apart from Chinese
        counts["ja"], counts["zh"] = (counts["ja"] + counts["zh"], 0) if counts["ja"] else (0, counts["zh"])
    latin_language, latin_score = _latin(text)
    scores = {
        language: count * (0.5 if language in {"zh", "ja", "ko"} else 1.0)
        for language, count in counts.items()
    }
    if scores["zh"]:
        scores["zh"] += len(_CHINESE_SMALL_WORDS.findall(text))
    scores[latin_language] = latin_score
    best = max(scores, key=scores.__getitem__)
    return best if scores[best] > 0 else "und"


def is_chinese(text: str) -> bool:
    """`language_of(text) == "zh"`, at once where there is no Chinese character."""
    return _SCRIPT_PATTERNS["zh"].search(text, 0, _SAMPLE) is not None and language_of(text) == "zh"


def _latin(text: str) -> tuple[str, float]:
    """The likeliest language of the Latin words (English where no small word tells), and a weight."""
    words = Counter(word.lower() for word in _LATIN_WORD.findall(text))
    small = {
        language: sum(words[word] for word in known if word in words) for language, known in _SMALL.items()
    }
    best = max(small, key=small.__getitem__)
    if small[best] == small["en"]:
        best = "en"
    return best, small[best] + 0.5 * (words.total() - small[best])
