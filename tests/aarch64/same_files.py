"""Compares the results of two runs: every file byte for byte, the report without its timings.

Usage: same_files.py EXPECTED FOUND
"""

import json
import pathlib
import sys

expected, found = (pathlib.Path(argument) for argument in sys.argv[1:3])
names = {path.name for folder in (expected, found) for path in folder.iterdir()}
assert {"report.json", "scheme.json"} <= names and any(name.endswith(".onnx") for name in names), names
failed = False
for name in sorted(names - {"report.html"}):  # the page shows timings
    if not ((expected / name).is_file() and (found / name).is_file()):
        print(f"{name}: only one of the runs wrote it")
        failed = True
        continue
    contents = [(folder / name).read_bytes() for folder in (expected, found)]
    if name == "report.json":
        reports = [json.loads(content) for content in contents]
        for report in reports:
            report.pop("timings")
        contents = [json.dumps(report) for report in reports]
    same = contents[0] == contents[1]
    failed |= not same
    print(f"{name}: {'the same' if same else 'DIFFERENT'}")
sys.exit(failed)
