# SPDX-License-Identifier: Apache-2.0
"""Chart options as plain documents.

Owns how histograms, heat and lines are drawn. Pure. Names of features come from
devices' models, so tooltips are drawn as text, never as markup.
"""

from typing import Any

from fleet.web.theme import GREY, HIGHER, LINES

_AXIS = {
    "axisLabel": {"color": GREY},
    "axisLine": {"onZero": False, "lineStyle": {"color": GREY, "opacity": 0.4}},
    "splitLine": {"lineStyle": {"color": GREY, "opacity": 0.15}},
    "nameTextStyle": {"color": GREY},
}
_TOOLTIP = {"trigger": "axis", "renderMode": "richText"}
_LEGEND = {"textStyle": {"color": GREY}, "top": 0, "icon": "roundRect"}


def overlay_options(histogram: dict[str, Any]) -> dict[str, Any]:
    """Return reference and live histogram over one axis, as densities."""
    edges = histogram["edges"]
    return {
        "animationDuration": 300,
        "grid": {
            "left": 12,
            "right": 16,
            "top": 36,
            "bottom": 28,
            "containLabel": True,
        },
        "legend": {**_LEGEND, "data": ["reference", "live"]},
        "tooltip": _TOOLTIP,
        "xAxis": {
            "type": "value",
            "min": edges[0],
            "max": edges[-1],
            "name": histogram["feature"],
            "nameLocation": "middle",
            "nameGap": 26,
            **_AXIS,
        },
        "yAxis": {"type": "value", "name": "density", **_AXIS},
        "series": [
            _steps("reference", edges, histogram["reference"], GREY, 0.30),
            _steps("live", edges, histogram["live"], HIGHER, 0.35),
        ],
    }


def history_options(history: dict[str, Any]) -> dict[str, Any]:
    """Return each feature's mean over the latest windows, in reference sd."""
    return {
        "animation": False,
        "color": list(LINES),
        "grid": {
            "left": 12,
            "right": 16,
            "top": 36,
            "bottom": 24,
            "containLabel": True,
        },
        "legend": {**_LEGEND, "type": "scroll"},
        "tooltip": _TOOLTIP,
        "xAxis": {
            "type": "category",
            "data": list(range(1 - history["windows"], 1)),
            "name": "windows before now",
            "nameLocation": "middle",
            "nameGap": 26,
            **_AXIS,
        },
        "yAxis": {"type": "value", "name": "reference sd", **_AXIS},
        "series": [
            {
                "name": name,
                "type": "line",
                "data": values,
                "showSymbol": False,
                "lineStyle": {"width": 1.8},
            }
            for name, values in history["features"].items()
        ],
    }


def _steps(
    name: str, edges: list[float], densities: list[float], colour: str, opacity: float
) -> dict[str, Any]:
    heights = [*densities, densities[-1]]
    return {
        "name": name,
        "type": "line",
        "step": "end",
        "data": [list(pair) for pair in zip(edges, heights, strict=True)],
        "showSymbol": False,
        "lineStyle": {"color": colour, "width": 1.6},
        "itemStyle": {"color": colour},
        "areaStyle": {"color": colour, "opacity": opacity},
    }
