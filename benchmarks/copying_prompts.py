"""Chat prompts whose answers say much of the prompt again, as data: edit this code, quote this text."""

from __future__ import annotations

_CODE = """
import csv
from dataclasses import dataclass


@dataclass
class Reading:
    station: str
    day: str
    temperature: float
    rainfall: float


def load_readings(path):
    readings = []
    with open(path, newline="") as file:
        for row in csv.DictReader(file):
            readings.append(
                Reading(row["station"], row["day"], float(row["temperature"]), float(row["rainfall"]))
            )
    return readings


def average_temperature(readings, station):
    found = [reading.temperature for reading in readings if reading.station == station]
    return sum(found) / len(found)


def wettest_day(readings, station):
    found = [reading for reading in readings if reading.station == station]
    return max(found, key=lambda reading: reading.rainfall).day
"""

_TEXT = """
The ferry to Skarholm leaves from the old timber quay, a quarter of an hour on foot from the railway station. Boats run
every forty minutes from the first of May to the end of September, and four times a day in winter. The crossing takes
twenty-five minutes. Bicycles travel free of charge, but there is room for only twelve of them, so on summer weekends it
is wise to take an early boat. Tickets are sold on board and at the kiosk beside the quay; the kiosk closes at six.

Skarholm has two villages. Norrby, where the ferry lands, has a shop, a bakery and a small museum about the lighthouse
keepers who lived here until 1968. Soderby lies three kilometres to the south, behind a forest of pine and juniper, and
has the only beach on the island that is safe for children. A gravel road joins the two villages, and a marked path
follows the western shore past the ruins of a fishing station. The path is steep in places and should not be walked in
high winds. Dogs have to be kept on a lead from March to August, when the eider ducks are nesting.
"""

_MINUTES = """
Minutes of the meeting on Tuesday. Present: Amira, Jonas, Li and Petra. 1. The new release of the billing service is
delayed by one week, because the migration of the customer table took eleven hours on the test system instead of three.
Jonas will split the migration into two parts and try again on Thursday. 2. Support reports nineteen complaints about
missing invoices in October. Li found the cause: invoices with more than fifty lines are cut off by the PDF renderer. A
fix is ready and will be released with the next patch. 3. Petra proposed to move the weekly meeting from Tuesday to
Monday. Nobody objected; the change takes effect in December. 4. The budget for training has not been used yet.
Everybody sends their wishes to Amira before the end of the month. The next meeting is on Monday at ten.
"""

COPYING_PROMPTS = {
    "code edit": f"Rename the field rainfall to precipitation and return the whole file.\n```python{_CODE}```",
    "code comment": f"Add a docstring to each function of this file and return the whole file.\n```python{_CODE}```",
    "quote": f"Repeat the following text word for word, with a heading for each paragraph.\n{_TEXT}",
    "summary": f"Summarise the following text for a visitor, quoting its sentences where you can.\n{_TEXT}",
    "minutes": f"List the decisions in these minutes, each with the sentence that says so.\n{_MINUTES}",
    "json": f"Turn these minutes into JSON with a list of items, each with its number and its text.\n{_MINUTES}",
}
"""What the user says, by kind of work."""
