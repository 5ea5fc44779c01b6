package qemu

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/hiveproof/hiveproof/provision"
	"github.com/hiveproof/hiveproof/provision/child"
	"github.com/hiveproof/hiveproof/provision/helper"
	"github.com/hiveproof/hiveproof/provision/remote"
	"github.com/hiveproof/hiveproof/provision/topology"
)

// Host is one virtual machine. It is safe for concurrent use.
type Host struct {
	cluster *Cluster
	spec    topology.Host
	dir     string
	address netip.Addr // on the management network

	mu        sync.Mutex
	vmConfig  vmConfig
	vm        *vm // nil while the power is off
	disks     bool
	publicKey string
	conn      control
}

// control is how a host is spoken to: through its helper or, before its image has
// one, over SSH.
type control interface {
	Run(ctx context.Context, command string, stdin io.Reader) ([]byte, error)
	DialUnix(ctx context.Context, path string) (net.Conn, error)
	// WaitReady tries until the host answers.
	WaitReady(ctx context.Context) error
	// Close ends what is under way; the next use connects anew.
	Close() error
}

var _, _ control = (*remote.Conn)(nil), (*helper.Conn)(nil)

var (
	_ provision.Host          = (*Host)(nil)
	_ provision.PowerControl  = (*Host)(nil)
	_ provision.ConsoleReader = (*Host)(nil)
)

// Name is the host's name.
func (h *Host) Name() string { return h.spec.Name }

// Addr is the host's address on the segment.
func (h *Host) Addr() netip.Addr { return h.spec.Addr }

// CPUs is the number of virtual processors.
func (h *Host) CPUs() int { return h.spec.CPUs }

// MemoryMiB is the size of the memory.
func (h *Host) MemoryMiB() int { return h.spec.MemoryMiB }

// Run runs a shell command as root.
func (h *Host) Run(ctx context.Context, command string, stdin io.Reader) ([]byte, error) {
	return h.control().Run(ctx, command, stdin)
}

// DialUnix connects to a unix socket on the host.
func (h *Host) DialUnix(ctx context.Context, path string) (net.Conn, error) {
	return h.control().DialUnix(ctx, path)
}

func (h *Host) dialSSH(ctx context.Context) (net.Conn, error) {
	return h.dialPort(ctx, 22)
}

func (h *Host) dialHelper(ctx context.Context) (net.Conn, error) {
	return h.dialPort(ctx, helper.Port)
}

func (h *Host) dialPort(ctx context.Context, port uint16) (net.Conn, error) {
	return h.cluster.control.DialContext(ctx, "tcp", netip.AddrPortFrom(h.address, port).String())
}

func (h *Host) control() control {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.conn
}

// ConsoleTail returns at most the last n lines of the console.
func (h *Host) ConsoleTail(n int) []string { return consoleTail(h.dir, n) }

// start boots the machine.
func (h *Host) start(ctx context.Context) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.vm != nil && h.vm.running() {
		return fmt.Errorf("%s: is on already", h.Name())
	}
	if !h.disks {
		if err := h.createDisks(ctx, h.cluster.cfg.Image.Disk, nil); err != nil {
			return err
		}
	}
	return h.launch(ctx, nil)
}

// launch starts QEMU, to boot or in the state that incoming holds, and enters it
// in the ledger. h.mu is held.
func (h *Host) launch(ctx context.Context, incoming *os.File) error {
	cfg := h.vmConfig
	cfg.incoming = incoming
	v, err := startVM(ctx, cfg)
	if err != nil {
		return err
	}
	if err := h.cluster.cfg.Ledger.AddProcess(v.pid(), "qemu "+h.Name()); err != nil {
		v.kill()
		return err
	}
	h.vm = v
	return nil
}

// createDisks makes the overlays that the machine writes to, over the image or
// a saved disk each; an empty disk where there is nothing below. h.mu is held.
func (h *Host) createDisks(ctx context.Context, system string, further []string) error {
	format := func(below string) []string {
		if below == "" {
			return nil
		}
		return []string{"-b", below, "-F", "qcow2"}
	}
	create := func(path, below string, mib int) error {
		args := append([]string{"create", "-q", "-f", "qcow2"}, format(below)...)
		if err := child.Run(ctx, nil, nil, "qemu-img", append(args, path, fmt.Sprintf("%dM", mib))...); err != nil {
			return fmt.Errorf("%s: make its disks: %w", h.Name(), err)
		}
		return nil
	}
	if err := create(h.vmConfig.disk, system, h.spec.DiskMiB); err != nil {
		return err
	}
	for j, mib := range h.spec.DisksMiB {
		below := ""
		if j < len(further) {
			below = further[j]
		}
		if err := create(h.vmConfig.disks[j].path, below, mib); err != nil {
			return err
		}
	}
	h.disks = true
	return nil
}

// errPoweredOff is the cause given to what waits for a machine that ends.
var errPoweredOff = errors.New("the machine went off")

// waitReady waits until the host answers, or its machine ends. Its clock is set then.
func (h *Host) waitReady(ctx context.Context, timeout time.Duration) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	h.mu.Lock()
	v, conn := h.vm, h.conn
	h.mu.Unlock()
	if v == nil {
		return fmt.Errorf("%s: is off", h.Name())
	}
	finished := make(chan struct{})
	defer close(finished)
	go func() {
		select {
		case <-v.done:
			cancel(fmt.Errorf("%w%s", errPoweredOff, v.said()))
		case <-finished:
		}
	}()
	ctx, stop := context.WithTimeoutCause(ctx, timeout, fmt.Errorf("no answer within %s", timeout))
	defer stop()
	if err := conn.WaitReady(ctx); err != nil {
		if cause := context.Cause(ctx); cause == context.Canceled {
			return fmt.Errorf("%s: %w", h.Name(), cause) // interrupted: the console would say nothing
		}
		return &BootError{Host: h.Name(), Console: h.ConsoleTail(consoleLines), Err: err}
	}
	return nil
}

// Usage is what a host takes of this machine.
type Usage struct {
	MemoryMiB int           // resident, of its QEMU process
	Uptime    time.Duration // since the process was started, by a boot or a restore
}

// Usage of the i-th host; zero if it is off.
func (c *Cluster) Usage(i int) Usage {
	h := c.hosts[i]
	h.mu.Lock()
	v := h.vm
	h.mu.Unlock()
	if v == nil || !v.running() {
		return Usage{}
	}
	u := Usage{Uptime: time.Since(v.started)}
	var pages int
	// A figure for people: a process that has just ended has none.
	if text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", v.pid())); err == nil {
		if _, err := fmt.Sscan(string(text), new(int), &pages); err == nil {
			u.MemoryMiB = pages * os.Getpagesize() >> 20
		}
	}
	return u
}

func (h *Host) isRunning() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.vm != nil && h.vm.running()
}

// cutPower ends the machine if it runs.
func (h *Host) cutPower() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.vm != nil {
		h.vm.kill()
		h.vm = nil
	}
}

// PowerOff cuts the power.
func (h *Host) PowerOff(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%s: power off: %w", h.Name(), context.Cause(ctx))
	}
	h.cutPower()
	return nil
}

// PowerOn starts the machine and waits until it answers.
func (h *Host) PowerOn(ctx context.Context) error {
	if err := h.start(ctx); err != nil {
		return err
	}
	return h.waitReady(ctx, h.cluster.cfg.BootTimeout)
}

// Reset presses the reset button and waits until the guest answers again.
// The machine is started anew, as a fresh QEMU process on the same disk: it was
// started to end, and not to reboot, so that a guest that panics is noticed.
func (h *Host) Reset(ctx context.Context) error {
	if err := h.PowerOff(ctx); err != nil {
		return err
	}
	return h.PowerOn(ctx)
}

// Pause stops the machine's processors; its clock stands still.
func (h *Host) Pause(ctx context.Context) error { return h.monitor(ctx, "stop") }

// Resume lets a paused machine go on.
func (h *Host) Resume(ctx context.Context) error { return h.monitor(ctx, "cont") }

func (h *Host) monitor(ctx context.Context, command string) error {
	h.mu.Lock()
	v := h.vm
	h.mu.Unlock()
	if v == nil {
		return fmt.Errorf("%s: %s: the power is off", h.Name(), command)
	}
	if _, err := v.qmp.Execute(ctx, command, nil); err != nil {
		return fmt.Errorf("%s: %w", h.Name(), err)
	}
	return nil
}
