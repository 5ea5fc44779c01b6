// Package state keeps hiveproof's state directory: who owns it now, and the
// ledger of everything that was created outside this process, written before
// it is created, so that whoever comes next can reap what a killed process left
// and nothing else.
package state

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Dir is a state directory. Its methods are safe for concurrent use by processes.
type Dir struct {
	path string
}

// DefaultPath is $XDG_STATE_HOME/hiveproof, else ~/.local/state/hiveproof.
func DefaultPath() (string, error) {
	return xdg("XDG_STATE_HOME", ".local/state")
}

// DefaultCachePath is $XDG_CACHE_HOME/hiveproof, else ~/.cache/hiveproof.
func DefaultCachePath() (string, error) {
	return xdg("XDG_CACHE_HOME", ".cache")
}

func xdg(variable, fallback string) (string, error) {
	if base := os.Getenv(variable); filepath.IsAbs(base) {
		return filepath.Join(base, "hiveproof"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("find the home directory (set %s or HOME): %w", variable, err)
	}
	return filepath.Join(home, fallback, "hiveproof"), nil
}

// Open makes the directory if need be, readable by its owner only: it holds keys.
func Open(path string) (*Dir, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("state directory %s: %w", path, err)
	}
	for _, dir := range []string{abs, filepath.Join(abs, "ledger"), filepath.Join(abs, "labs")} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, fmt.Errorf("make the state directory: %w", err)
		}
	}
	return &Dir{path: abs}, nil
}

// Path is the directory's absolute path.
func (d *Dir) Path() string { return d.path }

// SocketPath is where a supervisor listens.
func (d *Dir) SocketPath() string { return filepath.Join(d.path, "supervisor.sock") }

// Holder is who holds the lock.
type Holder struct {
	PID     int      `json:"pid"`
	Command []string `json:"command"`
}

// BusyError says that another hiveproof uses the state directory.
type BusyError struct {
	Dir    string
	Holder Holder
}

func (e *BusyError) Error() string {
	who := "another hiveproof"
	if e.Holder.PID != 0 {
		who = fmt.Sprintf("another hiveproof (pid %d: %s)", e.Holder.PID, strings.Join(e.Holder.Command, " "))
	}
	return fmt.Sprintf("%s is using the state directory %s: wait for it, or choose another directory with --state-dir", who, e.Dir)
}

// Lock takes the directory for this process until unlock is called or the
// process ends, however it ends. It fails with *BusyError if another has it.
func (d *Dir) Lock() (unlock func(), err error) {
	path := filepath.Join(d.path, "lock")
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the lock of the state directory: %w", err)
	}
	if err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		defer file.Close()
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		busy := &BusyError{Dir: d.path}
		// The holder writes its name after it has the lock: an unreadable one only makes the message shorter.
		_ = json.NewDecoder(file).Decode(&busy.Holder)
		return nil, busy
	}
	if err := file.Truncate(0); err != nil {
		file.Close()
		return nil, fmt.Errorf("write the lock of the state directory: %w", err)
	}
	text, err := json.Marshal(Holder{PID: os.Getpid(), Command: os.Args})
	if err == nil {
		_, err = file.WriteAt(text, 0)
	}
	if err != nil {
		file.Close()
		return nil, fmt.Errorf("write the lock of the state directory: %w", err)
	}
	return func() { file.Close() }, nil
}

// LabDir is where one lab's disks, sockets and keys go. Enter it in a ledger
// before it is made.
func (d *Dir) LabDir(id string) string { return filepath.Join(d.path, "labs", id) }
