#!/bin/sh
# Gives this virtual machine the identity that its owner passes through QEMU's
# fw_cfg device: host name, addresses by MAC, SSH keys. The image itself holds
# none, so that any number of hosts start from one disk.
set -eu
modprobe qemu_fw_cfg 2>/dev/null || true
cfg=/sys/firmware/qemu_fw_cfg/by_name/opt/hiveproof
[ -d "$cfg" ] || { echo "hiveproof: no identity given (fw_cfg opt/hiveproof is missing)" >&2; exit 1; }

mkdir -p /run/hiveproof && chmod 0711 /run/hiveproof
cat "$cfg/authorized_keys/raw" > /run/hiveproof/authorized_keys
(umask 077 && cat "$cfg/host_key/raw" > /run/hiveproof/ssh_host_ed25519_key)
chmod 0644 /run/hiveproof/authorized_keys

# One directive a line: hostname NAME | host ADDR NAME | addr MAC NAME ADDR/LEN | gateway ADDR | grow DEVICE | owner ADDR | edge
modprobe virtio_net 2>/dev/null || true
# No autoconfiguration: the addresses are those of the topology and no others.
echo 0 > /proc/sys/net/ipv6/conf/all/accept_ra
echo 0 > /proc/sys/net/ipv6/conf/default/accept_ra
printf '127.0.0.1 localhost\n::1 localhost ip6-localhost\n' > /etc/hosts
while read -r word a b c; do
	case $word in
	hostname)
		hostname "$a"
		printf '%s\n' "$a" > /etc/hostname
		;;
	host)
		printf '%s %s\n' "$a" "$b" >> /etc/hosts
		;;
	addr)
		for dev in /sys/class/net/*; do
			[ "$(cat "$dev/address" 2>/dev/null)" = "$a" ] || continue
			dev=${dev##*/}
			if [ "$dev" != "$b" ]; then
				ip link set "$dev" down
				ip link set "$dev" name "$b"
			fi
			case $c in
			*:*) ip -6 addr add "$c" dev "$b" nodad ;;
			*) ip addr add "$c" brd + dev "$b" ;;
			esac
			ip link set "$b" up
			break
		done
		;;
	grow)
		resize2fs "$a" || echo "hiveproof: cannot grow the file system on $a" >&2
		;;
	owner)
		printf 'OWNER=%s\n' "$a" > /run/hiveproof/helper.env
		;;
	edge)
		: > /run/hiveproof/edge
		;;
	gateway)
		ip route add default via "$a"
		;;
	esac
done < "$cfg/identity/raw"
ip link set lo up
