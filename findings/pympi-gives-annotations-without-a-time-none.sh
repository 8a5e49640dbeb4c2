#!/bin/sh
# Guess: in ELAN an annotation may begin at a time slot without a time, between two that have one; a reader gives it the
#   time that ELAN shows, or leaves it out. And an .eaf needs no schema location to be read: it is an optional attribute.
# Truth: pympi returns (0, None, ...) and (None, 3000, ...) as start and end, without a warning: sorting, subtracting and
#   comparing them fails later, elsewhere. And without the optional schema location the file is refused with a bare KeyError.
# Hurts: whoever reads archives of annotated conversations: annotations that were divided without listening have no times of
#   their own, and files that other programs wrote often have no schema location.
# Seen: pympi-ling 1.71, on 2026-11-29.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q pympi-ling==1.71
"$folder/venv/bin/python" - "$folder" <<'PYTHON'
import pathlib
import sys

import pympi

SCHEMA = (
    ' xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"'
    ' xsi:noNamespaceSchemaLocation="http://www.mpi.nl/tools/elan/EAFv3.0.xsd"'
)
FILE = """<?xml version="1.0" encoding="UTF-8"?>
<ANNOTATION_DOCUMENT AUTHOR="" DATE="2026-01-01T00:00:00+00:00" FORMAT="3.0" VERSION="3.0"{schema}>
<HEADER MEDIA_FILE="" TIME_UNITS="milliseconds"/>
<TIME_ORDER><TIME_SLOT TIME_SLOT_ID="ts1" TIME_VALUE="0"/><TIME_SLOT TIME_SLOT_ID="ts2"/>
<TIME_SLOT TIME_SLOT_ID="ts3" TIME_VALUE="3000"/></TIME_ORDER>
<TIER LINGUISTIC_TYPE_REF="speech" TIER_ID="Anna">
<ANNOTATION><ALIGNABLE_ANNOTATION ANNOTATION_ID="a1" TIME_SLOT_REF1="ts1" TIME_SLOT_REF2="ts2">
<ANNOTATION_VALUE>one</ANNOTATION_VALUE></ALIGNABLE_ANNOTATION></ANNOTATION>
<ANNOTATION><ALIGNABLE_ANNOTATION ANNOTATION_ID="a2" TIME_SLOT_REF1="ts2" TIME_SLOT_REF2="ts3">
<ANNOTATION_VALUE>two</ANNOTATION_VALUE></ALIGNABLE_ANNOTATION></ANNOTATION>
</TIER>
<LINGUISTIC_TYPE LINGUISTIC_TYPE_ID="speech" TIME_ALIGNABLE="true"/>
</ANNOTATION_DOCUMENT>
"""


def annotations(schema):
    path = pathlib.Path(sys.argv[1], "talk.eaf")
    path.write_text(FILE.format(schema=schema))
    try:
        return pympi.Elan.Eaf(str(path)).get_annotation_data_for_tier("Anna")
    except KeyError as error:
        return f"KeyError: {error}"


with_schema, without = annotations(SCHEMA), annotations("")
print(f"with a schema location: {with_schema}")
print(f"without: {without}")
untimed = sorted(with_schema, key=lambda found: found[2]) == [(0, None, "one"), (None, 3000, "two")]
sys.exit(not (untimed and str(without).startswith("KeyError")))
PYTHON
