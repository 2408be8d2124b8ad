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


def changed(texts: pl.Series, step: Step) -> pl.Series:
    """The texts after a step that changes them; as they are for one that does not."""
    match step:
        case Unicode():
            return _unicode(texts, step)
        case Mask():
            return mask(texts, step.kinds)
    return texts


def _unicode(texts: pl.Series, step: Unicode) -> pl.Series:
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
    if step.max_words is not None or step.min_words:
        words = text.str.count_matches(r"\S+")
        found = pl.when(words < step.min_words).then(pl.lit(f"has under {step.min_words} words")).otherwise(found)
        if step.max_words is not None:
            found = pl.when(words > step.max_words).then(pl.lit(f"has over {step.max_words} words")).otherwise(found)
    found = pl.when(chars < step.min_chars).then(pl.lit(f"has under {step.min_chars} characters")).otherwise(found)
    if step.max_chars is not None:
        found = pl.when(chars > step.max_chars).then(pl.lit(f"has over {step.max_chars} characters")).otherwise(found)
    return texts.rename("text").to_frame().select(found.alias("reason")).to_series()


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
