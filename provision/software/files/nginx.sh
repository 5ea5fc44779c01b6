#!/bin/sh
# Starts nginx on the servers in /etc/nginx/conf.d, which a volume brings. What the
# container is goes into the variable $hiveproof_identity, for
# /etc/nginx/hiveproof-location.conf.
set -eu
cat > /etc/nginx/hiveproof-identity.conf <<CONF
map "" \$hiveproof_identity {
	default '"service":"${HIVEPROOF_SERVICE:-}","task":"${HIVEPROOF_TASK:-}","slot":"${HIVEPROOF_SLOT:-}","node":"${HIVEPROOF_NODE:-}","container":"$(hostname)"';
}
CONF
cat > /etc/nginx/hiveproof-location.conf <<'CONF'
location = /.well-known/hiveproof {
	default_type application/json;
	return 200 '{$hiveproof_identity,"role":"proxy","proto":"tcp","source":"$remote_addr:$remote_port","local":"$server_addr:$server_port","nonce":"$http_x_hiveproof_nonce","seq":$connection}';
}
CONF
exec nginx -g 'daemon off;' "$@"
