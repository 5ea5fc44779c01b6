#!/bin/sh
# Runs outside the new root file system ($1), as mmdebstrap's customize hook.
# The directory of this script holds the other files of the guest.
set -eu
root=$1
here=$(dirname "$0")

install -D -m 0755 "$here/identity.sh" "$root/usr/lib/hiveproof/identity.sh"
install -D -m 0644 "$here/hiveproof-identity.service" "$root/etc/systemd/system/hiveproof-identity.service"
install -D -m 0644 "$here/hiveproof-helper.service" "$root/etc/systemd/system/hiveproof-helper.service"

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
[Unit]
ConditionPathExists=!/run/hiveproof/edge
[Service]
Environment=DOCKER_SERVICE_PREFER_OFFLINE_IMAGE=1
CONF
# The edge host is no node of the swarm.
mkdir -p "$root/etc/systemd/system/containerd.service.d"
printf '[Unit]\nConditionPathExists=!/run/hiveproof/edge\n' > "$root/etc/systemd/system/containerd.service.d/hiveproof.conf"

# No name server: the lab is closed, and an empty file is refused at once where an unreachable server is waited for.
rm -f "$root/etc/resolv.conf"; : > "$root/etc/resolv.conf"
: > "$root/etc/machine-id"
# The initial RAM disk has mounted the root file system for good: nothing is left
# to mount, and so no device to wait for.
: > "$root/etc/fstab"
mkdir -p "$root/etc/systemd/journald.conf.d"
printf '[Journal]\nStorage=volatile\nForwardToConsole=no\n' > "$root/etc/systemd/journald.conf.d/hiveproof.conf"

chroot "$root" systemctl -q enable hiveproof-identity.service hiveproof-helper.service ssh.service docker.service
# What a throw-away host does not need at boot; storage services are started by the scenario that uses them.
for unit in apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer e2scrub_reap.service fstrim.timer \
	man-db.timer logrotate.timer nfs-server.service nfs-blkmap.service rpcbind.service rpcbind.socket nfs-client.target \
	rpc-statd-notify.service drbd.service haproxy.service blk-availability.service systemd-networkd.service systemd-networkd.socket; do
	chroot "$root" systemctl -q disable "$unit" 2>/dev/null || true
done
# Devices are made by devtmpfs and the few modules needed are loaded by who needs
# them, so the coldplug of every device is left out as well.
for unit in systemd-networkd-wait-online.service lvm2-monitor.service dm-event.socket lvm2-lvmpolld.socket \
	systemd-hwdb-update.service systemd-update-done.service ldconfig.service getty@tty1.service serial-getty@ttyS0.service \
	systemd-random-seed.service systemd-pcrphase.service systemd-firstboot.service sys-kernel-debug.mount sys-kernel-tracing.mount \
	sys-kernel-config.mount sys-fs-fuse-connections.mount dev-hugepages.mount dev-mqueue.mount tmp.mount \
	proc-sys-fs-binfmt_misc.automount systemd-binfmt.service modprobe@drm.service modprobe@configfs.service \
	modprobe@efi_pstore.service modprobe@fuse.service modprobe@dm_mod.service modprobe@loop.service \
	systemd-udev-trigger.service systemd-udev-load-credentials.service kmod-static-nodes.service systemd-sysusers.service \
	systemd-journal-catalog-update.service systemd-logind.service systemd-pstore.service ipvsadm.service \
	systemd-modules-load.service console-getty.service systemd-update-utmp.service systemd-journal-flush.service; do
	ln -sf /dev/null "$root/etc/systemd/system/$unit"
done
chroot "$root" passwd -q -d root >/dev/null 2>&1 || true

# Modules are unpacked here once and not at each load in each guest.
kernel=$(basename "$(ls -d "$root"/lib/modules/*)")
find "$root/lib/modules/$kernel" -name '*.ko.xz' -exec "$root/bin/busybox" unxz {} +
chroot "$root" depmod -a "$kernel"

# A minimal initial RAM disk: everything but the disk's driver is built into Debian's cloud kernel.
ram=$root/tmp/initrd
mkdir -p "$ram/bin" "$ram/dev" "$ram/proc" "$ram/newroot"
cp "$root/bin/busybox" "$ram/bin/busybox"
ln -s busybox "$ram/bin/sh"
cp "$(find "$root/lib/modules/$kernel" -name virtio_blk.ko)" "$ram/virtio_blk.ko"
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
