package qemu

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/hiveproof/hiveproof/provision/image"
	"github.com/hiveproof/hiveproof/provision/topology"
)

// Sealer returns the image.Sealer of this provider.
func Sealer(accel Accel, ledger Ledger) image.Sealer {
	return func(ctx context.Context, in image.SealInput, progress func(string)) (map[string]string, error) {
		return seal(ctx, accel, ledger, in, progress)
	}
}

// helperScript takes the helper out of the agent's image.
const helperScript = `set -eu
id=$(docker create "$(docker image ls -q hiveproof/agent | head -n 1)")
docker cp -q "$id:/hiveproof-agent" /usr/lib/hiveproof/agent
docker rm "$id"`

// loadScript loads the archive, which is attached as a raw disk: tar ignores the
// padding after its end.
const loadScript = `set -eu
for i in $(seq 120); do docker version >/dev/null 2>&1 && break; sleep 1; done
docker load -q -i /dev/vdb`

// sealScript removes what each host must have of its own.
const sealScript = `set -eu
systemctl stop docker.socket docker.service containerd.service
rm -rf /var/lib/docker/engine-id /etc/docker/key.json /var/lib/docker/swarm /var/lib/docker/network /var/lib/docker/containerd
rm -f /etc/hostname /var/lib/systemd/random-seed /var/log/*.log
echo 127.0.0.1 localhost > /etc/hosts
: > /etc/machine-id
sync`

// versionScript prints what is on the image, a component and its version a line.
const versionScript = `dpkg-query -W -f '${Package} ${Version}\n' docker.io containerd runc drbd-utils nfs-kernel-server haproxy systemd iptables 2>/dev/null
echo "kernel $(uname -r)"
echo "debian $(cat /etc/debian_version)"`

const sealTimeout = 15 * time.Minute

func seal(ctx context.Context, accel Accel, ledger Ledger, in image.SealInput, progress func(string)) (_ map[string]string, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, sealTimeout, fmt.Errorf("sealing took longer than %s", sealTimeout))
	defer cancel()
	top := topology.Default()
	top.Hosts = top.Hosts[:1]
	top.Hosts[0].Name = "seal"
	c := newCluster(Config{
		Topology: top,
		Image:    &image.Image{Kernel: in.Kernel, Initrd: in.Initrd},
		Accel:    accel, Dir: in.Dir, Ledger: ledger,
		BootTimeout: sealTimeout,
		Progress:    func(_, message string) { progress(message) },
		overSSH:     true,
	})
	defer func() { err = errors.Join(err, c.Close()) }()
	if err := c.prepare(); err != nil {
		return nil, err
	}
	h := c.hosts[0]
	// The image's own disk, not an overlay: what this boot writes is the image.
	h.vmConfig.disk, h.disks = in.Disk, true
	h.vmConfig.disks = []disk{{path: in.Archive, format: "raw", readOnly: true}}
	progress("first boot")
	if err := c.boot(ctx); err != nil {
		return nil, err
	}
	out, err := h.Run(ctx, versionScript, nil)
	if err != nil {
		return nil, fmt.Errorf("read the versions: %w", err)
	}
	versions := map[string]string{}
	for line := range strings.Lines(string(out)) {
		if name, version, ok := strings.Cut(strings.TrimSpace(line), " "); ok {
			versions[name] = version
		}
	}
	progress("loading images into the engine")
	scripts := []string{loadScript, sealScript}
	if in.Helper {
		scripts = []string{loadScript, helperScript, sealScript}
	}
	for _, script := range scripts {
		if _, err := h.Run(ctx, script, nil); err != nil {
			return nil, errors.Join(fmt.Errorf("load images: %w", err), consoleOf(h))
		}
	}
	progress("shutting down")
	// The shutdown takes the session with it: only the end of the machine tells.
	_, _ = h.Run(ctx, "systemctl --no-block poweroff", nil)
	if err := h.vm.waitPowerOff(ctx); err != nil {
		return nil, errors.Join(err, consoleOf(h))
	}
	return versions, nil
}

func consoleOf(h *Host) error {
	lines := h.ConsoleTail(consoleLines)
	if len(lines) == 0 {
		return nil
	}
	return fmt.Errorf("%s: the last lines of its console:\n  %s", h.Name(), strings.Join(lines, "\n  "))
}
