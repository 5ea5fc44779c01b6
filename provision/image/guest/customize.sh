#!/bin/sh
# Runs outside the new root file system ($1), as mmdebstrap's customize hook.
# The directory of this script holds the other files of the guest.
set -eu
root=$1
here=$(dirname "$0")

install -D -m 0755 "$here/identity.sh" "$root/usr/lib/hiveproof/identity.sh"
install -D -m 0644 "$here/hiveproof-identity.service" "$root/etc/systemd/system/hiveproof-identity.service"

# sshd: only keys, only those given at boot; no reverse look-ups, no PAM session to set up.
mkdir -p "$root/etc/ssh/sshd_config.d"
cat > "$root/etc/ssh/sshd_config.d/hiveproof.conf" <<'CONF'
HostKey /run/hiveproof/ssh_host_ed25519_key
AuthorizedKeysFile /run/hiveproof/authorized_keys
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
UseDNS no
MaxSessions 64
MaxStartups 64:30:128
CONF
rm -f "$root"/etc/ssh/ssh_host_*

# The engine: images are in the node image, so a registry is asked for nothing.
mkdir -p "$root/etc/docker" "$root/etc/systemd/system/docker.service.d"
cat > "$root/etc/systemd/system/docker.service.d/hiveproof.conf" <<'CONF'
[Service]
Environment=DOCKER_SERVICE_PREFER_OFFLINE_IMAGE=1
CONF

# No name server: the lab is closed, and an empty file is refused at once where an unreachable server is waited for.
rm -f "$root/etc/resolv.conf"; : > "$root/etc/resolv.conf"
: > "$root/etc/machine-id"
printf '/dev/vda / ext4 defaults,noatime 0 1\n' > "$root/etc/fstab"
printf 'ip_vs\nip_vs_rr\nvxlan\nbr_netfilter\noverlay\nveth\nnf_nat\nxt_conntrack\nxt_MASQUERADE\nxt_addrtype\n' > "$root/etc/modules-load.d/hiveproof.conf"
mkdir -p "$root/etc/systemd/journald.conf.d"
printf '[Journal]\nStorage=volatile\nForwardToConsole=no\n' > "$root/etc/systemd/journald.conf.d/hiveproof.conf"

chroot "$root" systemctl -q enable hiveproof-identity.service ssh.service docker.service
# What a throw-away host does not need at boot; storage services are started by the scenario that uses them.
for unit in apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer e2scrub_reap.service fstrim.timer \
	man-db.timer logrotate.timer nfs-server.service nfs-blkmap.service rpcbind.service rpcbind.socket nfs-client.target \
	rpc-statd-notify.service drbd.service blk-availability.service systemd-networkd.service systemd-networkd.socket; do
	chroot "$root" systemctl -q disable "$unit" 2>/dev/null || true
done
for unit in systemd-networkd-wait-online.service lvm2-monitor.service dm-event.socket lvm2-lvmpolld.socket \
	systemd-hwdb-update.service systemd-update-done.service ldconfig.service getty@tty1.service serial-getty@ttyS0.service \
	systemd-random-seed.service systemd-pcrphase.service systemd-firstboot.service sys-kernel-debug.mount sys-kernel-tracing.mount \
	console-getty.service modprobe@drm.service systemd-update-utmp.service systemd-journal-flush.service; do
	ln -sf /dev/null "$root/etc/systemd/system/$unit"
done
chroot "$root" passwd -q -d root >/dev/null 2>&1 || true

# A minimal initial RAM disk: everything but the disk's driver is built into Debian's cloud kernel.
kernel=$(basename "$(ls -d "$root"/lib/modules/*)")
ram=$root/tmp/initrd
mkdir -p "$ram/bin" "$ram/dev" "$ram/proc" "$ram/newroot"
cp "$root/bin/busybox" "$ram/bin/busybox"
ln -s busybox "$ram/bin/sh"
module=$(find "$root/lib/modules/$kernel" -name 'virtio_blk.ko*')
case $module in
*.xz) chroot "$root" busybox unxz -c "${module#"$root"}" > "$ram/virtio_blk.ko" ;;
*) cp "$module" "$ram/virtio_blk.ko" ;;
esac
cat > "$ram/init" <<'INIT'
#!/bin/sh
/bin/busybox mount -t devtmpfs dev /dev
/bin/busybox insmod /virtio_blk.ko
/bin/busybox mount -t ext4 -o rw,noatime /dev/vda /newroot || { echo "hiveproof: cannot mount the root file system"; exec /bin/busybox sh; }
/bin/busybox mount -o move /dev /newroot/dev
exec /bin/busybox switch_root /newroot /sbin/init
INIT
chmod 0755 "$ram/init"
chroot "$root" sh -c 'cd /tmp/initrd && busybox find . | busybox cpio -o -H newc' > "$root/boot/hiveproof-initrd" 2>/dev/null
rm -rf "$ram"
cp "$root/boot/vmlinuz-$kernel" "$root/boot/hiveproof-kernel"
rm -f "$root"/boot/initrd.img-* "$root"/boot/System.map-*
rm -rf "$root"/var/cache/apt/* "$root"/var/lib/apt/lists/* "$root"/usr/share/doc/* "$root"/usr/share/man/* "$root"/usr/share/locale/*
