"""Draw the gallery: records from disk or made anew, figures, captions and numbers from them."""

import dataclasses
import json
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from jaxsde.lab.gallery.catalogue import ENTRIES, MAKERS, chosen
from jaxsde.lab.gallery.record import Record, read_record, record_key, write_record
from jaxsde.lab.gallery.settings import Settings
from jaxsde.lab.spec import ExperimentError
from jaxsde.lab.style import save_figure

LEAST_SHOTS = 20  # for the jackknife of Fig. 1 and the covariance of the bins of Fig. 3
CAPTIONS, NUMBERS = "captions.md", "numbers.json"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Made:
    """Hold what became of one figure.

    paths: PNG, PDF and caption.  how: "computed" or "kept", and why, of each dataset.
    seconds: that computing and drawing took.
    """

    name: str
    paths: list[Path]
    how: list[str]
    computed: float
    drawn: float


def check_settings(settings: Settings) -> None:
    """Raise ExperimentError for shots or a seed that cannot be."""
    shots = settings.shots
    if shots is not None and shots < LEAST_SHOTS:
        raise ExperimentError(
            f"--shots: wanted at least {LEAST_SHOTS}, for errors from the shots' scatter, got "
            f"{shots}; leave it out for the paper's own numbers"
        )
    if settings.seed < 0:
        raise ExperimentError(f"--seed: wanted zero or more, got {settings.seed}")


def draw_gallery(
    names: Iterable[str],
    out: Path,
    *,
    settings: Settings | None = None,
    cache: Path | None = None,
    force: bool = False,
    dpi: float | None = None,
    tell: Callable[[str, int, int], None] | None = None,
    done: Callable[[Made], None] | None = None,
) -> list[Made]:
    """Draw figures of the paper into out: NAME.png, NAME.pdf, NAME.txt, captions.md, numbers.json.

    names: see `chosen`; all for none.  cache: folder of the records, OUT/data unless given.
    force: make records anew.  dpi: of the PNG files.  The two last files keep what they hold of
    figures drawn before.
    tell: called as tell(figure, settings done, of all) while a record is made; done: with every
    figure as it is finished.
    Raises ExperimentError for unknown names or settings that cannot be.
    """
    settings = Settings() if settings is None else settings
    keys = chosen(names)
    check_settings(settings)
    cache = out / "data" if cache is None else cache
    # Before anything runs, so that sources edited meanwhile do not pass for what ran.
    wanted = dict.fromkeys(dataset for key in keys for dataset in ENTRIES[key].datasets)
    record_keys = {dataset: key_of(dataset, settings) for dataset in wanted}
    held: dict[str, tuple[Record, str]] = {}
    made, numbers = [], {}
    for key in keys:
        entry, start = ENTRIES[key], time.perf_counter()
        how = []
        for dataset in entry.datasets:
            if dataset not in held:
                inform = _tell(tell, key)
                kept_under = record_keys[dataset]
                held[dataset] = obtain(dataset, settings, kept_under, cache, force, inform)
                how.append(held[dataset][1])
        computed = time.perf_counter() - start
        records = [held[dataset][0] for dataset in entry.datasets]
        caption = entry.caption(*records)
        figure = entry.draw(*records)
        paths = save_figure(figure, out / key, ("png",), dpi=dpi)
        # Laid out once: the PDF has the places that the PNG found, in half the time.
        figure.set_layout_engine("none")
        paths += save_figure(figure, out / key, ("pdf",))
        text = out / f"{key}.txt"
        text.write_text(f"{entry.title}. {caption}\n", encoding="utf-8")
        numbers[key] = dict(title=entry.title, caption=caption, numbers=entry.numbers(*records))
        drawn = time.perf_counter() - start - computed
        made.append(Made(name=key, paths=[*paths, text], how=how, computed=computed, drawn=drawn))
        if done is not None:
            done(made[-1])
    write_texts(out, numbers)
    return made


def write_texts(out: Path, numbers: dict[str, Any]) -> None:
    """Write captions.md and numbers.json: of these figures, and of those that were there before."""
    try:
        before = json.loads((out / NUMBERS).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        before = {}  # both files are made of what is drawn, and are made again with it
    whole = {key: (before | numbers)[key] for key in ENTRIES if key in before | numbers}
    content = json.dumps(whole, indent=1, ensure_ascii=False) + "\n"
    (out / NUMBERS).write_text(content, encoding="utf-8")
    texts = [
        f"## {e['title']}\n\n![{e['title']}]({key}.png)\n\n{e['caption']}\n"
        for key, e in whole.items()
    ]
    (out / CAPTIONS).write_text("\n".join(texts), encoding="utf-8")


def _tell(tell: Callable[[str, int, int], None] | None, key: str) -> Callable[[int, int], None]:
    def inform(done: int, total: int) -> None:
        if tell is not None:
            tell(key, done, total)

    return inform


def key_of(dataset: str, settings: Settings) -> dict[str, Any]:
    """Return the key that a dataset's record is kept under."""
    return record_key(settings, dataset, MAKERS[dataset].__module__.rpartition(".")[2])


def obtain(
    dataset: str,
    settings: Settings,
    key: dict[str, Any],
    cache: Path,
    force: bool,
    tell: Callable[[int, int], None],
) -> tuple[Record, str]:
    """Return a dataset's record, kept or made anew and then kept, and which of the two and why."""
    path = cache / f"{dataset}.npz"
    why = "--force"
    if not force:
        found = read_record(path, key)
        if found.record is not None:
            return found.record, f"{dataset}: kept"
        why = found.why
    record = MAKERS[dataset](settings, tell)
    write_record(path, record, key)
    return record, f"{dataset}: computed ({why})"
