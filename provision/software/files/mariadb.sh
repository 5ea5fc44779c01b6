#!/bin/sh
# Starts MariaDB as the image of that name does: MYSQL_ROOT_PASSWORD, MYSQL_DATABASE,
# MYSQL_USER and MYSQL_PASSWORD say what there is to be. HIVEPROOF_BUILD_ROLES are
# the roles that hive-builder would have built the image with.
set -eu
quote() { printf '%s' "$1" | sed "s/\\\\/\\\\\\\\/g; s/'/''/g"; }
mkdir -p /run/mysqld /var/log/mysql
chown mysql: /run/mysqld /var/log/mysql
init=/run/mysqld/init.sql
(
	umask 077
	if [ -n "${MYSQL_ROOT_PASSWORD:-}" ]; then
		echo "ALTER USER root@localhost IDENTIFIED BY '$(quote "$MYSQL_ROOT_PASSWORD")';"
	fi
	if [ -n "${MYSQL_DATABASE:-}" ]; then
		echo "CREATE DATABASE IF NOT EXISTS \`$MYSQL_DATABASE\`;"
		if [ -n "${MYSQL_USER:-}" ]; then
			echo "CREATE USER IF NOT EXISTS '$(quote "$MYSQL_USER")'@'%' IDENTIFIED BY '$(quote "${MYSQL_PASSWORD:-}")';"
			echo "GRANT ALL ON \`$MYSQL_DATABASE\`.* TO '$(quote "$MYSQL_USER")'@'%';"
		fi
		# Only an empty database gets the roles' tables.
		if [ ! -d "/var/lib/mysql/$MYSQL_DATABASE" ]; then
			echo "USE \`$MYSQL_DATABASE\`;"
			for role in $(echo "${HIVEPROOF_BUILD_ROLES:-}" | tr ',' ' '); do
				[ ! -f "/usr/lib/hiveproof/roles/$role.sql" ] || cat "/usr/lib/hiveproof/roles/$role.sql"
			done
		fi
	fi
) > "$init"
chown mysql: "$init"
exec mariadbd --user=mysql --init-file="$init" "$@"
