package qemu

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/hiveproof/hiveproof/provision/child"
	"golang.org/x/sys/unix"
)

// Accel is how guests' instructions are run.
type Accel string

// The accelerators.
const (
	KVM Accel = "kvm"
	TCG Accel = "tcg" // QEMU's own translation: works everywhere, many times slower
)

// args are QEMU's, and what the kernel's command line needs beside them. A guest
// for programs that need the instruction CMPXCHG16B gets it.
func (a Accel) args(cx16 bool) (args []string, kernel string) {
	if a == KVM {
		return []string{"-accel", "kvm", "-cpu", "host"}, ""
	}
	// QEMU 7.2's emulation of CMPXCHG16B leaves wrong flags behind, and the guest's
	// kernel, which allocates memory with it, dies of a double fault in every third
	// boot (docs/performance.md). The kernel does without it if it must; HAProxy does
	// not, and tests its result at once, before the flags can do harm.
	//
	// Without ERMS guests clear and copy memory by words and vectors: its REP STOSB and
	// REP MOVSB are emulated byte by byte, which made starting a program take twice as long.
	args = []string{"-accel", "tcg,thread=multi,tb-size=512", "-cpu"}
	if cx16 {
		return append(args, "max,-erms"), " clearcpuid=cx16"
	}
	return append(args, "max,-cx16,-erms"), ""
}

// Proof says which acceleration this host has, and how that is known.
type Proof struct {
	Accel  Accel     `json:"accel"`
	Reason string    `json:"reason"` // a sentence for people
	Key    string    `json:"key"`    // what it depends on: kernel, QEMU, device
	Proved time.Time `json:"proved"`
}

// proofTimeout is how long the guest may take under KVM; it needs well under a second.
const proofTimeout = 15 * time.Second

// ProveAccel boots a guest under KVM, because a /dev/kvm that opens may still
// hang every guest (it does on some nested hosts). With the node image's kernel
// it boots that, as far as its first user-space program; without one (an empty
// string) only a boot sector. The answer is cached in cacheDir for each host
// kernel, QEMU version and guest.
func ProveAccel(ctx context.Context, cacheDir, kernel, initrd string) (Proof, error) {
	version, err := Version(ctx)
	if err != nil {
		return Proof{}, err
	}
	key := strings.Join([]string{hostKernel(), version, filepath.Base(filepath.Dir(kernel))}, "; ")
	cache := filepath.Join(cacheDir, "accel.json")
	if text, err := os.ReadFile(cache); err == nil {
		var p Proof
		if json.Unmarshal(text, &p) == nil && p.Key == key {
			return p, nil
		}
	}
	p := Proof{Accel: TCG, Key: key, Proved: time.Now().UTC()}
	if device, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0); err != nil {
		p.Reason = kvmMissing(err)
	} else {
		device.Close()
		err := bootUnderKVM(ctx, kernel, initrd)
		if ctx.Err() != nil {
			return Proof{}, fmt.Errorf("prove KVM: %w", context.Cause(ctx))
		}
		if err != nil {
			p.Reason = "/dev/kvm is there, but a test guest did not boot under it: " + err.Error()
		} else {
			p.Accel, p.Reason = KVM, "a test guest booted under KVM"
		}
	}
	if err := saveProof(cache, p); err != nil {
		return Proof{}, err
	}
	return p, nil
}

func saveProof(path string, p Proof) error {
	text, err := json.MarshalIndent(p, "", "  ")
	if err != nil {
		return fmt.Errorf("cache the proof of acceleration: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("cache the proof of acceleration: %w", err)
	}
	temp := fmt.Sprintf("%s.%d", path, os.Getpid())
	if err := os.WriteFile(temp, text, 0o644); err != nil {
		return fmt.Errorf("cache the proof of acceleration: %w", err)
	}
	if err := os.Rename(temp, path); err != nil {
		return fmt.Errorf("cache the proof of acceleration: %w", err)
	}
	return nil
}

func kvmMissing(err error) string {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "this host has no /dev/kvm (no virtualisation in the CPU, in the firmware, or in the machine that this one is a guest of)"
	case errors.Is(err, fs.ErrPermission):
		return "/dev/kvm may not be opened by this user (add it to the group kvm: usermod -aG kvm USER, then log in again)"
	default:
		return "/dev/kvm cannot be opened: " + err.Error()
	}
}

func hostKernel() string {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return "unknown kernel"
	}
	return "linux " + unix.ByteSliceToString(u.Release[:])
}

// bootSector prints K on the debug console (port 0xe9) and ends QEMU through
// isa-debug-exit (port 0xf4) with status 1; 16-bit code at 0x7c00.
var bootSector = func() []byte {
	sector := make([]byte, 512)
	copy(sector, []byte{
		0xb0, 'K', // mov al, 'K'
		0xe6, 0xe9, // out 0xe9, al
		0xb0, 0x00, // mov al, 0
		0xe6, 0xf4, // out 0xf4, al
		0xf4,       // hlt
		0xeb, 0xfd, // jmp to hlt
	})
	sector[510], sector[511] = 0x55, 0xaa
	return sector
}()

func bootUnderKVM(ctx context.Context, kernel, initrd string) error {
	dir, err := os.MkdirTemp("", "hiveproof-kvm-")
	if err != nil {
		return fmt.Errorf("make a directory: %w", err)
	}
	defer os.RemoveAll(dir)
	args := []string{"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-machine", "q35", "-m", "256"}
	kvm, _ := KVM.args(false)
	args = append(args, kvm...)
	out := filepath.Join(dir, "out")
	want := "K"
	if kernel == "" {
		sector := filepath.Join(dir, "sector")
		if err := os.WriteFile(sector, bootSector, 0o600); err != nil {
			return fmt.Errorf("write the boot sector: %w", err)
		}
		args = append(args, "-drive", "file="+escape(sector)+",format=raw,if=ide,read-only=on,snapshot=on",
			"-device", "isa-debug-exit,iobase=0xf4,iosize=0x04",
			"-chardev", "file,id=d,path="+escape(out), "-device", "isa-debugcon,iobase=0xe9,chardev=d")
	} else {
		// Without a disk the image's init reports that it cannot mount one: by then
		// kernel and user space both ran.
		want = "cannot mount the root file system"
		args = append(args, "-kernel", kernel, "-initrd", initrd, "-append", "console=ttyS0 panic=-1 loglevel=4",
			"-chardev", "file,id=d,path="+escape(out), "-serial", "chardev:d")
	}
	ctx, cancel := context.WithTimeout(ctx, proofTimeout)
	defer cancel()
	cmd := exec.Command(program, args...)
	stderr := &tailBuffer{max: 512}
	cmd.Stderr = stderr
	if err := child.Start(cmd, syscall.SIGKILL); err != nil {
		return fmt.Errorf("start %s: %w", program, err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	seen := func() bool {
		text, err := os.ReadFile(out)
		return err == nil && strings.Contains(string(text), want)
	}
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case err := <-ended:
			if seen() {
				return nil
			}
			return fmt.Errorf("QEMU ended (%v): %s", err, firstLine(stderr.String()))
		case <-ctx.Done():
			_ = cmd.Process.Kill()
			<-ended
			return fmt.Errorf("it hung for %s (said: %q)", proofTimeout, stderr)
		case <-tick.C:
			if seen() {
				_ = cmd.Process.Kill()
				<-ended
				return nil
			}
		}
	}
}

// Version is QEMU's, such as "7.2.22".
func Version(ctx context.Context) (string, error) {
	out, err := child.Output(ctx, program, "--version")
	if child.Missing(err) {
		return "", fmt.Errorf("%s is not installed: apt-get install %s", program, Package)
	}
	if err != nil {
		return "", fmt.Errorf("ask QEMU for its version: %w", err)
	}
	_, rest, ok := strings.Cut(string(out), "version ")
	fields := strings.Fields(rest)
	if !ok || len(fields) == 0 {
		return "", fmt.Errorf("ask QEMU for its version: unexpected answer %q", firstLine(string(out)))
	}
	return fields[0], nil
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	return line
}
