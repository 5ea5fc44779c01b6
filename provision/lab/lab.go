// Package lab brings the default lab up, from the node image to a formed swarm
// on QEMU hosts, and takes it down again.
package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-multierror"
	"github.com/hiveproof/hiveproof/provision"
	"github.com/hiveproof/hiveproof/provision/agentimage"
	"github.com/hiveproof/hiveproof/provision/image"
	"github.com/hiveproof/hiveproof/provision/qemu"
	"github.com/hiveproof/hiveproof/provision/snapshot"
	"github.com/hiveproof/hiveproof/provision/state"
	"github.com/hiveproof/hiveproof/provision/swarm"
	"github.com/hiveproof/hiveproof/provision/topology"
)

// Provider is this lab's provider, as reports name it.
const Provider = "qemu"

// Event is a step of bringing a lab up or down.
type Event struct {
	Phase   string // image, boot, swarm, down
	Host    string // empty for the lab as a whole
	Message string
	Start   bool // the phase begins
	Done    bool // the phase ended after Elapsed, with Err if it failed
	Elapsed time.Duration
	Err     error
	Warning bool // the message is one
}

// Options say what lab to bring up.
type Options struct {
	State    *state.Dir // locked by the caller
	CacheDir string
	Topology *topology.Topology
	Release  string // of the node image; image.DefaultRelease if empty
	Mirror   string // image.DefaultMirror if empty
	ID       string // names the lab in the state directory, such as the run's ID
	// Snapshot is the name of a stored set to start from instead of the ready one.
	Snapshot string
	// NoEdge leaves the topology's edge host off: nothing needs it.
	NoEdge bool
	// Cold boots the hosts and forms the swarm, whatever is stored, and stores nothing.
	Cold bool
	// Observe is told each step, by several goroutines at once; it may be nil.
	Observe func(Event)
}

// Lab is a running lab.
type Lab struct {
	Cluster  *qemu.Cluster
	Swarm    *swarm.Swarm
	Topology *topology.Topology
	Image    *image.Image
	Proof    qemu.Proof
	Dir      string             // of its disks, logs and keys
	Timings  map[string]float64 // seconds by phase
	Versions map[string]string
	Started  time.Time

	noEdge    bool
	observe   func(Event)
	ledger    *state.Ledger
	snapshots *snapshot.Store
	mu        sync.Mutex
	set       *snapshot.Snapshot   // what Restore comes back to; nil if there is nothing
	outgrown  []*snapshot.Snapshot // earlier ones, in use until the end

	closers []func() error // undone in reverse
	// strike removes the ledger after all else is gone; abandon leaves it, so that
	// what could not be removed now is tried again at the next start.
	strike, abandon func() error
	once            sync.Once
	err             error
}

// Images prepares the agent's archive and the store that node images are kept in.
// It returns the spec of the image that this program's hosts start from.
func Images(cacheDir, release, mirror string) (*image.Store, image.Spec, error) {
	spec := image.Spec{Release: release, Mirror: mirror}
	if spec.Release == "" {
		spec.Release = image.DefaultRelease
	}
	if spec.Mirror == "" {
		spec.Mirror = image.DefaultMirror
	}
	if err := spec.Check(); err != nil {
		return nil, spec, err
	}
	store, err := image.OpenStore(filepath.Join(cacheDir, "images"))
	if err != nil {
		return nil, spec, err
	}
	binary, err := agentimage.FindBinary()
	if err != nil {
		return nil, spec, err
	}
	if spec.AgentDigest, err = agentimage.Digest(binary); err != nil {
		return nil, spec, err
	}
	spec.AgentArchive = filepath.Join(cacheDir, "agent-"+spec.AgentDigest[:16]+".tar")
	if _, err := os.Stat(spec.AgentArchive); errors.Is(err, os.ErrNotExist) {
		if err := agentimage.Build(binary, spec.AgentArchive); err != nil {
			return nil, spec, err
		}
	}
	return store, spec, nil
}

// ensureImage returns the node image, built if it is not in the cache, and the
// acceleration that this host proved to have.
func ensureImage(ctx context.Context, opts Options, ledger qemu.Ledger) (*image.Image, qemu.Proof, error) {
	store, spec, err := Images(opts.CacheDir, opts.Release, opts.Mirror)
	if err != nil {
		return nil, qemu.Proof{}, err
	}
	img, err := ensure(ctx, store, spec, ledger, opts.observer())
	if err != nil {
		return nil, qemu.Proof{}, err
	}
	proof, err := qemu.ProveAccel(ctx, opts.CacheDir, img.Kernel, img.Initrd)
	return img, proof, err
}

// BuildImage makes sure that the node image is in the cache. The caller holds the
// state directory.
func BuildImage(ctx context.Context, opts Options) (_ *image.Image, err error) {
	store, spec, err := Images(opts.CacheDir, opts.Release, opts.Mirror)
	if err != nil {
		return nil, err
	}
	if img, err := store.Lookup(spec); err == nil {
		return img, nil
	}
	ledger, err := opts.State.NewLedger(fmt.Sprintf("image-%d", os.Getpid()))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, ledger.Close()) }()
	observe := opts.observer()
	observe(Event{Phase: "image", Start: true})
	started := time.Now()
	img, err := ensure(ctx, store, spec, ledger, observe)
	observe(Event{Phase: "image", Done: true, Elapsed: time.Since(started), Err: err})
	return img, err
}

func ensure(ctx context.Context, store *image.Store, spec image.Spec, ledger qemu.Ledger, observe func(Event)) (*image.Image, error) {
	// Before there is an image there is no kernel to prove KVM with: sealing is done
	// without it.
	return store.Ensure(ctx, spec, qemu.Sealer(qemu.TCG, ledger), func(message string) {
		observe(Event{Phase: "image", Message: message})
	})
}

func (o Options) observer() func(Event) {
	if o.Observe == nil {
		return func(Event) {}
	}
	return o.Observe
}

// Up brings a lab up. On failure nothing is left running. The lab ends with this
// process at the latest, and its files are removed then, also after kill -9.
func Up(ctx context.Context, opts Options) (_ *Lab, err error) {
	observe := opts.observer()
	l := &Lab{Topology: opts.Topology, Timings: map[string]float64{}, Versions: map[string]string{}, Started: time.Now(), observe: observe, noEdge: opts.NoEdge}
	defer func() {
		if err != nil {
			err = errors.Join(err, l.Close())
		}
	}()
	if err := preflight(ctx, opts.Topology, opts.State.Path()); err != nil {
		return nil, err
	}
	ledger, err := opts.State.NewLedger(opts.ID)
	if err != nil {
		return nil, err
	}
	stopReaper, err := ledger.StartReaper()
	if err != nil {
		return nil, errors.Join(err, ledger.Close())
	}
	l.strike = func() error { return errors.Join(ledger.Close(), stopReaper()) }
	l.abandon = stopReaper
	l.Dir = opts.State.LabDir(opts.ID)
	if err := ledger.AddPath(l.Dir); err != nil {
		return nil, err
	}
	if err := os.Mkdir(l.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the lab's directory: %w", err)
	}
	l.closers = append(l.closers, func() error { return os.RemoveAll(l.Dir) })

	l.ledger = ledger
	err = l.phase(observe, "image", func() (err error) {
		l.Image, l.Proof, err = ensureImage(ctx, opts, ledger)
		return err
	})
	if err != nil {
		return nil, err
	}
	if l.Versions["qemu"], err = qemu.Version(ctx); err != nil {
		return nil, err
	}
	if l.snapshots, err = SnapshotStore(opts.CacheDir); err != nil {
		return nil, err
	}
	restored := false
	switch {
	case opts.Snapshot != "":
		restored, err = true, l.fromNamed(ctx, opts, observe)
	case !opts.Cold:
		restored, err = l.fromReady(ctx, opts, observe)
	}
	if err == nil && !restored {
		err = l.bringUp(ctx, opts, observe)
	}
	if err != nil {
		return nil, err
	}
	l.Timings["ready"] = time.Since(l.Started).Seconds()
	return l, nil
}

// bringUp boots the hosts, forms the swarm and, unless the options forbid it,
// saves what there is then.
func (l *Lab) bringUp(ctx context.Context, opts Options, observe func(Event)) error {
	err := l.phase(observe, "boot", func() (err error) {
		l.Cluster, err = qemu.Up(ctx, l.clusterConfig(observe))
		return err
	})
	if err != nil {
		return err
	}
	err = l.phase(observe, "swarm", func() (err error) {
		l.Swarm, err = swarm.Form(ctx, l.Cluster.Hosts(), swarm.Options{
			Managers: managers(opts.Topology),
			Progress: func(host, message string) { observe(Event{Phase: "swarm", Host: host, Message: message}) },
		})
		if err != nil {
			return l.withConsoles(err)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if err := l.readVersions(ctx); err != nil || opts.Cold {
		return err
	}
	// The snapshot has all hosts, also those that this run does without.
	err = l.saveReady(ctx, observe)
	if err == nil && opts.NoEdge {
		l.Cluster.ParkEdge()
	}
	return err
}

func (l *Lab) clusterConfig(observe func(Event)) qemu.Config {
	return qemu.Config{
		Topology: l.Topology, Image: l.Image, Accel: l.Proof.Accel, Dir: filepath.Join(l.Dir, "hosts"), Ledger: l.ledger, NoEdge: l.noEdge,
		Progress: func(host, message string) { observe(Event{Phase: "boot", Host: host, Message: message}) },
	}
}

// managers says which hosts are to manage the swarm.
func managers(top *topology.Topology) map[string]bool {
	all := map[string]bool{}
	for _, h := range top.Hosts {
		all[h.Name] = h.Manager
	}
	return all
}

func (l *Lab) phase(observe func(Event), name string, step func() error) error {
	observe(Event{Phase: name, Start: true})
	started := time.Now()
	err := step()
	took := time.Since(started)
	l.Timings[name] = took.Seconds()
	observe(Event{Phase: name, Done: true, Elapsed: took, Err: err})
	return err
}

// withConsoles adds the end of each host's console to an error that no single
// host can be blamed for.
func (l *Lab) withConsoles(err error) error {
	problems := multierror.Append(nil, err)
	for _, h := range l.Cluster.Hosts() {
		if lines := h.(provision.ConsoleReader).ConsoleTail(8); len(lines) > 0 {
			problems = multierror.Append(problems, fmt.Errorf("%s: the last lines of its console:\n    %s", h.Name(), strings.Join(lines, "\n    ")))
		}
	}
	return problems
}

func (l *Lab) readVersions(ctx context.Context) error {
	l.Versions["image"] = l.Image.Key
	for name, v := range l.Image.Content {
		l.Versions[name] = v
	}
	engine, err := l.Swarm.Versions(ctx)
	if err != nil {
		return err
	}
	for name, v := range engine {
		l.Versions[name] = v
	}
	return nil
}

// Close takes the lab down and removes its files. It may be called twice.
func (l *Lab) Close() error {
	l.once.Do(func() {
		var problems *multierror.Error
		if l.Swarm != nil {
			problems = multierror.Append(problems, l.Swarm.Close())
		}
		if l.Cluster != nil {
			problems = multierror.Append(problems, l.Cluster.Close())
		}
		for _, set := range append(l.outgrown, l.set) {
			if set != nil {
				set.Close()
			}
		}
		for i := len(l.closers) - 1; i >= 0; i-- {
			if err := l.closers[i](); err != nil {
				problems = multierror.Append(problems, err)
			}
		}
		last := l.strike
		if problems.ErrorOrNil() != nil {
			last = l.abandon
		}
		if last != nil {
			if err := last(); err != nil {
				problems = multierror.Append(problems, err)
			}
		}
		if err := problems.ErrorOrNil(); err != nil {
			l.err = fmt.Errorf("take the lab down: %w", err)
		}
	})
	return l.err
}
