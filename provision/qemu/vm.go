package qemu

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/hiveproof/hiveproof/provision/child"
	"golang.org/x/sys/unix"
)

// program is the system emulator; Package is where Debian has it.
const (
	program = "qemu-system-x86_64"
	Package = "qemu-system-x86"
)

// vmConfig is everything that one QEMU process is started with.
type vmConfig struct {
	name           string
	dir            string // for the console log and the fw_cfg files; must exist
	accel          Accel
	cx16           bool // its programs need CMPXCHG16B: see Accel.args
	kernel, initrd string
	disk           string // qcow2, written to
	disks          []disk // further ones
	memoryMiB      int
	cpus           int
	nics           []nic
	fwCfg          map[string][]byte // by name below opt/hiveproof/
	machineID      string            // systemd machine ID: 32 hexadecimal digits
	// incoming is the state to start from, as a stopped machine's migration wrote it;
	// the machine then waits, stopped, for cont. nil boots.
	incoming *os.File
}

type disk struct {
	path, format string
	readOnly     bool
}

type nic struct {
	mac net.HardwareAddr
	// attach is given our end of the stream once QEMU has the other.
	attach func(net.Conn)
}

// vm is one running QEMU process.
type vm struct {
	cfg     vmConfig
	cmd     *exec.Cmd
	started time.Time
	qmp     *qmpClient
	done    chan struct{} // closed when the process has ended
	stderr  *tailBuffer
	waitErr error // valid after done
}

// kernelArguments keep a guest's boot short: no names to negotiate, no audit, no
// mitigations that cost emulation time; AppArmor off, because Debian's kernel
// enables it and an engine without its tools refuses to start any container.
// Programs are loaded at the same addresses each time: QEMU's translated code is
// bound to them, and with random ones every new process is translated anew, which
// makes it three times slower (docs/performance.md). A panic restarts at once, which -no-reboot makes the end of the machine: that is
// noticed, a hang is not.
const kernelArguments = "console=ttyS0 root=/dev/vda rw loglevel=4 mitigations=off apparmor=0 audit=0 net.ifnames=0 " +
	"tsc=reliable no_timer_check nokaslr norandmaps systemd.show_status=1 panic=-1"

// startVM starts a machine. It returns when QEMU runs, long before the guest does.
func startVM(ctx context.Context, cfg vmConfig) (_ *vm, err error) {
	// What QEMU inherits, from descriptor 3 on. Sockets are pairs made here: there is
	// no path to connect to.
	var inherited, theirs []*os.File
	var ours []net.Conn
	defer func() {
		for _, f := range theirs {
			f.Close() // so that our end sees the close when QEMU ends
		}
		if err != nil {
			for _, c := range ours {
				c.Close()
			}
		}
	}()
	inherit := func(f *os.File) int {
		inherited = append(inherited, f)
		return 2 + len(inherited)
	}
	pair := func(what string) (int, error) {
		near, far, err := socketPair(cfg.name + " " + what)
		if err != nil {
			return 0, fmt.Errorf("%s: make the %s socket: %w", cfg.name, what, err)
		}
		ours, theirs = append(ours, near), append(theirs, far)
		return inherit(far), nil
	}
	args, err := cfg.args()
	if err != nil {
		return nil, err
	}
	incoming := ""
	if cfg.incoming != nil {
		incoming = fmt.Sprintf("fd:%d", inherit(cfg.incoming))
		args = append(args, "-S", "-incoming", "defer")
	}
	fd, err := pair("monitor")
	if err != nil {
		return nil, err
	}
	args = append(args, "-chardev", fmt.Sprintf("socket,id=qmp,fd=%d", fd), "-mon", "chardev=qmp,mode=control")
	for i, n := range cfg.nics {
		if fd, err = pair("network"); err != nil {
			return nil, err
		}
		args = append(args,
			"-netdev", fmt.Sprintf("stream,id=net%d,server=off,addr.type=fd,addr.str=%d", i, fd),
			"-device", fmt.Sprintf("virtio-net-pci,netdev=net%d,mac=%s,romfile=", i, n.mac))
	}

	cmd := exec.Command(program, args...)
	stderr := &tailBuffer{max: 4 << 10}
	cmd.Stderr, cmd.ExtraFiles = stderr, inherited
	// A session of its own: Ctrl-C is ours to handle, QEMU must not act on it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := child.Start(cmd, syscall.SIGKILL); err != nil {
		return nil, fmt.Errorf("%s: start %s (apt-get install %s): %w", cfg.name, program, Package, err)
	}
	v := &vm{cfg: cfg, cmd: cmd, started: time.Now(), done: make(chan struct{}), stderr: stderr}
	go func() {
		v.waitErr = cmd.Wait()
		close(v.done)
	}()
	for _, f := range theirs {
		f.Close()
	}
	theirs = nil
	for i, n := range cfg.nics {
		n.attach(ours[1+i])
	}

	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	if v.qmp, err = newQMP(ctx, ours[0]); err == nil && incoming != "" {
		err = v.load(ctx, incoming)
	}
	if err != nil {
		v.kill()
		return nil, fmt.Errorf("%s: %w%s", cfg.name, err, v.said())
	}
	return v, nil
}

// args are QEMU's arguments as far as they name no inherited descriptor. They
// are always in the same order: a machine's state only fits the same machine.
func (cfg vmConfig) args() ([]string, error) {
	accel, kernel := cfg.accel.args(cfg.cx16)
	args := []string{
		"-name", cfg.name, "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
		"-machine", "q35", "-smp", strconv.Itoa(cfg.cpus), "-m", strconv.Itoa(cfg.memoryMiB),
		"-kernel", cfg.kernel, "-initrd", cfg.initrd,
		"-append", kernelArguments + kernel + " systemd.machine_id=" + cfg.machineID,
		"-chardev", "file,id=console,path=" + escape(consolePath(cfg.dir)) + ",append=on", "-serial", "chardev:console",
		"-device", "virtio-rng-pci",
	}
	args = append(args, accel...)
	for i, d := range append([]disk{{path: cfg.disk, format: "qcow2"}}, cfg.disks...) {
		// The lab's disks are thrown away with the lab: nothing is flushed for the host's sake.
		args = append(args, "-drive", fmt.Sprintf("id=disk%d,if=none,file=%s,format=%s,cache=unsafe,discard=unmap,read-only=%s",
			i, escape(d.path), d.format, onOff(d.readOnly)),
			"-device", fmt.Sprintf("virtio-blk-pci,drive=disk%d", i))
	}
	for _, name := range slices.Sorted(maps.Keys(cfg.fwCfg)) {
		path := filepath.Join(cfg.dir, "fw-"+name)
		if err := os.WriteFile(path, cfg.fwCfg[name], 0o600); err != nil {
			return nil, fmt.Errorf("%s: write the guest's identity: %w", cfg.name, err)
		}
		args = append(args, "-fw_cfg", "name=opt/hiveproof/"+name+",file="+escape(path))
	}
	return args, nil
}

// socketPair returns our end as a connection and QEMU's as a file.
func socketPair(name string) (net.Conn, *os.File, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, err
	}
	for _, fd := range fds {
		// Room for a burst of frames; the kernel may allow less.
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, 1<<20)
	}
	ours, theirs := os.NewFile(uintptr(fds[0]), name), os.NewFile(uintptr(fds[1]), name)
	conn, err := net.FileConn(ours)
	ours.Close()
	if err != nil {
		theirs.Close()
		return nil, nil, err
	}
	return conn, theirs, nil
}

// escape doubles commas, which separate the parts of a QEMU option.
func escape(path string) string { return strings.ReplaceAll(path, ",", ",,") }

func onOff(b bool) string {
	if b {
		return "on"
	}
	return "off"
}

func consolePath(dir string) string { return filepath.Join(dir, "console.log") }

// pid is the QEMU process's.
func (v *vm) pid() int { return v.cmd.Process.Pid }

// running says whether the process still lives.
func (v *vm) running() bool {
	select {
	case <-v.done:
		return false
	default:
		return true
	}
}

// said is what QEMU printed, for an error message.
func (v *vm) said() string {
	if text := v.stderr.String(); text != "" {
		return "; QEMU said: " + text
	}
	return ""
}

// kill cuts the power and waits for the process to be gone.
func (v *vm) kill() {
	_ = v.cmd.Process.Kill() // it may have ended by itself
	<-v.done
}

// waitPowerOff waits until the guest has shut itself down.
func (v *vm) waitPowerOff(ctx context.Context) error {
	select {
	case <-v.done:
		if v.waitErr != nil {
			return fmt.Errorf("%s: %w%s", v.cfg.name, v.waitErr, v.said())
		}
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%s: wait for the guest to shut down: %w", v.cfg.name, context.Cause(ctx))
	}
}

// consoleTail returns the last n lines of a console log.
func consoleTail(dir string, n int) []string {
	const most = 64 << 10
	file, err := os.Open(consolePath(dir))
	if err != nil {
		return nil
	}
	defer file.Close()
	if st, err := file.Stat(); err == nil && st.Size() > most {
		if _, err := file.Seek(-most, io.SeekEnd); err != nil {
			return nil
		}
	}
	text, err := io.ReadAll(file)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil
	}
	var lines []string
	for line := range bytes.Lines(text) {
		clean := strings.TrimRight(printable(string(line)), " ")
		if clean != "" {
			lines = append(lines, clean)
		}
	}
	if len(lines) > n {
		lines = lines[len(lines)-n:]
	}
	return lines
}

// printable removes the terminal's control sequences from a console line.
func printable(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == 0x1b && i+1 < len(s) && s[i+1] == '[': // CSI: up to its final byte (ECMA-48, 5.4)
			for i += 2; i < len(s) && (s[i] < 0x40 || s[i] > 0x7e); i++ {
			}
		case c == '\t' || c >= 0x20 && c != 0x7f:
			b.WriteByte(c)
		}
	}
	return b.String()
}

// tailBuffer keeps the last bytes written to it.
type tailBuffer struct {
	mu   sync.Mutex
	max  int
	data []byte
}

func (t *tailBuffer) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.data = append(t.data, p...)
	if over := len(t.data) - t.max; over > 0 {
		t.data = t.data[over:]
	}
	return len(p), nil
}

func (t *tailBuffer) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.TrimSpace(string(t.data))
}
