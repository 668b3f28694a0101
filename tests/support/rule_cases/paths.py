"""Cases of the rules in mmhydra/config/rules/paths.py."""

from rule_cases.case import Case

CASES = {
    "a name that is too long": Case(
        {"checkpoint.init_from": f"/a/{'ü' * 128}"},
        [("checkpoint.init_from",)],
        ["a name of 256 bytes", "no folder takes more than 255"],
        {"checkpoint.init_from": f"/a/{'ü' * 127}"},
    ),
    "a path that is too long": Case(
        {"checkpoint.extend_from": "/a" * 2048},
        [("checkpoint.extend_from",)],
        ["a path of 4096 bytes"],
        {"checkpoint.extend_from": "/a" * 2047},
    ),
    "relative data": Case(
        {"paths.data": "data"}, [("paths.data",)], ["type paths.data=/", "/data"], {"paths.data": "/data"}
    ),
    "relative outputs": Case(
        {"paths.outputs": "~/outputs"},
        [("paths.outputs",)],
        ["type paths.outputs=/", "/outputs"],
        {"paths.outputs": "/outputs"},
    ),
    "relative weights": Case(
        {"checkpoint.init_from": "run"},
        [("checkpoint.init_from",)],
        ["type checkpoint.init_from=/"],
        {"checkpoint.init_from": "/run"},
    ),
}
