package lab

import (
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/go-multierror"
	"github.com/hiveproof/hiveproof/provision/image"
	"github.com/hiveproof/hiveproof/provision/qemu"
	"github.com/hiveproof/hiveproof/provision/snapshot"
	"github.com/hiveproof/hiveproof/provision/swarm"
)

const (
	// keepReady is how many ready snapshots stay on disk: two topologies, or two
	// versions that are compared.
	keepReady = 2
	// maxAge keeps clear of the nodes' certificates, which the swarm makes for 90
	// days and renews while it runs.
	maxAge = 30 * 24 * time.Hour
	// healthTimeout bounds the wait for a restored swarm to be itself again.
	healthTimeout = 90 * time.Second
	// restoreAttempts is how often a cluster is restored before it is given up.
	restoreAttempts = 2
)

//go:embed *.go
var sources embed.FS

// SnapshotStore opens the store of snapshots in a cache directory.
func SnapshotStore(cacheDir string) (*snapshot.Store, error) {
	return snapshot.Open(filepath.Join(cacheDir, "snapshots"))
}

// ErrNoSnapshot says that there is nothing to restore the lab from.
var ErrNoSnapshot = errors.New("the lab has no snapshot to be restored from")

// needs is everything that a snapshot of the lab depends on.
func (l *Lab) needs() (map[string]string, error) {
	top, err := json.Marshal(l.Topology)
	if err != nil {
		return nil, fmt.Errorf("describe the topology: %w", err)
	}
	code := sha256.New()
	for _, fsys := range []fs.FS{qemu.Sources, swarm.Sources, sources} {
		files, err := fs.Glob(fsys, "*.go")
		if err != nil {
			return nil, fmt.Errorf("read this program's sources: %w", err)
		}
		for _, name := range files {
			if strings.HasSuffix(name, "_test.go") {
				continue
			}
			text, err := fs.ReadFile(fsys, name)
			if err != nil {
				return nil, fmt.Errorf("read this program's sources: %w", err)
			}
			fmt.Fprintf(code, "%s %d\n%s", name, len(text), text)
		}
	}
	return map[string]string{
		"image": l.Image.Key, "image build": l.Image.Build, "topology": digest(top),
		"qemu": l.Versions["qemu"], "acceleration": string(l.Proof.Accel),
		"provisioning": hex.EncodeToString(code.Sum(nil))[:16],
	}, nil
}

func digest(text []byte) string {
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])[:16]
}

// readyName names the ready snapshot by what it depends on.
func readyName(needs map[string]string) string {
	h := sha256.New()
	for _, k := range slices.Sorted(maps.Keys(needs)) {
		fmt.Fprintf(h, "%s=%s\n", k, needs[k])
	}
	return snapshot.ReadyPrefix + hex.EncodeToString(h.Sum(nil))[:12]
}

// usable says why a set does not fit this lab, nil if it does.
func (l *Lab) usable(set *snapshot.Snapshot) error {
	needs, err := l.needs()
	if err != nil {
		return err
	}
	var problems *multierror.Error
	for _, k := range slices.Sorted(maps.Keys(needs)) {
		if set.Needs[k] != needs[k] {
			problems = multierror.Append(problems, fmt.Errorf("it was made with %s %q, here it is %q", k, set.Needs[k], needs[k]))
		}
	}
	if age := time.Since(set.Created); age > maxAge {
		problems = multierror.Append(problems, fmt.Errorf("it is %d days old, more than %d are not trusted: its nodes' certificates run out", int(age.Hours()/24), int(maxAge.Hours()/24)))
	}
	if err := problems.ErrorOrNil(); err != nil {
		return fmt.Errorf("snapshot %s cannot be used here: %w", set.Name, err)
	}
	return nil
}

// fromReady brings the lab up from its ready snapshot. It returns false, and has
// said why, if there is none that can be used; a damaged one is removed.
func (l *Lab) fromReady(ctx context.Context, opts Options, observe func(Event)) (bool, error) {
	needs, err := l.needs()
	if err != nil {
		return false, err
	}
	name := readyName(needs)
	set, err := l.snapshots.Use(name)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err == nil {
		if err = l.usable(set); err == nil {
			err = l.phase(observe, "restore", func() error { return l.start(ctx, opts, set, observe) })
		}
		if err == nil {
			l.set = set
			return true, nil
		}
		set.Close()
	}
	if ctx.Err() != nil {
		return false, err
	}
	observe(Event{Phase: "restore", Message: fmt.Sprintf("making the ready snapshot anew: %v", err), Warning: true})
	var busy *snapshot.BusyError
	if err := l.snapshots.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.As(err, &busy) {
		return false, err
	}
	return false, nil
}

// fromNamed brings the lab up from a set that a user named.
func (l *Lab) fromNamed(ctx context.Context, opts Options, observe func(Event)) error {
	set, err := l.openNamed(opts.Snapshot)
	if err != nil {
		return err
	}
	if err := l.phase(observe, "restore", func() error { return l.start(ctx, opts, set, observe) }); err != nil {
		set.Close()
		return err
	}
	l.set = set
	return nil
}

func (l *Lab) openNamed(name string) (*snapshot.Snapshot, error) {
	set, err := l.snapshots.Use(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("there is no snapshot %s (hiveproof snapshot list shows them)", name)
	}
	if err != nil {
		return nil, err
	}
	if err := l.usable(set); err != nil {
		set.Close()
		return nil, err
	}
	return set, nil
}

// start makes the lab's cluster from a set.
func (l *Lab) start(ctx context.Context, opts Options, set *snapshot.Snapshot, observe func(Event)) error {
	return l.attempt(ctx, observe, func() error {
		cluster, err := qemu.Restore(ctx, l.clusterConfig(observe), set)
		if err != nil {
			return err
		}
		sw, err := swarm.Attach(cluster.Hosts(), managers(opts.Topology))
		if err != nil {
			return errors.Join(err, cluster.Close())
		}
		if err := healthy(ctx, sw, set); err != nil {
			return errors.Join(err, sw.Close(), cluster.Close())
		}
		l.Cluster, l.Swarm = cluster, sw
		maps.Copy(l.Versions, set.Versions)
		return nil
	})
}

// attempt tries a restore once more if it failed for another reason than damage,
// and says so.
func (l *Lab) attempt(ctx context.Context, observe func(Event), restore func() error) error {
	for n := 1; ; n++ {
		err := restore()
		var damaged *snapshot.DamagedError
		if err == nil || ctx.Err() != nil || errors.As(err, &damaged) || n == restoreAttempts {
			return err
		}
		observe(Event{Phase: "restore", Message: fmt.Sprintf("restoring once more: %v", err), Warning: true})
	}
}

// Snapshots lists all that are stored.
func (l *Lab) Snapshots() ([]snapshot.Info, error) { return l.snapshots.List() }

// SnapshotName is the name of what Restore comes back to; empty if there is nothing.
func (l *Lab) SnapshotName() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.set == nil {
		return ""
	}
	return l.set.Name
}

// healthy waits until a restored swarm is itself again. The ready snapshot has no
// services; what a user saved may have.
func healthy(ctx context.Context, sw *swarm.Swarm, set *snapshot.Snapshot) error {
	if err := sw.WaitHealthy(ctx, healthTimeout); err != nil {
		return fmt.Errorf("the restored cluster is not healthy: %w", err)
	}
	if !set.Ready {
		return nil
	}
	left, err := sw.Services(ctx)
	if err == nil && len(left) > 0 {
		err = fmt.Errorf("the restored cluster is not pristine: services are left over: %s", strings.Join(left, ", "))
	}
	return err
}

// CanRestore says whether Restore has something to restore from.
func (l *Lab) CanRestore() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.set != nil
}

// Restore brings the running lab back to its snapshot, verifies that the swarm is
// healthy and that no services are left, and tries once more if not. Without a
// snapshot it fails with ErrNoSnapshot. It must not run while something else
// uses the lab.
func (l *Lab) Restore(ctx context.Context) error {
	l.mu.Lock()
	set := l.set
	l.mu.Unlock()
	if set == nil {
		return ErrNoSnapshot
	}
	return l.restoreTo(ctx, set)
}

func (l *Lab) restoreTo(ctx context.Context, set *snapshot.Snapshot) error {
	err := l.attempt(ctx, l.observe, func() error {
		l.Swarm.Disconnect()
		if err := l.Cluster.Restore(ctx, set); err != nil {
			return err
		}
		return healthy(ctx, l.Swarm, set)
	})
	if err != nil {
		return fmt.Errorf("restore the cluster from snapshot %s: %w", set.Name, err)
	}
	return nil
}

// RestoreTo brings the running lab to a set that a user named; later restores
// come back to that one.
func (l *Lab) RestoreTo(ctx context.Context, name string) error {
	set, err := l.openNamed(name)
	if err != nil {
		return err
	}
	if err := l.restoreTo(ctx, set); err != nil {
		set.Close()
		return err
	}
	l.use(set)
	return nil
}

// use makes a set the one that restores come back to.
func (l *Lab) use(set *snapshot.Snapshot) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.set != nil {
		l.outgrown = append(l.outgrown, l.set) // the running hosts' disks may still lie on it
	}
	l.set = set
}

// Save stores the running lab under a name that a user gave.
func (l *Lab) Save(ctx context.Context, name string) error {
	if err := snapshot.CheckName(name); err != nil {
		return err
	}
	return l.save(ctx, name, false)
}

func (l *Lab) save(ctx context.Context, name string, ready bool) (err error) {
	needs, err := l.needs()
	if err != nil {
		return err
	}
	started := time.Now()
	free, err := image.FreeBytes(l.snapshots.Dir())
	if err != nil {
		return err
	}
	if need := l.Cluster.NeedBytes(); free < need {
		return fmt.Errorf("save snapshot %s: it takes %d MiB, %d MiB are free in %s: make room (hiveproof snapshot prune), or choose another place with --cache-dir",
			name, need>>20, free>>20, l.snapshots.Dir())
	}
	draft, err := l.snapshots.Create(name)
	if err != nil {
		return err
	}
	l.Swarm.Disconnect()
	files, err := l.Cluster.Save(ctx, draft.Dir)
	if err != nil {
		return errors.Join(fmt.Errorf("save snapshot %s: %w", name, err), draft.Abort())
	}
	m := snapshot.Manifest{
		Ready: ready, Needs: needs, Created: time.Now().UTC(), Files: files,
		Versions: l.Versions, SaveS: time.Since(started).Seconds(), BringUpS: started.Sub(l.Started).Seconds(),
	}
	for _, h := range l.Topology.Hosts {
		m.Hosts = append(m.Hosts, h.Name)
	}
	return draft.Commit(m)
}

// saveReady stores the lab that was just brought up, for all that come later. A
// failure is no reason to do without the lab: it is said, and the lab goes on
// without a snapshot.
func (l *Lab) saveReady(ctx context.Context, observe func(Event)) error {
	needs, err := l.needs()
	if err != nil {
		return err
	}
	name := readyName(needs)
	err = l.phase(observe, "save", func() error { return l.save(ctx, name, true) })
	if err == nil {
		l.set, err = l.snapshots.Use(name)
	}
	if err == nil {
		_, err = l.snapshots.Prune(keepReady, false)
	}
	if ctx.Err() != nil {
		return err
	}
	if err != nil {
		observe(Event{Phase: "save", Message: fmt.Sprintf("going on without a ready snapshot: %v", err), Warning: true})
		// The hosts went on after the attempt; whether they are well is another matter.
		return l.Swarm.WaitHealthy(ctx, healthTimeout)
	}
	return nil
}
