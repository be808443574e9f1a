"""What MLflow's pages show before anybody has chosen: a saved view, and links to it.

MLflow (3.17) keeps a saved view as a tag of the experiment, lists it under "Saved views", and opens
with it where an address names it. Its state is one of the page's own code: a version of MLflow that
does not know it any more opens the page as it would without.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

VIEW = "normsweep"
TAG = f"mlflow.sharedViewState.{VIEW}"
# Without the workflow, the page of an experiment opens in an assistant for language models.
WORKFLOW = "workflowType=machine_learning"
MOST_METRICS = 10  # a tag of an experiment holds 20,000 characters
LOG_SCALED = ("feature/mean_square/max", "train/loss")


def saved_view(
    name: str, params: Sequence[str], metrics: Sequence[str], found_by: str, made_ms: int
) -> str:
    """The tag's value: runs with the tag `found_by`, these columns, and a chart of each metric.

    MLflow lists and draws runs that are below another one only once that is unfolded, unless they
    are filtered and sorted by something else than their time.
    """
    is_of_trials, metrics = bool(params), metrics[:MOST_METRICS]
    columns = [f"params.`{param}`" for param in params]
    columns += [f"metrics.`{metric}`" for metric in metrics]
    state = {
        "searchFilter": f"tags.`{found_by}` != ''",
        "orderByKey": "tags.`mlflow.runName`",
        "orderByAsc": is_of_trials,  # the last night first
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "modelVersionFilter": "All Runs",
        "datasetsFilter": [],
        "selectedColumns": columns,
        "runsHiddenMode": "FIRST_20_RUNS" if is_of_trials else "FIRST_10_RUNS",
        "hideEmptyCharts": True,
        "compareRunSections": [{"uuid": VIEW, "name": name, "display": True, "isReordered": False}],
        "compareRunCharts": [_chart(metric) for metric in metrics],
        "isAccordionReordered": True,  # else the section would stand among all others, by name
    }
    return json.dumps(
        {"name": name, "createdAt": made_ms, "updatedAt": made_ms, "state": json.dumps(state)}
    )


def _chart(metric: str) -> dict[str, object]:
    return {
        "uuid": f"{VIEW}-{metric}",
        "type": "LINE",
        "metricSectionId": VIEW,
        "isGenerated": True,
        "deleted": False,
        "runsCountToCompare": 20,
        "metricKey": metric,
        "selectedMetricKeys": [metric],
        "displayName": metric,
        "scaleType": "log" if metric in LOG_SCALED else "linear",
        "xAxisKey": "step",
        "xAxisScaleType": "linear",
        "yAxisKey": "metric",
        "yAxisExpressions": [],
        "range": {},
        "lineSmoothness": 0,
        "selectedXAxisMetricKey": "",
        "useGlobalXaxisKey": True,
        "useGlobalLineSmoothing": True,
    }


def runs_link(server: str, experiment: str, *, has_view: bool = True, run: str = "") -> str:
    """The page of an experiment's runs, with the saved view if it has one; or of one run."""
    if run:
        return f"{server}/#/experiments/{experiment}/runs/{run}"
    view = f"&viewStateShareKey={VIEW}" if has_view else ""
    return f"{server}/#/experiments/{experiment}/runs?{WORKFLOW}{view}"
