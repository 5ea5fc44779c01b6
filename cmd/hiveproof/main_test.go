package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/hiveproof/hiveproof/provision/state"
	"github.com/hiveproof/hiveproof/reports"
	"github.com/hiveproof/hiveproof/scenarios"
	"github.com/hiveproof/hiveproof/scenarios/supervise"
	"github.com/spf13/cobra"
)

// asProgram in the environment makes the test binary the program itself.
const asProgram = "HIVEPROOF_TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
	}
	os.Exit(m.Run())
}

// dirs are a program's directories: it has no other place to write to.
type dirs struct{ root, state, cache, output string }

func newDirs(t *testing.T) dirs {
	root := t.TempDir()
	return dirs{root, filepath.Join(root, "state"), filepath.Join(root, "cache"), filepath.Join(root, "hiveproof-results")}
}

func (d dirs) program(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	where := []string{"--state-dir", d.state, "--cache-dir", d.cache}
	if len(args) > 0 && args[0] == cobra.ShellCompRequestCmd {
		args = slices.Insert(slices.Clone(args), 1, where...)
	} else {
		args = append(where, args...)
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], args...)
	// Else the race detector holds each program up for a second at its end.
	cmd.Env = append(os.Environ(), asProgram+"=1", "GORACE=atexit_sleep_ms=0")
	cmd.Dir = d.root
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), out.String(), errs.String()
}

func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "lab.yml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// A mistake of the user's is exit 2, says what it is, and starts nothing.
func TestUsage(t *testing.T) {
	malformed := write(t, "name: lab\nhosts:\n  - name: hive0\n    memory: plenty\n")
	unparsable := write(t, "name: lab\nhosts: [\n")
	for _, test := range []struct {
		args []string
		want string // part of the message
	}{
		{[]string{"run", "--frobnicate"}, "--frobnicate"},
		{[]string{"--frobnicate"}, "--frobnicate"},
		{[]string{"frobnicate"}, "frobnicate"},
		{[]string{"image", "frobnicate"}, "frobnicate"},
		{[]string{"run", "stateless-mesh"}, "stateless-mesh"},
		{[]string{"ssh"}, "ssh"},
		{[]string{"run", "--scenario", "("}, "regular expression"},
		{[]string{"run", "--claim", "("}, "regular expression"},
		{[]string{"run", "--scenario", "nonsense"}, "stateless-mesh, stateless-global"},
		{[]string{"run", "--claim", "nonsense"}, "mesh/balances"},
		{[]string{"run", "--control", "nonsense"}, "one-to-one/source-kept"},
		{[]string{"run", "--topology", malformed}, malformed + ":4:13: "},
		{[]string{"up", "--topology", malformed}, malformed + ":4:13: "},
		{[]string{"run", "--topology", unparsable}, unparsable + ":2:"},
		{[]string{"run", "--topology", "/nonexistent/lab.yml"}, "/nonexistent/lab.yml"},
		{[]string{"run", "--release", "../etc"}, "../etc"},
		{[]string{"image", "build", "--release", ""}, "release"},
		{[]string{"run", "--quiet", "--json"}, "quiet"},
		{[]string{"up", "--quiet", "--json"}, "quiet"},
		{[]string{"run", "--timeout", "-1s"}, "--timeout"},
		{[]string{"run", "--timeout", "soon"}, "soon"},
		{[]string{"report", "a", "b"}, "report"},
		{[]string{"report", "."}, "no run directory"},
		{[]string{"report"}, "no run directory"},
	} {
		t.Run(strings.Join(test.args, " "), func(t *testing.T) {
			d := newDirs(t)
			code, stdout, stderr := d.program(t, test.args...)
			if code != exitUsage || stdout != "" || !strings.HasPrefix(stderr, "hiveproof: ") || !strings.Contains(stderr, test.want) {
				t.Errorf("exit %d, output %q, message %q; want exit %d and a message with %q", code, stdout, stderr, exitUsage, test.want)
			}
			entries, err := os.ReadDir(d.root)
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range entries {
				t.Errorf("%s was made", e.Name())
			}
		})
	}
}

func TestStateDirInUse(t *testing.T) {
	d := newDirs(t)
	dir, err := state.Open(d.state)
	if err != nil {
		t.Fatal(err)
	}
	unlock, err := dir.Lock()
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	for _, args := range [][]string{{"run"}, {"run", "--keep"}, {"up"}, {"image", "prune"}} {
		code, _, stderr := d.program(t, args...)
		if code != reports.ExitLab || !strings.Contains(stderr, fmt.Sprintf("pid %d", os.Getpid())) {
			t.Errorf("%v: exit %d, message %q; want exit %d and who holds it", args, code, stderr, reports.ExitLab)
		}
		if _, err := os.Stat(d.output); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%v made a results directory: %v", args, err)
		}
	}
}

// good runs the program, which must succeed.
func good(t *testing.T, args ...string) string {
	t.Helper()
	code, stdout, stderr := newDirs(t).program(t, args...)
	if code != 0 || stderr != "" {
		t.Fatalf("%v: exit %d, message %q", args, code, stderr)
	}
	return stdout
}

func TestList(t *testing.T) {
	text := good(t, "list")
	for _, s := range scenarios.All() {
		if !strings.Contains(text, s.ID) || !strings.Contains(text, s.Title) {
			t.Errorf("%s is not listed", s.ID)
		}
	}
	for _, c := range scenarios.Claims() {
		if !strings.Contains(text, c.ID) || !strings.Contains(text, c.Text) {
			t.Errorf("%s is not listed", c.ID)
		}
	}

	var out struct {
		Scenarios []struct {
			ID     string
			Claims map[string][]string
		}
		Claims []struct{ ID, Text, Guide string }
	}
	if err := json.Unmarshal([]byte(good(t, "list", "--json")), &out); err != nil {
		t.Fatal(err)
	}
	if len(out.Scenarios) != len(scenarios.All()) || len(out.Claims) != len(scenarios.Claims()) {
		t.Fatalf("listed: %+v", out)
	}
	if got := fmt.Sprint(out.Scenarios[0].ID, out.Scenarios[0].Claims["pdnsdb"]); got != "stateless-mesh[internal/not-exposed internal/resolves-to-tasks]" {
		t.Errorf("the first scenario: %s", got)
	}
}

func TestWithoutLab(t *testing.T) {
	for _, test := range []struct {
		args []string
		want string
	}{
		{[]string{"version"}, "hiveproof "},
		{[]string{"completion", "bash"}, "__start_hiveproof"},
		{[]string{"__complete", "run", "--scenario", ""}, "stateless-mesh"},
		{nil, "Exit codes:"},
		{[]string{"run", "--help"}, "--control"},
		{[]string{"status"}, supervise.ErrNone.Error()},
		{[]string{"status", "--json"}, "null\n"},
		{[]string{"down"}, supervise.ErrNone.Error()},
		{[]string{"gc"}, "nothing to remove"},
		{[]string{"image", "list"}, "IMAGE"},
	} {
		t.Run(strings.Join(test.args, " "), func(t *testing.T) {
			code, stdout, stderr := newDirs(t).program(t, test.args...)
			if code != 0 || !strings.Contains(stdout, test.want) {
				t.Errorf("exit %d, output %.200q, message %q; want %q", code, stdout, stderr, test.want)
			}
		})
	}
	code, _, stderr := newDirs(t).program(t, "ssh", "hive0")
	if code != reports.ExitLab || !strings.Contains(stderr, supervise.ErrNone.Error()) {
		t.Errorf("ssh: exit %d, message %q", code, stderr)
	}
	if text := good(t, "--help"); strings.Contains(text, superviseCommand) || strings.Contains(text, state.ReaperCommand) {
		t.Error("the help shows what is not for users")
	}
}
