#!/bin/sh
# mmdebstrap's customize hook for the root file system ($1) that the images of
# the real software share. The directory of this script holds their files.
set -eu
root=$1
here=$(dirname "$0")
for name in mariadb powerdns nginx; do
	install -D -m 0755 "$here/$name.sh" "$root/usr/lib/hiveproof/$name.sh"
done
install -m 0644 "$here/nginx.conf" "$root/etc/nginx/nginx.conf"
install -m 0644 "$here/mariadb.cnf" "$root/etc/mysql/mariadb.conf.d/99-hiveproof.cnf"
# What hive-builder's build roles put into the database's image, by role.
install -D -m 0644 "$root/usr/share/pdns-backend-mysql/schema/schema.mysql.sql" "$root/usr/lib/hiveproof/roles/powerdns-initdb.sql"

chroot "$root" dpkg-query -W -f '${Package} ${Version}\n' mariadb-server nginx-light pdns-server > "$root/usr/lib/hiveproof/versions"

# An empty database, small enough to be copied into a volume at its first start.
rm -rf "$root"/var/lib/mysql/*
chroot "$root" mariadb-install-db --user=mysql --skip-test-db --cross-bootstrap >/dev/null

# What neither server needs: tools, perl, documentation.
cd "$root/usr/bin"
rm -f aria_* myisam* mariadb-binlog mariadb-dump mariadb-import mariadb-slap mariadb-check mariadb-show mariadb-conv \
	mariadb-plugin mariadb-tzinfo-to-sql mariadb-upgrade mariadb-waitpid my_print_defaults resolveip resolve_stack_dump \
	replace perror innochecksum wsrep_* perl5* mariadb-client-test* mariadb-test* rsync* sdig pdns_*bench* galera_*
cd "$root"
rm -rf usr/share/perl usr/share/perl5 usr/lib/*/perl usr/lib/*/perl5 usr/lib/*/perl-base usr/lib/galera usr/lib/libgalera* \
	var/cache/apt/* var/lib/apt/lists/* var/log/* usr/share/doc/* usr/share/man/* usr/share/locale/* usr/share/info/* \
	etc/nginx/sites-enabled/* usr/share/mysql/*/ usr/share/zoneinfo/right
