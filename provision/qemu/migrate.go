package qemu

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"time"
)

// A machine's devices are saved as a migration stream (QEMU docs/devel/migration).
// Its memory is not in the stream: it is a file of ours, which is copied as such.

// migrationPoll is how often QEMU is asked whether it is done; it takes some tens
// of milliseconds.
const migrationPoll = 10 * time.Millisecond

// save writes the state of the stopped machine's devices to a file and flushes
// its disks. Afterwards the machine can go on (cont).
func (v *vm) save(ctx context.Context, to *os.File) error {
	if err := v.ignoreMemory(ctx); err != nil {
		return err
	}
	if _, err := v.qmp.ExecuteWithFile(ctx, "getfd", map[string]string{"fdname": "state"}, to); err != nil {
		return err
	}
	if _, err := v.qmp.Execute(ctx, "migrate", map[string]string{"uri": "fd:state"}); err != nil {
		return err
	}
	return v.poll(ctx, "save the state of the devices", "query-migrate", "completed", "failed", "cancelled")
}

// load gives the devices the state that another process saved.
func (v *vm) load(ctx context.Context, uri string) error {
	if err := v.ignoreMemory(ctx); err != nil {
		return err
	}
	if _, err := v.qmp.Execute(ctx, "migrate-incoming", map[string]string{"uri": uri}); err != nil {
		return err
	}
	return v.poll(ctx, "load the state of the devices", "query-status", "paused", "internal-error", "guest-panicked")
}

// ignoreMemory leaves shared memory out of the stream.
func (v *vm) ignoreMemory(ctx context.Context) error {
	_, err := v.qmp.Execute(ctx, "migrate-set-capabilities", map[string]any{
		"capabilities": []map[string]any{{"capability": "x-ignore-shared", "state": true}},
	})
	return err
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
