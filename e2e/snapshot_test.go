package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hiveproof/hiveproof/provision/snapshot"
	"github.com/hiveproof/hiveproof/provision/state"
	"github.com/hiveproof/hiveproof/reports"
)

// TestOrderDoesNotMatter runs the scenarios in two different orders, each from
// the restored cluster, and wants the same verdicts.
func TestOrderDoesNotMatter(t *testing.T) {
	needVMs(t)
	p := newProgram(t)
	var verdicts []map[string]reports.Verdict
	var orders []string
	for _, seed := range []string{"1", "2", "3", "4", "5", "6", "7", "8"} {
		order := p.order(t, seed)
		if slices.Contains(orders, order) {
			continue
		}
		orders = append(orders, order)
		p.run(t, 0, append(inOrder(seed), "--output", p.output)...)
		r := p.result(t)
		all := map[string]reports.Verdict{}
		for i, s := range r.Scenarios {
			if _, restored := s.Timings["restore"]; restored != (i > 0) {
				t.Errorf("scenario %d, %s: restored %v", i, s.ID, restored)
			}
			for _, c := range s.Claims {
				all[s.ID+" "+c.ID+" "+c.Service] = c.Verdict
			}
		}
		verdicts = append(verdicts, all)
		if len(orders) == 2 {
			break
		}
	}
	if len(verdicts) != 2 {
		t.Fatalf("orders %v: want two different ones", orders)
	}
	a, _ := json.Marshal(verdicts[0])
	b, _ := json.Marshal(verdicts[1])
	if !bytes.Equal(a, b) || len(verdicts[0]) == 0 {
		t.Errorf("orders %v give different verdicts:\n%s\n%s", orders, a, b)
	}
}

// inOrder runs one scenario with an external load balancer and one without, in the
// order of a seed.
func inOrder(seed string) []string {
	return []string{"run", "--shuffle", seed, "--scenario", "^(stateless|lb-sticky)-global$", "--claim", "every-host|source|internal/|lb/"}
}

// order asks the program, without a lab, in which order a seed puts the scenarios:
// a run that has no time ends before its lab is up and lists them all.
func (p *program) order(t *testing.T, seed string) string {
	t.Helper()
	p.run(t, 130, append(inOrder(seed), "--output", p.output, "--timeout", "1ms")...)
	var ids []string
	for _, s := range p.result(t).Scenarios {
		ids = append(ids, s.ID)
	}
	return strings.Join(ids, " ")
}

// oneHost is a program with a topology of a single host, whose bring-up takes
// half a minute, and a store of snapshots of its own beside the user's images.
func oneHost(t *testing.T) (p *program, cache string, args []string) {
	t.Helper()
	p = newProgram(t)
	user, err := state.DefaultCachePath()
	if err != nil {
		t.Fatal(err)
	}
	cache = t.TempDir()
	entries, err := os.ReadDir(user)
	if err != nil {
		t.Fatalf("%v: TestSuite builds the image", err)
	}
	for _, e := range entries {
		if e.Name() != "snapshots" {
			if err := os.Symlink(filepath.Join(user, e.Name()), filepath.Join(cache, e.Name())); err != nil {
				t.Fatal(err)
			}
		}
	}
	top := filepath.Join(t.TempDir(), "one.yml")
	if err := os.WriteFile(top, []byte("hosts:\n  - name: hive0\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return p, cache, []string{"bench", "cluster", "--cache-dir", cache, "--topology", top, "--runs", "1", "--mode", "disk"}
}

// set finds the only ready snapshot.
func set(t *testing.T, cache string) snapshot.Info {
	t.Helper()
	store, err := snapshot.Open(filepath.Join(cache, "snapshots"))
	if err != nil {
		t.Fatal(err)
	}
	all, err := store.List()
	if err != nil || len(all) != 1 || all[0].InUse || all[0].Problem != "" {
		t.Fatalf("snapshots %+v, %v: want one that is whole and free", all, err)
	}
	return all[0]
}

// TestSnapshotTrouble damages the ready snapshot in every way and interrupts its
// making and its use: each time the program says so, and the next use works.
func TestSnapshotTrouble(t *testing.T) {
	needVMs(t)
	p, cache, args := oneHost(t)
	if out := p.run(t, 0, args...); !strings.Contains(out, "save: done") || !strings.Contains(out, "restore: done") {
		t.Fatalf("the first use does not save and restore: %s", out)
	}
	first := set(t, cache)
	dir := filepath.Join(cache, "snapshots", first.Name)
	stateFile := filepath.Join(dir, "hive0.state")

	damages := []struct {
		name   string
		want   string
		damage func() error
	}{
		{"a file truncated", "bytes and not", func() error { return os.Truncate(stateFile, 1<<20) }},
		{"a file missing", "hive0.disk0.qcow2 is missing", func() error { return os.Remove(filepath.Join(dir, "hive0.disk0.qcow2")) }},
		{"a byte changed", "does not hold what was saved", func() error { return flip(stateFile, 5<<20) }},
		{"another QEMU's", `made with qemu "0.0.0"`, func() error { return claimQEMU(filepath.Join(dir, "manifest.json"), "0.0.0") }},
	}
	for _, d := range damages {
		t.Run(d.name, func(t *testing.T) {
			if err := d.damage(); err != nil {
				t.Fatal(err)
			}
			out := p.run(t, 0, args...)
			for _, want := range []string{d.want, "making the ready snapshot anew", "save: done", "restore: done"} {
				if !strings.Contains(out, want) {
					t.Errorf("it does not say %q:\n%s", want, out)
				}
			}
			set(t, cache)
		})
	}

	killedIn := func(phase string) func(t *testing.T) {
		return func(t *testing.T) {
			p.killIn(t, phase, args...)
			for _, l := range p.ledgers(t) {
				gone(t, l, 10*time.Second)
			}
			out := p.run(t, 0, args...)
			if !strings.Contains(out, "restore: done") || strings.Contains(out, "warning") {
				t.Errorf("after a kill in %s: %s", phase, out)
			}
			set(t, cache)
			if left, _ := filepath.Glob(filepath.Join(cache, "snapshots", ".saving-*")); len(left) > 0 {
				t.Errorf("left over: %v", left)
			}
		}
	}
	t.Run("kill -9 during a restore", killedIn("restore"))
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	t.Run("kill -9 during a save", killedIn("save"))
	t.Run("the disk is full", func(t *testing.T) {
		if os.Getuid() != 0 {
			t.Skip("mounting a small file system takes root")
		}
		if err := os.RemoveAll(filepath.Join(cache, "snapshots")); err != nil {
			t.Fatal(err)
		}
		run := append([]string{"run", "--scenario", "^stateless-global$", "--output", p.output}, args[2:6]...) // cache and topology
		fullDisk(t, p, filepath.Join(cache, "snapshots"), run)
	})
}

func flip(path string, offset int64) error {
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	var b [1]byte
	_, err = file.ReadAt(b[:], offset)
	b[0] ^= 0xff
	if err == nil {
		_, err = file.WriteAt(b[:], offset)
	}
	return errors.Join(err, file.Close())
}

// claimQEMU rewrites what a manifest says of the QEMU that the set was made with.
func claimQEMU(path, version string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var m snapshot.Manifest
	if err := json.Unmarshal(text, &m); err != nil {
		return err
	}
	m.Needs["qemu"] = version
	if text, err = json.Marshal(m); err != nil {
		return err
	}
	return os.WriteFile(path, text, 0o600)
}

// killIn kills the program with a signal that it cannot handle as soon as it
// says that a phase has begun.
func (p *program) killIn(t *testing.T, phase string, args ...string) {
	t.Helper()
	cmd, _ := p.command(args...)
	cmd.Stdout = nil
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var said strings.Builder
	buffer := make([]byte, 4096)
	for !strings.Contains(said.String(), "] "+phase+" …") {
		n, err := out.Read(buffer)
		said.Write(buffer[:n])
		if err != nil {
			t.Fatalf("phase %s never began: %v\n%s", phase, err, said.String())
		}
	}
	// Not before there is something that a killed program could leave behind.
	eventually(t, time.Minute, "a machine runs", func() bool {
		all := p.ledgers(t)
		return len(all) == 1 && len(all[0].Processes) > 0
	})
	if err := cmd.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // killed
}

// fullDisk runs the program with a store on a file system that is too small, in a
// mount namespace of its own.
func fullDisk(t *testing.T, p *program, store string, args []string) {
	t.Helper()
	if err := os.MkdirAll(store, 0o700); err != nil {
		t.Fatal(err)
	}
	const mount = "mount -t tmpfs -o size=1200m,mode=700 none \"$0\"\n"
	// The machine stands still while the disk is filled, so that its save meets a full one.
	const fill = `( until ls -d "$0"/.saving-*; do sleep 0.01; done
q=$(pgrep -f "^qemu-system.*$1"); kill -STOP $q; dd if=/dev/zero of="$0/filler" bs=1M; truncate -s -40M "$0/filler"; kill -CONT $q ) >/dev/null 2>&1 &
`
	for _, c := range []struct{ name, script, want string }{
		{"before the save", mount + `fallocate -l 1100m "$0/filler"` + "\n", "are free in"},
		{"during the save", mount + fill, "No space left on device"},
	} {
		line := append([]string{"--mount", "--", "sh", "-c", c.script + "shift; exec \"$@\"", store, p.state, p.binary, "--state-dir", p.state}, args...)
		out, err := exec.Command("unshare", line...).CombinedOutput()
		if err != nil {
			t.Fatalf("full %s: %v\n%s", c.name, err, out)
		}
		if !strings.Contains(string(out), c.want) || !strings.Contains(string(out), "going on without a ready snapshot") {
			t.Errorf("full %s: it does not say %q and go on:\n%s", c.name, c.want, out)
		}
	}
	if _, err := os.Stat(filepath.Join(store, "filler")); !errors.Is(err, fs.ErrNotExist) {
		t.Error("the small file system was mounted outside its namespace")
	}
	// With room again everything is as it should be.
	if out := p.run(t, 0, args...); !strings.Contains(out, "save: done") {
		t.Errorf("after the full disk: %s", out)
	}
}
