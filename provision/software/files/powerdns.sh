#!/bin/sh
# Starts PowerDNS on the database that MYSQL_* name, once it answers: it is asked
# every third second at first (each question starts a client, which a database that is
# being made pays for) and then every MYSQL_CHECK_INTERVAL seconds, MYSQL_CHECK_RETRY times.
set -eu
host=${MYSQL_HOST:-mysql} port=${MYSQL_PORT:-3306} user=${MYSQL_USER:-powerdns} db=${MYSQL_DATABASE:-powerdns}
interval=${MYSQL_CHECK_INTERVAL:-10} left=${MYSQL_CHECK_RETRY:-50} quick=$interval
until MYSQL_PWD=${MYSQL_PASSWORD:-} mariadb --connect-timeout=5 -h "$host" -P "$port" -u "$user" "$db" -e 'SELECT 1 FROM domains LIMIT 1' >/dev/null; do
	if [ "$quick" -gt 0 ]; then
		quick=$((quick - 1)) pause=3
	else
		left=$((left - 1)) pause=$interval
	fi
	[ "$left" -gt 0 ] || { echo "powerdns: the database on $host does not answer" >&2; exit 1; }
	sleep "$pause"
done
umask 077
mkdir -p /run/pdns
# No caches: every answer comes from the database. LUA records tell a client's address.
cat > /run/pdns/pdns.conf <<CONF
launch=gmysql
gmysql-host=$host
gmysql-port=$port
gmysql-user=$user
gmysql-password=${MYSQL_PASSWORD:-}
gmysql-dbname=$db
gmysql-dnssec=${MYSQL_DNSSEC:-no}
enable-lua-records=shared
cache-ttl=0
query-cache-ttl=0
negquery-cache-ttl=0
zone-cache-refresh-interval=0
local-address=0.0.0.0,::
socket-dir=/run/pdns
CONF
# Below the shell: in the foreground pdns_server sets no handler for SIGTERM, and the
# kernel drops unhandled signals for a container's first process, which would then be
# killed only after the engine's ten seconds.
pdns_server --config-dir=/run/pdns --daemon=no --guardian=no "$@" &
server=$!
trap 'kill "$server"' TERM INT
wait "$server" || status=$?
# A trapped signal ends the first wait early.
if kill -0 "$server" 2>/dev/null; then
	wait "$server" || status=$?
fi
exit "${status:-0}"
