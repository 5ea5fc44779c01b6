package state

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-multierror"
	"golang.org/x/sys/unix"
)

// Process names a process beyond reuse of its number.
type Process struct {
	PID int `json:"pid"`
	// Start is the process's start time in clock ticks since boot (proc(5), stat field 22).
	Start uint64 `json:"start"`
	What  string `json:"what,omitempty"`
}

// entry is one ledger file: what one owner created.
type entry struct {
	ID        string    `json:"id"`
	Owner     Process   `json:"owner"`
	Created   time.Time `json:"created"`
	Processes []Process `json:"processes,omitempty"`
	Paths     []string  `json:"paths,omitempty"`
}

// Ledger lists what this process created outside itself. It is safe for concurrent use.
type Ledger struct {
	file string
	mu   sync.Mutex
	e    entry
}

// NewLedger opens a ledger under an ID that no other has, such as the run's.
func (d *Dir) NewLedger(id string) (*Ledger, error) {
	owner, err := Self()
	if err != nil {
		return nil, err
	}
	l := &Ledger{
		file: filepath.Join(d.path, "ledger", id+".json"),
		e:    entry{ID: id, Owner: owner, Created: time.Now().UTC()},
	}
	return l, l.save()
}

// File is the ledger's path, for the reaper.
func (l *Ledger) File() string { return l.file }

// AddPath enters a file or directory that is about to be created.
func (l *Ledger) AddPath(path string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.e.Paths = append(l.e.Paths, path)
	return l.save()
}

// AddProcess enters a child process that was just started.
func (l *Ledger) AddProcess(pid int, what string) error {
	start, err := startTime(pid)
	if err != nil {
		return fmt.Errorf("enter process %d (%s) in the ledger: %w", pid, what, err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	// Machines are restored again and again: those that have ended need no reaping.
	l.e.Processes = slices.DeleteFunc(l.e.Processes, func(p Process) bool { return !Alive(p) })
	l.e.Processes = append(l.e.Processes, Process{PID: pid, Start: start, What: what})
	return l.save()
}

// Close strikes the ledger out, after what it lists is gone.
func (l *Ledger) Close() error {
	if err := os.Remove(l.file); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove the ledger: %w", err)
	}
	return nil
}

func (l *Ledger) save() error {
	text, err := json.MarshalIndent(l.e, "", "  ")
	if err != nil {
		return fmt.Errorf("write the ledger: %w", err)
	}
	temp := l.file + ".tmp"
	if err := os.WriteFile(temp, text, 0o600); err != nil {
		return fmt.Errorf("write the ledger: %w", err)
	}
	if err := os.Rename(temp, l.file); err != nil {
		return fmt.Errorf("write the ledger: %w", err)
	}
	return nil
}

// Reaped says what was found of a dead owner and ended or removed.
type Reaped struct {
	ID        string
	Processes []Process
	Paths     []string
}

// ReapOrphans ends the processes and removes the paths of every ledger whose
// owner no longer lives. What a living process owns is never touched.
func (d *Dir) ReapOrphans() ([]Reaped, error) {
	files, err := filepath.Glob(filepath.Join(d.path, "ledger", "*.json"))
	if err != nil {
		return nil, fmt.Errorf("list the ledgers: %w", err)
	}
	var all []Reaped
	var problems *multierror.Error
	for _, file := range files {
		reaped, err := ReapFile(file)
		if err != nil {
			problems = multierror.Append(problems, err)
		}
		if reaped != nil {
			all = append(all, *reaped)
		}
	}
	return all, problems.ErrorOrNil()
}

// ReapFile reaps one ledger if its owner no longer lives; else it returns nil, nil.
func ReapFile(file string) (*Reaped, error) {
	text, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the ledger: %w", err)
	}
	var e entry
	if err := json.Unmarshal(text, &e); err != nil {
		return nil, fmt.Errorf("read the ledger %s: %w", file, err)
	}
	if Alive(e.Owner) {
		return nil, nil
	}
	reaped := &Reaped{ID: e.ID}
	var problems *multierror.Error
	for _, p := range e.Processes {
		if !Alive(p) {
			continue
		}
		if err := unix.Kill(p.PID, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
			problems = multierror.Append(problems, fmt.Errorf("end process %d (%s): %w", p.PID, p.What, err))
			continue
		}
		reaped.Processes = append(reaped.Processes, p)
	}
	for _, path := range e.Paths {
		if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err := os.RemoveAll(path); err != nil {
			problems = multierror.Append(problems, fmt.Errorf("remove %s: %w", path, err))
			continue
		}
		reaped.Paths = append(reaped.Paths, path)
	}
	if err := problems.ErrorOrNil(); err != nil {
		return reaped, fmt.Errorf("reap what %s left: %w", e.ID, err)
	}
	if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return reaped, fmt.Errorf("reap what %s left: %w", e.ID, err)
	}
	return reaped, nil
}

// Self is this process.
func Self() (Process, error) {
	start, err := startTime(os.Getpid())
	if err != nil {
		return Process{}, fmt.Errorf("read this process's start time: %w", err)
	}
	return Process{PID: os.Getpid(), Start: start}, nil
}

// Alive says whether the very process still runs (a zombie does not).
func Alive(p Process) bool {
	start, err := startTime(p.PID)
	return err == nil && start == p.Start
}

func startTime(pid int) (uint64, error) {
	text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return 0, err
	}
	// The second field is the command in parentheses and may hold anything, so count from its end.
	_, rest, ok := cutLast(string(text), ") ")
	fields := strings.Fields(rest)
	if !ok || len(fields) < 20 {
		return 0, fmt.Errorf("unexpected format of /proc/%d/stat", pid)
	}
	if fields[0] == "Z" || fields[0] == "X" {
		return 0, fs.ErrNotExist
	}
	return strconv.ParseUint(fields[19], 10, 64)
}

func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}
