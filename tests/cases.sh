#!/usr/bin/env bash
# Writes the table of cases by number into docs/TESTING.md, from the names of
# tests: `case_07_...` shows case 7, `case_p09_...` case p9.
set -euo pipefail
cd "$(dirname "$0")/.."
table() {
    echo "| case | test |"
    echo "|---|---|"
    grep -rhoE "fn case_[a-z]?[0-9]+_[a-z0-9_]+" src tests/it cli/src cli/tests/it | sed 's/^fn //' | sort -u |
        sed -E 's/^case_([a-z]?)0*([0-9]+)_.*/\1\2 &/' |
        sort -k1,1V -k2 | awk '$1 != last { if (last != "") print "| " last " | " line " |"; last = $1; line = "`" $2 "`"; next }
            { line = line ", `" $2 "`" } END { print "| " last " | " line " |" }'
}
{
    sed '/^<!-- cases -->$/q' docs/TESTING.md
    table
    sed -n '/^<!-- end of cases -->$/,$p' docs/TESTING.md
} > docs/TESTING.md.part
mv docs/TESTING.md.part docs/TESTING.md
