package state

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// helperEnv makes this test's program another hiveproof process: the value says
// which state directory it works on, the arguments what it does there.
const helperEnv = "HIVEPROOF_TEST_STATE"

func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == ReaperCommand {
		if err := Reap(context.Background(), os.Stdin, os.Args[2]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	if path := os.Getenv(helperEnv); path != "" {
		if err := helper(path, os.Args[1]); err != nil {
			fmt.Println("failed:", err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// helper prints one line when it has done what it shall and lives until its standard input ends.
func helper(path, what string) error {
	d, err := Open(path)
	if err != nil {
		return err
	}
	switch what {
	case "lock":
		if _, err := d.Lock(); err != nil {
			return err
		}
		fmt.Println("locked")
	case "own", "own-with-reaper":
		l, err := d.NewLedger("run-1")
		if err != nil {
			return err
		}
		if what == "own-with-reaper" {
			if _, err := l.StartReaper(); err != nil {
				return err
			}
		}
		dir := filepath.Join(path, "labs", "run-1")
		if err := l.AddPath(dir); err != nil {
			return err
		}
		if err := os.Mkdir(d.LabDir("run-1"), 0o700); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, "disk"), []byte("disk"), 0o600); err != nil {
			return err
		}
		child := exec.Command("sleep", "600")
		if err := child.Start(); err != nil {
			return err
		}
		if err := l.AddProcess(child.Process.Pid, "a guest"); err != nil {
			return err
		}
		fmt.Println(child.Process.Pid)
	}
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

// startHelper returns what the process said and what kills it (with SIGKILL).
func startHelper(t *testing.T, d *Dir, what string) (said string, pid int, kill func()) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, what)
	cmd.Env = append(os.Environ(), helperEnv+"="+d.Path())
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	killed := false
	kill = func() {
		if !killed {
			killed = true
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
			stdin.Close()
		}
	}
	t.Cleanup(kill)
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil || strings.HasPrefix(line, "failed") {
		t.Fatalf("the other process: %q, %v", line, err)
	}
	return strings.TrimSpace(line), cmd.Process.Pid, kill
}

// watch returns a function that waits for a process's end, whosever child it is.
func watch(t *testing.T, pid int) (ended func(wait time.Duration) bool) {
	t.Helper()
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0)
		unix.Close(fd)
	})
	return func(wait time.Duration) bool {
		for {
			n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(wait.Milliseconds()))
			if err != unix.EINTR {
				return n == 1
			}
		}
	}
}

func open(t *testing.T) *Dir {
	t.Helper()
	d, err := Open(filepath.Join(t.TempDir(), "state"))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func newFile(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return !errors.Is(err, fs.ErrNotExist)
}

func TestLockIsForOneProcess(t *testing.T) {
	d := open(t)
	if info, err := os.Stat(d.Path()); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("mode %v, %v: it holds keys", info.Mode(), err)
	}
	_, pid, kill := startHelper(t, d, "lock")
	_, err := d.Lock()
	var busy *BusyError
	if !errors.As(err, &busy) {
		t.Fatalf("two processes have the lock: %v", err)
	}
	if busy.Holder.PID != pid || len(busy.Holder.Command) != 2 || busy.Holder.Command[1] != "lock" {
		t.Errorf("holder %+v, want process %d", busy.Holder, pid)
	}
	for _, want := range []string{strconv.Itoa(pid), d.Path(), "--state-dir"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q does not say %s", err, want)
		}
	}
	kill()
	unlock, err := d.Lock()
	if err != nil {
		t.Fatalf("the lock outlived its killed holder: %v", err)
	}
	if _, err := d.Lock(); !errors.As(err, &busy) || busy.Holder.PID != os.Getpid() {
		t.Errorf("locked twice: %v", err)
	}
	unlock()
	again, err := d.Lock()
	if err != nil {
		t.Fatalf("unlocked, yet: %v", err)
	}
	again()
}

func TestReapOrphansOnly(t *testing.T) {
	d := open(t)
	said, _, kill := startHelper(t, d, "own")
	pid, err := strconv.Atoi(said)
	if err != nil {
		t.Fatal(err)
	}
	ended := watch(t, pid)
	lab, ledger := filepath.Join(d.Path(), "labs", "run-1"), filepath.Join(d.Path(), "ledger", "run-1.json")
	other := filepath.Join(d.Path(), "labs", "not-in-a-ledger")
	if err := os.Mkdir(other, 0o700); err != nil {
		t.Fatal(err)
	}
	mine, err := d.NewLedger("mine")
	if err != nil {
		t.Fatal(err)
	}

	reaped, err := d.ReapOrphans()
	if err != nil || len(reaped) != 0 {
		t.Fatalf("reaped what living processes own: %v, %v", reaped, err)
	}
	if ended(0) || !exists(lab) || !exists(ledger) {
		t.Fatal("what a living process owns is gone")
	}

	kill()
	reaped, err = d.ReapOrphans()
	if err != nil || len(reaped) != 1 {
		t.Fatalf("reaped %v, %v", reaped, err)
	}
	r := reaped[0]
	if r.ID != "run-1" || len(r.Processes) != 1 || r.Processes[0].PID != pid || r.Processes[0].What != "a guest" || !slices.Equal(r.Paths, []string{lab}) {
		t.Errorf("reaped %+v", r)
	}
	if !ended(time.Minute) {
		t.Error("a dead owner's child lives on")
	}
	if exists(lab) || exists(ledger) {
		t.Error("a dead owner's directory or ledger is still there")
	}
	if !exists(other) || !exists(mine.File()) {
		t.Error("more was removed than the dead owner's")
	}
	if reaped, err := d.ReapOrphans(); err != nil || len(reaped) != 0 {
		t.Errorf("reaped twice: %v, %v", reaped, err)
	}
}

// deadOwner writes a ledger whose owner is not there any more.
func deadOwner(t *testing.T, d *Dir, processes []Process, paths []string) (file string) {
	t.Helper()
	self, err := Self()
	if err != nil {
		t.Fatal(err)
	}
	self.Start++ // its number was reused, by us
	text, err := json.Marshal(entry{ID: "dead", Owner: self, Processes: processes, Paths: paths})
	if err != nil {
		t.Fatal(err)
	}
	file = filepath.Join(d.Path(), "ledger", "dead.json")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestReusedPIDIsSpared(t *testing.T) {
	d := open(t)
	bystander := exec.Command("sleep", "600")
	if err := bystander.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = bystander.Process.Kill()
		_ = bystander.Wait()
	}()
	start, err := startTime(bystander.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	path := newFile(t)
	file := deadOwner(t, d, []Process{{PID: bystander.Process.Pid, Start: start - 1}}, []string{path, path + "-never-made"})
	reaped, err := ReapFile(file)
	if err != nil || reaped == nil || len(reaped.Processes) != 0 || !slices.Equal(reaped.Paths, []string{path}) {
		t.Fatalf("reaped %+v, %v", reaped, err)
	}
	if watch(t, bystander.Process.Pid)(100 * time.Millisecond) {
		t.Error("killed a process that only has the number of ours")
	}
}

func TestCorruptLedger(t *testing.T) {
	d := open(t)
	bad := filepath.Join(d.Path(), "ledger", "bad.json")
	if err := os.WriteFile(bad, []byte(`{"id": "bad", "owner"`), 0o600); err != nil {
		t.Fatal(err)
	}
	if reaped, err := ReapFile(bad); err == nil || reaped != nil || !strings.Contains(err.Error(), bad) {
		t.Errorf("%v, %v: want an error that names the file", reaped, err)
	}
	good := deadOwner(t, d, nil, nil)
	reaped, err := d.ReapOrphans()
	if err == nil || len(reaped) != 1 || exists(good) || !exists(bad) {
		t.Errorf("%v, %v: a corrupt ledger must not keep the others from being reaped", reaped, err)
	}
	if reaped, err := ReapFile(bad + "-missing"); reaped != nil || err != nil {
		t.Errorf("no ledger: %v, %v", reaped, err)
	}
}

func TestReapWaitsForTheEndOfItsInput(t *testing.T) {
	d := open(t)
	path := newFile(t)
	file := deadOwner(t, d, nil, []string{path})
	read, write := io.Pipe()
	done := make(chan error, 1)
	go func() { done <- Reap(t.Context(), read, file) }()
	// The write returns once it is read.
	if _, err := write.Write([]byte("still here")); err != nil {
		t.Fatal(err)
	}
	if !exists(path) {
		t.Error("reaped before its input ended")
	}
	write.Close()
	if err := <-done; err != nil || exists(path) || exists(file) {
		t.Errorf("not reaped: %v", err)
	}
	if err := Reap(t.Context(), strings.NewReader(""), file); err != nil {
		t.Errorf("a ledger that its owner struck out: %v", err)
	}
}

func TestReapSparesALivingOwner(t *testing.T) {
	l, err := open(t).NewLedger("alive")
	if err != nil {
		t.Fatal(err)
	}
	path := newFile(t)
	if err := l.AddPath(path); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Reap(ctx, strings.NewReader(""), l.File()); err != nil || !exists(path) || !exists(l.File()) {
		t.Errorf("reaped a living owner's: %v", err)
	}
}

func TestReaperOfAKilledOwner(t *testing.T) {
	d := open(t)
	said, _, kill := startHelper(t, d, "own-with-reaper")
	pid, err := strconv.Atoi(said)
	if err != nil {
		t.Fatal(err)
	}
	ended := watch(t, pid)
	kill()
	if !ended(time.Minute) {
		t.Fatal("nobody ended the killed owner's child")
	}
	// The ledger is the last thing that the reaper removes.
	ledger := filepath.Join(d.Path(), "ledger", "run-1.json")
	tick, limit := time.NewTicker(10*time.Millisecond), time.After(time.Minute)
	defer tick.Stop()
	for exists(ledger) {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatal("the ledger is still there")
		}
	}
	if exists(filepath.Join(d.Path(), "labs", "run-1")) {
		t.Error("the killed owner's directory is still there")
	}
}

func TestReaperStopped(t *testing.T) {
	l, err := open(t).NewLedger("run")
	if err != nil {
		t.Fatal(err)
	}
	stop, err := l.StartReaper()
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(l.Close(), stop(), l.Close()); err != nil {
		t.Error(err)
	}
}
