package qemu

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/hashicorp/go-multierror"
	"github.com/hiveproof/hiveproof/provision/snapshot"
)

// A saved host is its state, as QEMU writes it, and the overlays of its disks.
// Hosts that are restored get overlays over those, so that a set is never written to. Nothing of the
// network is saved: its addresses follow from the topology, and the switches
// learn from the first frames (a restored machine announces itself).

const identityFile = "identity.json"

func stateFile(host string) string       { return host + ".state" }
func diskFile(host string, n int) string { return fmt.Sprintf("%s.disk%d.qcow2", host, n) }

// Save stops every host at once, writes the cluster into a directory and lets it
// go on, also after a failure. The hosts' clocks have stood still meanwhile and
// are set. It returns what was written.
func (c *Cluster) Save(ctx context.Context, dir string) (_ []snapshot.File, err error) {
	if len(c.on()) < len(c.hosts) {
		return nil, errors.New("the edge host is off, and a snapshot is of all hosts")
	}
	// A session that is open now would be one with nobody at its end later.
	problems := c.disconnect()
	defer func() {
		after, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.cfg.BootTimeout)
		defer cancel()
		err = multierror.Append(problems, err, c.each(func(h *Host) error { return h.Resume(after) }),
			c.synchronize(after)).ErrorOrNil()
	}()
	if err := c.each(func(h *Host) error { return h.Pause(ctx) }); err != nil {
		return nil, err
	}
	var mu sync.Mutex
	var files []snapshot.File
	err = c.each(func(h *Host) error {
		saved, err := h.save(ctx, dir)
		mu.Lock()
		defer mu.Unlock()
		files = append(files, saved...)
		return err
	})
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	text, err := json.Marshal(c.identity)
	c.mu.Unlock()
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, identityFile), text, 0o600)
	}
	if err != nil {
		return nil, fmt.Errorf("save the lab's keys: %w", err)
	}
	described, err := snapshot.Describe(ctx, filepath.Join(dir, identityFile))
	return append(files, described), err
}

// save writes the host, which is stopped, into a directory.
func (h *Host) save(ctx context.Context, dir string) (_ []snapshot.File, err error) {
	h.mu.Lock()
	v := h.vm
	h.mu.Unlock()
	if v == nil {
		return nil, fmt.Errorf("%s: save: the power is off", h.Name())
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("%s: save: %w", h.Name(), err)
		}
	}()
	create := func(name string, write func(*os.File) error) (err error) {
		file, err := os.OpenFile(filepath.Join(dir, name), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return err
		}
		return errors.Join(write(file), file.Close())
	}
	var files []snapshot.File
	// This also flushes the disks, which are copied after it.
	err = create(stateFile(h.Name()), func(to *os.File) error { return v.save(ctx, to) })
	if err != nil {
		return nil, err
	}
	state, err := snapshot.Describe(ctx, filepath.Join(dir, stateFile(h.Name())))
	if err != nil {
		return nil, err
	}
	files = append(files, state)
	copies := map[string]string{diskFile(h.Name(), 0): v.cfg.disk}
	for j, d := range v.cfg.disks {
		copies[diskFile(h.Name(), j+1)] = d.path
	}
	for name, path := range copies {
		from, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		err = create(name, func(to *os.File) error {
			f, err := snapshot.Copy(ctx, to, from)
			files = append(files, f)
			return err
		})
		from.Close()
		if err != nil {
			return nil, err
		}
	}
	return files, nil
}

// occupied is what a file takes on disk or in memory, in bytes; holes do not count.
func occupied(st os.FileInfo) int64 { return st.Sys().(*syscall.Stat_t).Blocks * 512 }

// NeedBytes is what a snapshot of the cluster takes on disk, at most.
func (c *Cluster) NeedBytes() int64 {
	var sum int64
	for _, h := range c.hosts {
		h.mu.Lock()
		v := h.vm
		h.mu.Unlock()
		if v == nil {
			continue
		}
		sum += int64(v.cfg.memoryMiB+16) << 20 // with the state of the devices
		paths := []string{v.cfg.disk}
		for _, d := range v.cfg.disks {
			paths = append(paths, d.path)
		}
		for _, path := range paths {
			if st, err := os.Stat(path); err == nil { // what cannot be read now fails the save itself
				sum += occupied(st)
			}
		}
	}
	return sum
}

// Restore makes a cluster of a saved one, in the state that it was saved in. On
// failure nothing is left running. The set must stay in use until the cluster is closed.
func Restore(ctx context.Context, cfg Config, set *snapshot.Snapshot) (_ *Cluster, err error) {
	c := newCluster(cfg)
	defer func() {
		if err != nil {
			err = errors.Join(err, c.Close())
		}
	}()
	if err := c.prepare(); err != nil {
		return nil, err
	}
	return c, c.Restore(ctx, set)
}

// Restore brings all hosts back to a saved state, each in a new QEMU process, and
// waits until all answer SSH. Their clocks are set, the network's faults lifted
// and its tables empty. If it fails some hosts may be off.
func (c *Cluster) Restore(ctx context.Context, set *snapshot.Snapshot) error {
	// A machine that is thrown away need not be asked to let its sessions go.
	_ = c.disconnect()
	_ = c.each(func(h *Host) error { h.cutPower(); return nil })
	c.resetNetwork()
	c.park(c.cfg.NoEdge)
	if err := set.Verify(ctx, identityFile); err != nil {
		return err
	}
	text, err := os.ReadFile(set.Path(identityFile))
	if err != nil {
		return fmt.Errorf("read the lab's keys: %w", err)
	}
	var id identity
	if err := json.Unmarshal(text, &id); err != nil {
		return &snapshot.DamagedError{Name: set.Name, Reason: identityFile + ": " + err.Error()}
	}
	if err := c.adopt(id); err != nil {
		return err
	}
	started := time.Now()
	lap := func(what string) {
		c.cfg.Progress("", fmt.Sprintf("%s after %.2fs", what, time.Since(started).Seconds()))
	}
	if err := c.each(func(h *Host) error { return h.restore(ctx, set) }); err != nil {
		return err
	}
	lap("states loaded")
	if err := c.each(func(h *Host) error { return h.Resume(ctx) }); err != nil {
		return err
	}
	defer lap("hosts answer")
	return c.synchronize(ctx)
}

// restore starts the machine, stopped, in its saved state.
func (h *Host) restore(ctx context.Context, set *snapshot.Snapshot) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	var disks []string
	for n := range 1 + len(h.vmConfig.disks) {
		name := diskFile(h.Name(), n)
		if err := h.cluster.verifyOnce(ctx, set, name); err != nil {
			return err
		}
		disks = append(disks, set.Path(name))
	}
	if err := h.createDisks(ctx, disks[0], disks[1:]); err != nil {
		return err
	}
	if err := set.Verify(ctx, stateFile(h.Name())); err != nil {
		return err
	}
	state, err := os.Open(set.Path(stateFile(h.Name())))
	if err != nil {
		return fmt.Errorf("%s: %w", h.Name(), err)
	}
	defer state.Close()
	return h.launch(ctx, state)
}

// verifyOnce checks a disk of a set when the cluster first starts from it: QEMU
// reads it as it goes, and a disk in use is not changed by anybody.
func (c *Cluster) verifyOnce(ctx context.Context, set *snapshot.Snapshot, name string) error {
	key := set.Path(name) + " " + set.Created.Format(time.RFC3339Nano)
	c.mu.Lock()
	known := c.verified[key]
	c.mu.Unlock()
	if known {
		return nil
	}
	if err := set.Verify(ctx, name); err != nil {
		return err
	}
	c.mu.Lock()
	c.verified[key] = true
	c.mu.Unlock()
	return nil
}

// synchronize waits until every host answers and sets its clock, which stood
// still while it was stopped or stored.
func (c *Cluster) synchronize(ctx context.Context) error {
	return c.each(func(h *Host) error { return h.waitReady(ctx, c.cfg.BootTimeout) })
}

// each does something with every host that is to run, at once, and collects what went wrong.
func (c *Cluster) each(do func(*Host) error) error {
	hosts := c.on()
	errs := make([]error, len(hosts))
	var wg sync.WaitGroup
	for i, h := range hosts {
		wg.Go(func() { errs[i] = do(h) })
	}
	wg.Wait()
	return multierror.Append(nil, errs...).ErrorOrNil()
}

// disconnect closes our sessions with the hosts.
func (c *Cluster) disconnect() *multierror.Error {
	var problems *multierror.Error
	for _, h := range c.hosts {
		if err := h.control().Close(); err != nil {
			problems = multierror.Append(problems, err)
		}
	}
	return problems
}
