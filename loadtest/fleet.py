"""Runs the swarm once (`swarm/run`) and reads what came out: what clients saw, beside what the gateways used."""

import json
import os
import pathlib
import subprocess
import tempfile

from results import HERE


class Run:
    """One run: `swarm` is the swarm's own result, `truth` what Postgres says of it, `samples` what the processes used, second by
    second."""

    def __init__(self, swarm: dict, truth: dict, fleet: dict, status: int, text: str) -> None:
        self.swarm, self.truth, self.samples, self.told, self.status, self.text = swarm, truth, fleet["samples"], fleet["told"], status, text
        self.began = swarm["began_at"]
        self.all_in = swarm["all_in_after"] or 0.0

    def at(self, moment: float) -> dict:
        """The sample nearest to a moment, in seconds after the begin."""
        return min(self.samples, key=lambda sample: abs(sample["at"] - self.began - moment))

    def cpu(self, begin: float, end: float) -> float:
        """CPU seconds of all gateways between two moments, by the second: short windows are coarse."""
        return sum(self.at(end)["cpu_s"].values()) - sum(self.at(begin)["cpu_s"].values())

    def counted(self, what: str, begin: float, end: float) -> int:
        """What the clients counted between two moments."""
        return sum(second[what] for second in self.swarm["seconds"] if begin < second["at"] <= end)

    def wrong(self) -> int:
        """Deliveries that were lost, came twice or out of order."""
        return self.truth["lost"] + self.truth["not_stored"] + self.swarm["repeated"] + self.swarm["late"]

    def plateau(self) -> tuple[float, float]:
        """From shortly after the last one came in until the talking ends."""
        return self.all_in + 3, self.all_in + self.swarm["scenario"]["seconds"] - 1

    def cpu_micros_per(self, what: str) -> float | None:
        """CPU microseconds of the gateways for each delivery or event on the plateau. The window is that of the samples."""
        begin, end = (self.at(moment) for moment in self.plateau())
        count = self.counted(what, begin["at"] - self.began, end["at"] - self.began)
        used = sum(end["cpu_s"].values()) - sum(begin["cpu_s"].values())
        return used / count * 1e6 if count else None

    def beside(self, field: str, begin: float, end: float) -> float:
        """How much of something was used or done a second, of what is looked at every few seconds: of Postgres's CPU, say."""
        there = [sample for sample in self.samples if field in sample and begin <= sample["at"] - self.began <= end]
        return (there[-1][field] - there[0][field]) / (there[-1]["at"] - there[0]["at"]) if len(there) > 1 else 0.0

    def rss(self, moment: float) -> int:
        """Resident KiB of all gateways."""
        return sum(self.at(moment)["rss_kib"].values())

    def rss_before(self) -> int:
        """Of the gateways, before the first client came."""
        early = [sample for sample in self.samples if sample["at"] < self.began and len(sample["rss_kib"])] or self.samples[:1]
        return sum(early[-1]["rss_kib"].values())


def run(scenario: dict, gateways: int = 1, processes: int = 1, seen: bool = True, **environment: str) -> Run:
    """Runs a scenario, whose fields are those of the files in `swarm/scenarios`."""
    with tempfile.TemporaryDirectory() as folder:
        out = pathlib.Path(folder) / "out"
        file = pathlib.Path(folder) / "scenario.toml"
        tables = {name: value for name, value in scenario.items() if isinstance(value, dict)}
        lines = lambda values: "".join(f"{name} = {value}\n" for name, value in values.items() if name not in tables)
        file.write_text(lines(scenario) + "".join(f"[{name}]\n{lines(value)}" for name, value in tables.items()))
        environment = {**os.environ, "OUT": str(out), "GATEWAYS": str(gateways), "PROCESSES": str(processes), **environment}
        process = subprocess.Popen([HERE / "swarm" / "run", file], env=environment, stdout=subprocess.PIPE, text=True)
        try:
            text, _ = process.communicate()
        except BaseException:
            process.terminate()
            process.wait()
            raise
        print(text)
        files = [pathlib.Path(f"{out}{suffix}") for suffix in (".json", ".truth.json", ".fleet.json")]
        if not all(file.exists() for file in files):
            raise SystemExit(f"the swarm ended with {process.returncode} and left no result (see above)")
        return Run(*(json.loads(file.read_text()) for file in files), process.returncode, text)
