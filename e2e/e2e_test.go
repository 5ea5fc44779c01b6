// Package e2e runs the built program on real virtual machines, as a user does.
// It does nothing unless HIVEPROOF_E2E is set: make e2e builds and sets it.
package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gopacket/gopacket/pcapgo"
	"github.com/hiveproof/hiveproof/provision/state"
	"github.com/hiveproof/hiveproof/reports"
)

func needVMs(t *testing.T) {
	t.Helper()
	if os.Getenv("HIVEPROOF_E2E") == "" {
		t.Skip("needs virtual machines and minutes: make e2e")
	}
}

// program is the built binary, with a state directory of the test's own. The
// image cache is the user's: building an image takes minutes.
type program struct {
	binary, state, output string
}

func newProgram(t *testing.T) *program {
	t.Helper()
	binary, err := filepath.Abs("../bin/hiveproof")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(binary); err != nil {
		t.Fatalf("%v: make build", err)
	}
	return &program{binary: binary, state: filepath.Join(t.TempDir(), "state"), output: filepath.Join(t.TempDir(), "results")}
}

func (p *program) command(args ...string) (*exec.Cmd, *bytes.Buffer) {
	cmd := exec.Command(p.binary, append([]string{"--state-dir", p.state}, args...)...)
	out := new(bytes.Buffer)
	cmd.Stdout, cmd.Stderr = out, out
	return cmd, out
}

// run runs the program to its end and returns what it printed; it fails the test
// if the exit code is another.
func (p *program) run(t *testing.T, want int, args ...string) string {
	t.Helper()
	started := time.Now()
	cmd, out := p.command(args...)
	err := cmd.Run()
	t.Logf("hiveproof %s: %.1fs", strings.Join(args, " "), time.Since(started).Seconds())
	if code := exitCode(t, err); code != want {
		t.Fatalf("hiveproof %s: exit %d, want %d\n%s", strings.Join(args, " "), code, want, out)
	}
	return out.String()
}

func exitCode(t *testing.T, err error) int {
	t.Helper()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit):
		return exit.ExitCode()
	}
	t.Fatal(err)
	return -1
}

func (p *program) result(t *testing.T) *reports.Result {
	t.Helper()
	r, err := reports.Load(filepath.Join(p.output, reports.LatestLink))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// ledger is what the state directory says that a run created.
type ledger struct {
	Processes []state.Process `json:"processes"`
	Paths     []string        `json:"paths"`
}

func (p *program) ledgers(t *testing.T) []ledger {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(p.state, "ledger", "*.json"))
	if err != nil {
		t.Fatal(err)
	}
	var all []ledger
	for _, f := range files {
		text, err := os.ReadFile(f)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		var l ledger
		if err == nil {
			err = json.Unmarshal(text, &l)
		}
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, l)
	}
	return all
}

// eventually waits until a condition holds.
func eventually(t *testing.T, limit time.Duration, what string, holds func() bool) {
	t.Helper()
	deadline := time.Now().Add(limit)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		if time.Now().After(deadline) {
			t.Fatalf("not within %s: %s", limit, what)
		}
		<-tick.C
	}
}

func TestSuite(t *testing.T) {
	needVMs(t)
	p := newProgram(t)
	t.Cleanup(func() {
		cmd, out := p.command("down")
		if err := cmd.Run(); err != nil {
			t.Errorf("down: %v\n%s", err, out)
		}
	})
	if out := p.run(t, 0, "up"); !strings.Contains(out, "the lab is up") {
		t.Errorf("up said: %s", out)
	}
	// Each part leaves the lab as it found it, so that the next can use it.
	t.Run("recipes pass", p.recipesPass)
	t.Run("a negative control fails", p.controlFails)
	t.Run("an interrupted run reports and cleans up", p.interrupted)
	t.Run("status and ssh", p.statusAndSSH)
	t.Run("a second lab is refused", func(t *testing.T) {
		cmd, out := p.command("image", "build")
		if code := exitCode(t, cmd.Run()); code != 3 || !strings.Contains(out.String(), "is using the state directory") {
			t.Errorf("exit %d: %s", code, out)
		}
	})
	t.Run("down leaves nothing", func(t *testing.T) {
		before := p.ledgers(t)
		p.run(t, 0, "down")
		for _, l := range before {
			gone(t, l, 0)
		}
		if out := p.run(t, 0, "status"); !strings.Contains(out, "no lab is up") {
			t.Errorf("status after down: %s", out)
		}
	})
}

// quick selects two scenarios and of their claims those that need no fault: the
// whole suite is what make run runs.
var quick = []string{"--scenario", "^stateless-", "--claim", "every-host|source|internal/"}

func (p *program) recipesPass(t *testing.T) {
	p.run(t, 0, append([]string{"run", "--output", p.output}, quick...)...)
	r := p.result(t)
	if r.Totals.Pass != 8 || r.Totals.Sum() != 8 {
		t.Errorf("totals: %+v, want 8 that pass", r.Totals)
	}
	dir := filepath.Join(p.output, reports.LatestLink)
	for _, name := range []string{reports.JUnitFile, reports.HTMLFile, reports.MarkdownFile} {
		if st, err := os.Stat(filepath.Join(dir, name)); err != nil || st.Size() == 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, phase := range []string{"image", "ready", "total"} {
		if _, ok := r.Lab.Timings[phase]; !ok {
			t.Errorf("the time of phase %s is not in the result", phase)
		}
	}
	for _, s := range r.Scenarios {
		kinds := map[string]int{}
		for _, e := range s.Evidence {
			kinds[e.Kind]++
			path := filepath.Join(dir, filepath.FromSlash(e.Path))
			if _, err := os.Stat(path); err != nil {
				t.Error(err)
			}
			if e.Kind == "pcapng" {
				readCapture(t, path)
			}
		}
		if kinds["pcapng"] != 1 || kinds["text"] < 10 || len(s.Notes) == 0 {
			t.Errorf("%s: evidence %v, notes %v", s.ID, kinds, s.Notes)
		}
	}
}

// readCapture reads every packet back and looks for an interface of each host.
func readCapture(t *testing.T, path string) {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	r, err := pcapgo.NewNgReader(file, pcapgo.DefaultNgReaderOptions)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]int{}
	for {
		_, info, err := r.ReadPacketData()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		i, err := r.Interface(info.InterfaceIndex)
		if err != nil {
			t.Fatal(err)
		}
		seen[i.Name]++
	}
	for _, name := range []string{"site/hive0", "site/hive1", "site/hive2", "site/router", "site/segment"} {
		if seen[name] == 0 {
			t.Errorf("%s: no packet of %s", path, name)
		}
	}
}

var ingressAddress = regexp.MustCompile(`10\.0\.0\.\d+ instead of client`)

func (p *program) controlFails(t *testing.T) {
	p.run(t, 1, "run", "--output", p.output, "--scenario", "^stateless-mesh$", "--control", "one-to-one/source-kept")
	r := p.result(t)
	if r.Totals.Fail != 1 || r.Totals.Sum() != 1 {
		t.Fatalf("totals: %+v, want one that fails", r.Totals)
	}
	c := r.Scenarios[0].Claims[0]
	if !c.Control || !ingressAddress.MatchString(c.Reason) {
		t.Errorf("%+v: want the observed ingress address in the reason", c)
	}
	if len(c.Samples) == 0 || !c.Samples[0].Counter {
		t.Errorf("the observation that contradicts the claim is not shown: %+v", c.Samples)
	}
	t.Log(c.Reason)
}

// interrupted sends Ctrl-C's signal while the services are being probed.
func (p *program) interrupted(t *testing.T) {
	cmd, out := p.command(append([]string{"run", "--output", p.output, "--json"}, quick...)...)
	cmd.Stdout = nil
	progress, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	events := json.NewDecoder(progress)
	sent := false
	for {
		var e reports.Event
		if err := events.Decode(&e); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		if !sent && e.Kind == reports.KindProgress && e.Phase == "ask" {
			sent = true
			if err := cmd.Process.Signal(os.Interrupt); err != nil {
				t.Fatal(err)
			}
		}
	}
	if code := exitCode(t, cmd.Wait()); !sent || code != reports.ExitInterrupted {
		t.Fatalf("signal sent: %v, exit %d, want %d\n%s", sent, code, reports.ExitInterrupted, out)
	}
	r := p.result(t)
	if !r.Run.Interrupted || r.Run.Finished == nil || r.Totals.NotRun != 8 || len(r.Run.Cleanup) > 0 {
		t.Errorf("result: %+v, totals %+v: want an interrupted run with 8 claims not run and nothing left to clean", r.Run, r.Totals)
	}
}

func (p *program) statusAndSSH(t *testing.T) {
	status := p.run(t, 0, "status")
	for _, want := range []string{"ready", "hive0", "192.168.56.13", "(leader)", "edge"} {
		if !strings.Contains(status, want) {
			t.Errorf("status does not say %q:\n%s", want, status)
		}
	}
	if out := p.run(t, 0, "ssh", "hive1", "--", "hostname"); strings.TrimSpace(out) != "hive1" {
		t.Errorf("ssh hive1 -- hostname: %q", out)
	}
	p.run(t, 7, "ssh", "hive2", "--", "exit", "7")
	p.run(t, 2, "ssh", "hive9")
	// What the runs before deployed is gone.
	if out := p.run(t, 0, "ssh", "hive0", "--", "docker", "service", "ls", "-q"); strings.TrimSpace(out) != "" {
		t.Errorf("services are left: %s", out)
	}
}

// gone checks that nothing of a ledger is left after a time.
func gone(t *testing.T, l ledger, limit time.Duration) {
	t.Helper()
	if len(l.Processes) == 0 || len(l.Paths) == 0 {
		t.Errorf("the ledger lists nothing to look for: %+v", l)
	}
	eventually(t, limit, "every QEMU process and disk of the lab is gone", func() bool {
		for _, p := range l.Processes {
			if state.Alive(p) {
				return false
			}
		}
		for _, path := range l.Paths {
			if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
				return false
			}
		}
		return true
	})
}

// TestKilledRunLeavesNothing kills a run that has just started its machines with
// a signal that it cannot handle.
func TestKilledRunLeavesNothing(t *testing.T) {
	needVMs(t)
	p := newProgram(t)
	cmd, out := p.command(append([]string{"run", "--output", p.output}, quick...)...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var l ledger
	eventually(t, 10*time.Minute, "three machines run", func() bool {
		for _, l = range p.ledgers(t) {
			if len(l.Processes) == 3 {
				return true
			}
		}
		return false
	})
	second, said := p.command("run", "--output", p.output)
	if code := exitCode(t, second.Run()); code != 3 || !strings.Contains(said.String(), fmt.Sprintf("pid %d", cmd.Process.Pid)) {
		t.Errorf("a second run beside the first: exit %d: %s", code, said)
	}
	overlays, err := filepath.Glob(filepath.Join(l.Paths[0], "hosts", "*", "disk.qcow2"))
	if err != nil || len(overlays) != 3 {
		t.Fatalf("overlays %v, %v: want three", overlays, err)
	}
	if err := cmd.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // killed
	gone(t, l, 10*time.Second)
	if t.Failed() {
		t.Log(out)
	}
	// The report of the killed run can still be made.
	if _, err := os.Stat(filepath.Join(p.output, reports.LatestLink, reports.ResultFile)); err != nil {
		t.Error(err)
	}
	p.run(t, 0, "report", filepath.Join(p.output, reports.LatestLink))
}
