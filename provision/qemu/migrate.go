package qemu

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"time"
)

// A machine is saved as a migration stream (QEMU docs/devel/migration), its memory
// included. Memory in a file of its own, which a copy-on-write mapping would
// restore at once, was tried: without huge pages everything in it runs slower
// (docs/performance.md).

// migrationPoll is how often QEMU is asked whether it is done; it takes some tens
// of milliseconds.
const migrationPoll = 10 * time.Millisecond

// save writes the state of the stopped machine to a file and flushes its disks.
// Afterwards the machine can go on (cont).
func (v *vm) save(ctx context.Context, to *os.File) error {
	// The default is meant for a network; nobody shares this.
	if _, err := v.qmp.Execute(ctx, "migrate-set-parameters", map[string]int64{"max-bandwidth": math.MaxInt64 >> 1}); err != nil {
		return err
	}
	if _, err := v.qmp.ExecuteWithFile(ctx, "getfd", map[string]string{"fdname": "state"}, to); err != nil {
		return err
	}
	if _, err := v.qmp.Execute(ctx, "migrate", map[string]string{"uri": "fd:state"}); err != nil {
		return err
	}
	return v.poll(ctx, "save the machine's state", "query-migrate", "completed", "failed", "cancelled")
}

// load gives the machine the state that another process saved.
func (v *vm) load(ctx context.Context, uri string) error {
	if _, err := v.qmp.Execute(ctx, "migrate-incoming", map[string]string{"uri": uri}); err != nil {
		return err
	}
	return v.poll(ctx, "load the machine's state", "query-status", "paused", "internal-error", "guest-panicked")
}

// poll asks until the status that a query returns is the wanted one.
func (v *vm) poll(ctx context.Context, what, query, want string, bad ...string) error {
	tick := time.NewTicker(migrationPoll)
	defer tick.Stop()
	for {
		reply, err := v.qmp.Execute(ctx, query, nil)
		if err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		var now struct {
			Status string `json:"status"`
			Error  string `json:"error-desc"`
		}
		if err := json.Unmarshal(reply, &now); err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		if now.Status == want {
			return nil
		}
		for _, b := range bad {
			if now.Status == b {
				return fmt.Errorf("%s: %s %s", what, now.Status, now.Error)
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("%s (now %s): %w", what, now.Status, context.Cause(ctx))
		}
	}
}
