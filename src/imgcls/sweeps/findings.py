"""What a search has found: its best trial, which values matter, and a picture of both."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from imgcls.cli.overrides import PARSER
from imgcls.runs import write_text
from imgcls.sweeps.space import Dimension

RESULTS, PICTURE = "optimization_results.yaml", "search.png"


def write(study: optuna.Study, space: Sequence[Dimension], folder: Path) -> None:
    """Print the best trial, and write `optimization_results.yaml` and `search.png` into the folder."""
    import yaml

    trials = study.get_trials(deepcopy=False)
    done = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    counts = Counter(trial.state.name.lower() for trial in trials)
    told = ", ".join(f"{count} {'failed' if state == 'fail' else state}" for state, count in counts.items())
    if not done:
        print(f"search: no trial has finished ({told or 'none has begun'}), so there is nothing to choose.")
        return
    best = study.best_trial
    params = values(best, [each.key for each in space])
    important = importances(study)
    text = {"name": "optuna", "best_params": params, "best_value": best.value, "importances": important}
    write_text(folder / RESULTS, yaml.safe_dump(text, sort_keys=False, allow_unicode=True))
    print(f"search: {told}. Best is trial {best.number + 1} with {best.value:.4f}:")
    print("  " + " ".join(f"{key}={value}" for key, value in params.items()))
    _draw(study, space, important, folder / PICTURE)
    print(f"search: {folder / RESULTS}  {folder / PICTURE}")


def values(trial: FrozenTrial, keys: Sequence[str]) -> dict[str, Any]:
    """What a trial's run was given for some keys, as it is typed and not as it was drawn."""
    overrides = [PARSER.parse_override(word) for word in trial.user_attrs["overrides"]]
    given = {override.key_or_group: override.value() for override in overrides}
    return {key: given[key] for key in keys}


def importances(study: optuna.Study) -> dict[str, float]:
    """Share of each key in the variance of the score (fANOVA, Hutter et al. 2014), or {}."""
    try:
        judge = optuna.importance.FanovaImportanceEvaluator(seed=0)
        found = optuna.importance.get_param_importances(study, evaluator=judge)
    except (ValueError, RuntimeError):  # fewer than two trials, or all alike
        return {}
    return {key: round(float(share), 4) for key, share in found.items()}


def _draw(study: optuna.Study, space: Sequence[Dimension], important: dict[str, float], file: Path) -> None:
    from imgcls import figures

    keys = [each.key for each in space]
    trials = study.get_trials(deepcopy=False)
    rows = [
        {"trial": t.number + 1, "state": t.state.name, "value": t.value} | values(t, keys)
        for t in trials
        if "overrides" in t.user_attrs
    ]
    ranked = sorted(keys, key=lambda key: -important.get(key, 0))
    logs = {each.key for each in space if each.log}
    highest = study.direction == optuna.study.StudyDirection.MAXIMIZE
    figures.save(figures.search(rows, important or dict.fromkeys(keys, 0.0), ranked[:2], logs, highest), file)
