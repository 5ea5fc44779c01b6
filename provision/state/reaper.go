package state

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
	"time"
)

// ReaperCommand is the hidden sub-command under which this program is its own reaper.
const ReaperCommand = "internal-reap"

// StartReaper starts a process that waits for this one to end, in whatever
// way, and then reaps the ledger: with kill -9 nothing else could. It lives in
// a session of its own, so that a signal to our process group does not end it.
func (l *Ledger) StartReaper() (stop func() error, err error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("start the reaper: %w", err)
	}
	read, write, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("start the reaper: %w", err)
	}
	cmd := exec.Command(self, ReaperCommand, l.file)
	cmd.Stdin = read
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	err = cmd.Start()
	read.Close()
	if err != nil {
		write.Close()
		return nil, fmt.Errorf("start the reaper: %w", err)
	}
	return func() error {
		write.Close()
		if err := cmd.Wait(); err != nil {
			return fmt.Errorf("reaper: %w", err)
		}
		return nil
	}, nil
}

// Reap is the reaper's work: it blocks until its standard input ends, which is
// when the owner has ended, then reaps the ledger.
func Reap(ctx context.Context, ownerAlive io.Reader, file string) error {
	if _, err := io.Copy(io.Discard, ownerAlive); err != nil {
		return fmt.Errorf("wait for the owner's end: %w", err)
	}
	// The pipe closes a moment before the owner is gone from /proc; a ledger
	// that the owner itself struck out is gone already.
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		reaped, err := ReapFile(file)
		if err != nil || reaped != nil {
			return err
		}
		if _, err := os.Stat(file); err != nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return nil // the owner lives on: it only stopped us
		case <-tick.C:
		}
	}
}
