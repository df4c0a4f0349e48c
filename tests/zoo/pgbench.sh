# Five transactions a second against the PostgreSQL of postgres.sh.
set -eu
bin=$(ls -d /usr/lib/postgresql/*/bin | sort -V | tail -n 1)
until user=$(stat -c %U zoo/pg) && "$bin/pgbench" -h "$PWD/zoo/pg" -U "$user" -i -q postgres >/dev/null 2>&1; do
    sleep 1
done
# The name is for whoever looks for the zoo's processes by their command lines.
exec "$bin/pgbench" -h "$PWD/zoo/pg" -U "$user" -R 5 -T 100000 "dbname=postgres application_name=zoo:bench" >/dev/null
