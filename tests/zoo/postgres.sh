# A fresh PostgreSQL without TCP, its socket in its own folder. It refuses to run as root.
set -eu
bin=$(ls -d /usr/lib/postgresql/*/bin | sort -V | tail -n 1)
as=
mkdir zoo/pg
if [ "$(id -u)" = 0 ]; then
    as="setpriv --reuid=postgres --regid=postgres --clear-groups"
    chown postgres zoo/pg
fi
$as "$bin/initdb" -D zoo/pg -A trust -N >/dev/null
exec $as "$bin/postgres" -D zoo/pg -k . -c listen_addresses= -c cluster_name=zoo -c shared_buffers=16MB
