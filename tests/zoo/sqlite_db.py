"""sqlite: rows inserted, old ones deleted, and vacuum now and then, in FILE; or kept for good, in memory:
python3 sqlite_db.py FILE|:memory: PERIOD_S"""

import sqlite3
import sys

from beat import beat

name, period = sys.argv[1], float(sys.argv[2])
database = sqlite3.connect(name, isolation_level=None)
database.execute("PRAGMA synchronous=OFF")
database.execute("CREATE TABLE IF NOT EXISTS rows (id INTEGER PRIMARY KEY, content BLOB)")
inserted = 0
for _ in beat(period):
    # Four overflow pages of 4092 bytes each, and a few bytes in a leaf.
    database.execute("INSERT INTO rows (content) VALUES (zeroblob(16400))")
    inserted += 1
    if name != ":memory:":
        database.execute("DELETE FROM rows WHERE id < ?", (inserted - 300,))
        if inserted % 400 == 0:
            database.execute("VACUUM")
