"""The steps for texts: each changes them, or says why a row is left out. Whole columns at a time."""

from __future__ import annotations

import polars as pl

from sextant_data_prep.domain.masking import mask
from sextant_shared.contracts.cleaning import Length, Mask, ScriptFilter, Step, Unicode

CLASSES = {
    "latin": r"\p{Latin}",
    "cyrillic": r"\p{Cyrillic}",
    "greek": r"\p{Greek}",
    "arabic": r"\p{Arabic}",
    "hebrew": r"\p{Hebrew}",
    "devanagari": r"\p{Devanagari}",
    "thai": r"\p{Thai}",
    "hangul": r"\p{Hangul}",
    "kana": r"\p{Hiragana}\p{Katakana}",
    "han": r"\p{Han}",
}
INVISIBLE = r"[\p{Cc}\u{FEFF}\u{200B}\u{00AD}&&[^\t\n\r\x0B\x0C\u{85}]]"
"""Control characters that are no white space, byte order marks, zero-width spaces and soft hyphens. Joiners stay:
Persian, Hindi and emoji are spelled with them."""
RUN = r"[\s\u{85}]{2,}|[^\S ]"
"""White space that is no single blank."""
PLAIN, ASCII = r"^(?:[!-~]+(?: [!-~]+)*)?$", r"^[\x00-\x7F]*$"
"""Texts that stay as they are, in every form: most of them, in many languages, and found at a fraction of the cost."""


def changed(texts: pl.Series, step: Step) -> pl.Series:
    """The texts after a step that changes them; as they are for one that does not."""
    match step:
        case Unicode():
            return _unicode(texts, step)
        case Mask():
            return mask(texts, step.kinds)
    return texts


def _unicode(texts: pl.Series, step: Unicode) -> pl.Series:
    rows = texts.str.contains(PLAIN if step.collapse else ASCII).not_().fill_null(value=False).arg_true()
    if not len(rows):
        return texts
    # `scatter` changes the series itself, and with it the frame that it is of.
    return texts.clone().scatter(rows, _spelled(texts.gather(rows), step))


def _spelled(texts: pl.Series, step: Unicode) -> pl.Series:
    normal = texts.str.normalize(step.form)
    if not step.collapse:
        return normal
    return normal.str.replace_all(INVISIBLE, "").str.replace_all(RUN, " ").str.strip_chars()


def reason(texts: pl.Series, step: Step) -> pl.Series | None:
    """For each row why a step leaves it out, null where it stays; None for a step that leaves out none."""
    match step:
        case Length():
            return _out_of_length(texts, step)
        case ScriptFilter():
            return _of_another_script(texts, step)
    return None


def _out_of_length(texts: pl.Series, step: Length) -> pl.Series:
    text = pl.col("text")
    chars, found = text.str.len_chars(), pl.lit(None, pl.String)
    if step.min_words > 1 or _may_exceed(texts, step.max_words):
        words = text.str.count_matches(r"\S+")
        found = pl.when(words < step.min_words).then(pl.lit(f"has under {step.min_words} words")).otherwise(found)
        if step.max_words is not None:
            found = pl.when(words > step.max_words).then(pl.lit(f"has over {step.max_words} words")).otherwise(found)
    found = pl.when(chars < step.min_chars).then(pl.lit(f"has under {step.min_chars} characters")).otherwise(found)
    if step.max_chars is not None:
        found = pl.when(chars > step.max_chars).then(pl.lit(f"has over {step.max_chars} characters")).otherwise(found)
    return texts.rename("text").to_frame().select(found.alias("reason")).to_series()


def _may_exceed(texts: pl.Series, max_words: int | None) -> bool:
    """Whether a text is long enough for so many words: each takes a character and a blank."""
    longest = texts.str.len_bytes().to_numpy().max() if max_words is not None and len(texts) else 0
    return max_words is not None and bool(longest > 2 * max_words)


def _of_another_script(texts: pl.Series, step: ScriptFilter) -> pl.Series:
    letters = pl.col("text").str.count_matches(r"\p{L}")
    kept = pl.col("text").str.count_matches("[" + "".join(CLASSES[name] for name in step.keep) + r"&&\p{L}]")
    why = f"under {step.min_share:.0%} of its letters are {', '.join(step.keep)}"
    return (
        texts.rename("text")
        .to_frame()
        .select(pl.when(kept < step.min_share * letters).then(pl.lit(why)).alias("reason"))
        .to_series()
    )
