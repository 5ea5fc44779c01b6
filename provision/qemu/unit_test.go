package qemu

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hiveproof/hiveproof/provision/child"
)

// limit is for what must happen at once, on a machine that is busy with other things.
const limit = 30 * time.Second

// peer is QEMU's end of a monitor connection.
type peer struct {
	t    *testing.T
	conn net.Conn
	in   *bufio.Reader
}

type request struct {
	Execute   string
	Arguments map[string]any
	ID        uint64
}

func (p *peer) next() request {
	p.t.Helper()
	line, err := p.in.ReadBytes('\n')
	if err != nil {
		p.t.Fatal(err)
	}
	var r request
	if err := json.Unmarshal(line, &r); err != nil {
		p.t.Fatal(err)
	}
	return r
}

func (p *peer) say(format string, args ...any) {
	p.t.Helper()
	if _, err := fmt.Fprintf(p.conn, format+"\r\n", args...); err != nil {
		p.t.Fatal(err)
	}
}

const greeting = `{"QMP": {"version": {"qemu": {"micro": 22, "minor": 2, "major": 7}}, "capabilities": ["oob"]}}`

// monitor returns a client that has negotiated, and its peer.
func monitor(t *testing.T) (*qmpClient, *peer) {
	t.Helper()
	ours, theirs := net.Pipe()
	t.Cleanup(func() { ours.Close(); theirs.Close() })
	if err := theirs.SetDeadline(time.Now().Add(limit)); err != nil {
		t.Fatal(err)
	}
	p := &peer{t, theirs, bufio.NewReader(theirs)}
	type result struct {
		c   *qmpClient
		err error
	}
	done := make(chan result, 1)
	go func() {
		c, err := newQMP(t.Context(), ours)
		done <- result{c, err}
	}()
	p.say(greeting)
	r := p.next()
	if r.Execute != "qmp_capabilities" {
		t.Fatalf("first command %+v", r)
	}
	p.say(`{"return": {}, "id": %d}`, r.ID)
	got := <-done
	if got.err != nil {
		t.Fatal(got.err)
	}
	return got.c, p
}

type answer struct {
	value json.RawMessage
	err   error
}

func execute(ctx context.Context, c *qmpClient, command string, arguments any) <-chan answer {
	done := make(chan answer, 1)
	go func() {
		value, err := c.Execute(ctx, command, arguments)
		done <- answer{value, err}
	}()
	return done
}

func TestRepliesMatchByID(t *testing.T) {
	c, p := monitor(t)
	replies := map[string]<-chan answer{}
	ids := map[string]uint64{}
	for _, command := range []string{"query-status", "query-block", "stop"} {
		replies[command] = execute(t.Context(), c, command, map[string]string{"of": command})
		r := p.next()
		if r.Execute != command || r.Arguments["of"] != command {
			t.Errorf("sent %+v", r)
		}
		ids[command] = r.ID
	}
	p.say(`{"return": {}, "id": 987654}`) // of a command that nobody waits for
	p.say(`{"return": "block", "id": %d}`, ids["query-block"])
	p.say(`{"error": {"class": "GenericError", "desc": "not now"}, "id": %d}`, ids["stop"])
	p.say(`{"return": "status", "id": %d}`, ids["query-status"])
	for command, want := range map[string]string{"query-status": `"status"`, "query-block": `"block"`} {
		if a := <-replies[command]; a.err != nil || string(a.value) != want {
			t.Errorf("%s: %s, %v", command, a.value, a.err)
		}
	}
	a := <-replies["stop"]
	var failed *qmpError
	if !errors.As(a.err, &failed) || failed.Class != "GenericError" || a.err.Error() != "qmp stop: not now" {
		t.Errorf("stop: %v", a.err)
	}
}

func TestEvent(t *testing.T) {
	c, p := monitor(t)
	powerdown, other := c.Event("POWERDOWN"), c.Event("STOP")
	p.say(`{"event": "POWERDOWN", "timestamp": {"seconds": 1, "microseconds": 2}}`)
	p.say(`{"event": "POWERDOWN"}`) // for which nobody waits any more
	select {
	case <-powerdown:
	case <-time.After(limit):
		t.Fatal("no event")
	}
	select {
	case <-other:
		t.Error("another event than what was waited for")
	default:
	}
}

func TestCommandIsCancelled(t *testing.T) {
	c, p := monitor(t)
	cause := errors.New("the user pressed Ctrl-C")
	ctx, cancel := context.WithCancelCause(t.Context())
	reply := execute(ctx, c, "stop", nil)
	r := p.next()
	if r.Arguments != nil {
		t.Errorf("arguments %v, want none", r.Arguments)
	}
	cancel(cause)
	if a := <-reply; !errors.Is(a.err, cause) {
		t.Errorf("%v, want the cause", a.err)
	}
	p.say(`{"return": {}, "id": %d}`, r.ID) // too late, and not the next one's
	reply = execute(t.Context(), c, "cont", nil)
	p.say(`{"return": "second", "id": %d}`, p.next().ID)
	if a := <-reply; string(a.value) != `"second"` {
		t.Errorf("%s, %v", a.value, a.err)
	}
}

func TestMonitorCloses(t *testing.T) {
	for name, end := range map[string]func(*peer){
		"closed":  func(p *peer) { p.conn.Close() },
		"garbage": func(p *peer) { p.say("qemu: this is not JSON") },
	} {
		c, p := monitor(t)
		reply := execute(t.Context(), c, "stop", nil)
		p.next()
		end(p)
		if a := <-reply; !errors.Is(a.err, errMonitorClosed) {
			t.Errorf("%s: %v", name, a.err)
		}
		if _, err := c.Execute(t.Context(), "cont", nil); !errors.Is(err, errMonitorClosed) {
			t.Errorf("%s: afterwards: %v", name, err)
		}
	}
}

func TestPrintable(t *testing.T) {
	for in, want := range map[string]string{
		"plain\ttext\r\n":                          "plain\ttext",
		"[\x1b[0;32m  OK  \x1b[0m] Started\r\n":    "[  OK  ] Started",
		"\x1b[2J\x1b[1;1Hlogin: ":                  "login: ",
		"bell\a and \x7f delete":                   "bell and  delete",
		"Größe":                                    "Größe",
		"cut off \x1b[0;3":                         "cut off ",
		"at the end \x1b":                          "at the end ",
		"\x1b[?25lSeaBIOS \x1b[38;5;185mx\x1b[39m": "SeaBIOS x",
	} {
		if got := printable(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

func TestConsoleTail(t *testing.T) {
	dir := t.TempDir()
	if lines := consoleTail(dir, 5); lines != nil {
		t.Errorf("no console: %q", lines)
	}
	var b strings.Builder
	for i := range 20000 {
		fmt.Fprintf(&b, "line %d  \r\n\r\n", i)
	}
	b.WriteString("\x1b[31mKernel panic\x1b[0m")
	if err := os.WriteFile(consolePath(dir), []byte(b.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, want := consoleTail(dir, 3), []string{"line 19998", "line 19999", "Kernel panic"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if n := len(consoleTail(dir, 1<<20)); n < 1000 || n >= 20000 {
		t.Errorf("%d lines of a long console", n)
	}
}

func TestTailBuffer(t *testing.T) {
	b := &tailBuffer{max: 8}
	for _, part := range []string{"abc", "", "defgh", "ij\n"} {
		if n, err := b.Write([]byte(part)); n != len(part) || err != nil {
			t.Errorf("%d, %v: a short write would end the copy of standard error", n, err)
		}
	}
	if b.String() != "defghij" {
		t.Errorf("kept %q", b)
	}
	if _, err := b.Write([]byte("0123456789")); err != nil || b.String() != "23456789" {
		t.Errorf("kept %q, %v", b, err)
	}
}

func TestMacOf(t *testing.T) {
	a, b := macOf(netip.MustParseAddr("192.168.56.4")), macOf(netip.MustParseAddr("192.168.56.5"))
	if a.String() != "52:54:c0:a8:38:04" || a.String() == b.String() {
		t.Errorf("%s and %s", a, b)
	}
	if a[0]&3 != 2 {
		t.Errorf("%s is not a locally administered address of one machine", a)
	}
}

// fakeQEMU puts a script in QEMU's place; it writes its arguments to the file returned.
func fakeQEMU(t *testing.T, script string) (args string) {
	t.Helper()
	bin := t.TempDir()
	args = filepath.Join(bin, "args")
	t.Setenv("FAKE_ARGS", args)
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	text := "#!/bin/sh\nprintf '%s\\n' \"$@\" > \"$FAKE_ARGS\"\n" + script + "\n"
	if err := os.WriteFile(filepath.Join(bin, program), []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	return args
}

// testVM is a machine with a comma in its paths; attached is given its network stream.
func testVM(t *testing.T) (cfg vmConfig, attached chan net.Conn) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "a,b")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	attached = make(chan net.Conn, 1)
	return vmConfig{
		name: "alpha", dir: dir, accel: TCG, kernel: "/k", initrd: "/i", disk: filepath.Join(dir, "disk"),
		disks: []disk{{path: "/agent.tar", format: "raw", readOnly: true}}, memoryMiB: 512, cpus: 1,
		nics:  []nic{{mac: macOf(netip.MustParseAddr("10.0.0.1")), attach: func(c net.Conn) { attached <- c }}},
		fwCfg: map[string][]byte{"identity": []byte("hostname alpha\n")}, machineID: strings.Repeat("0", 32),
	}, attached
}

func TestStartFails(t *testing.T) {
	fakeQEMU(t, `echo "$0: -netdev stream: invalid value" >&2; exit 1`)
	cfg, attached := testVM(t)
	v, err := startVM(t.Context(), cfg)
	if err == nil || v != nil || !strings.Contains(err.Error(), "-netdev stream: invalid value") || !strings.HasPrefix(err.Error(), "alpha: ") {
		t.Fatalf("%v, want what QEMU said", err)
	}
	stream := <-attached
	if err := stream.SetReadDeadline(time.Now().Add(limit)); err == nil {
		if _, err := stream.Read(make([]byte, 1)); errors.Is(err, os.ErrDeadlineExceeded) || err == nil {
			t.Errorf("the network stream of a dead machine is open: %v", err)
		}
	}
}

func TestStartCancelled(t *testing.T) {
	fakeQEMU(t, `echo '{"QMP": {}}' >&3; exec sleep 600`)
	cfg, _ := testVM(t)
	cause := errors.New("the user pressed Ctrl-C")
	ctx, cancel := context.WithCancelCause(t.Context())
	cfg.nics[0].attach = func(net.Conn) { cancel(cause) }
	if v, err := startVM(ctx, cfg); !errors.Is(err, cause) || v != nil {
		t.Fatalf("%v, want the cause", err)
	}
}

func TestQEMUMissing(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	cfg, _ := testVM(t)
	if _, err := startVM(t.Context(), cfg); !child.Missing(err) || !strings.Contains(err.Error(), "apt-get install "+Package) {
		t.Errorf("%v, want to be told what to install", err)
	}
	if _, err := Version(t.Context()); err == nil || !strings.Contains(err.Error(), "apt-get install "+Package) {
		t.Errorf("version: %v", err)
	}
}

// answering negotiates, then ends with the next command.
const answering = `echo '{"QMP": {}}' >&3
read command <&3
echo '{"return": {}, "id": 1}' >&3
printf frame >&4
read command <&3
`

func TestStartAndEnd(t *testing.T) {
	args := fakeQEMU(t, answering+`echo '{"return": {}, "id": 2}' >&3`)
	cfg, attached := testVM(t)
	v, err := startVM(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer v.kill()
	if !v.running() || v.pid() <= 0 {
		t.Error("a started machine does not run")
	}
	if _, err := v.qmp.Execute(t.Context(), "system_powerdown", nil); err != nil {
		t.Error(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	if err := v.waitPowerOff(ctx); err != nil || v.running() {
		t.Errorf("it has ended: %v", err)
	}
	// All that it sent arrives, then the end: no copy of its end of the socket is left open here.
	stream := <-attached
	if err := stream.SetReadDeadline(time.Now().Add(limit)); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(stream); string(got) != "frame" || err != nil {
		t.Errorf("network stream: %q, %v", got, err)
	}
	text, err := os.ReadFile(args)
	if err != nil {
		t.Fatal(err)
	}
	escaped := strings.ReplaceAll(cfg.dir, ",", ",,")
	for _, want := range []string{
		"file=" + escaped + "/disk,format=qcow2", "path=" + escaped + "/console.log", "file=" + escaped + "/fw-identity\n",
		"file=/agent.tar,format=raw,cache=unsafe,discard=unmap,read-only=on", "mac=52:54:0a:00:00:01,", "systemd.machine_id=" + cfg.machineID,
		"-no-reboot\n", "-cpu\nmax,-cx16,-erms\n", "id=qmp,fd=3\n", "addr.type=fd,addr.str=4\n",
	} {
		if !strings.Contains(string(text), want) {
			t.Errorf("the arguments lack %q:\n%s", want, text)
		}
	}
}

func TestEndsByAccident(t *testing.T) {
	fakeQEMU(t, answering+`echo "out of memory" >&2; exit 1`)
	cfg, _ := testVM(t)
	v, err := startVM(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer v.kill()
	ctx, cancel := context.WithCancelCause(t.Context())
	cause := errors.New("the user pressed Ctrl-C")
	cancel(cause)
	if err := v.waitPowerOff(ctx); !errors.Is(err, cause) {
		t.Errorf("%v, want the cause", err)
	}
	if _, err := v.qmp.Execute(t.Context(), "system_powerdown", nil); !errors.Is(err, errMonitorClosed) {
		t.Errorf("command: %v", err)
	}
	if err := v.waitPowerOff(t.Context()); err == nil || !strings.Contains(err.Error(), "out of memory") {
		t.Errorf("%v, want what QEMU said", err)
	}
}
