package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"

	"github.com/hiveproof/hiveproof/provision/image"
	"github.com/hiveproof/hiveproof/provision/lab"
	"github.com/hiveproof/hiveproof/provision/state"
	"github.com/hiveproof/hiveproof/provision/topology"
	"github.com/hiveproof/hiveproof/scenarios/supervise"
	"github.com/spf13/cobra"
)

// version is set by the Makefile.
var version = "dev"

func programVersion() string {
	if version != "dev" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" && info.Main.Version != "(devel)" {
		return info.Main.Version
	}
	return version
}

// globals are the flags of every command.
type globals struct {
	stateDir, cacheDir string
}

func (g *globals) state() (*state.Dir, error) {
	path := g.stateDir
	if path == "" {
		var err error
		if path, err = state.DefaultPath(); err != nil {
			return nil, err
		}
	}
	return state.Open(path)
}

func (g *globals) cache() (string, error) {
	if g.cacheDir == "" {
		return state.DefaultCachePath()
	}
	path, err := filepath.Abs(g.cacheDir)
	if err != nil {
		return "", fmt.Errorf("cache directory: %w", err)
	}
	return path, nil
}

// labFlags say what lab to bring up.
type labFlags struct {
	topology, release, mirror string
	snapshot                  string // name of a stored set to start from; empty for the ready one
}

func (f *labFlags) register(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.topology, "topology", "", "topology file in YAML (default: three hosts and three clients)")
	f.registerImage(cmd)
	_ = cmd.MarkFlagFilename("topology", "yml", "yaml")
}

func (f *labFlags) registerImage(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.release, "release", image.DefaultRelease, "Debian release of the node image")
	cmd.Flags().StringVar(&f.mirror, "mirror", image.DefaultMirror, "Debian mirror that the node image is built from")
}

func (f *labFlags) registerSnapshot(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.snapshot, "snapshot", "", "name of the snapshot to start from (default: the ready one, made if need be)")
}

// args repeats the flags for the supervisor's command line.
func (f *labFlags) args() []string {
	args := []string{"--release", f.release, "--mirror", f.mirror}
	if f.topology != "" {
		args = append(args, "--topology", f.topology)
	}
	if f.snapshot != "" {
		args = append(args, "--snapshot", f.snapshot)
	}
	return args
}

func (f *labFlags) check() error {
	if err := (image.Spec{Release: f.release, Mirror: f.mirror}).Check(); err != nil {
		return usageError{err}
	}
	return nil
}

func (f *labFlags) load() (*topology.Topology, error) {
	if err := f.check(); err != nil {
		return nil, err
	}
	if f.topology == "" {
		return topology.Default(), nil
	}
	return topology.Load(f.topology)
}

// own locks the state directory for this process and reaps what dead ones left.
func (g *globals) own() (dir *state.Dir, unlock func(), err error) {
	dir, err = g.state()
	if err != nil {
		return nil, nil, err
	}
	unlock, err = dir.Lock()
	if err != nil {
		return nil, nil, err
	}
	reaped, err := dir.ReapOrphans()
	for _, r := range reaped {
		fmt.Fprintf(os.Stderr, "hiveproof: removed what the killed run %s left: %d process(es), %d path(s)\n", r.ID, len(r.Processes), len(r.Paths))
	}
	if err != nil {
		unlock()
		return nil, nil, err
	}
	return dir, unlock, nil
}

// supervisor connects to a running one; nil without error if there is none.
func (g *globals) supervisor(ctx context.Context) (*supervise.Client, *supervise.Status, error) {
	dir, err := g.state()
	if err != nil {
		return nil, nil, err
	}
	client, status, err := supervise.Connect(ctx, dir.SocketPath())
	if errors.Is(err, supervise.ErrNone) {
		return nil, nil, nil
	}
	return client, status, err
}

// labOptions are those of a lab that this process brings up.
func (g *globals) labOptions(f *labFlags, top *topology.Topology, dir *state.Dir, observe func(lab.Event)) (lab.Options, error) {
	cache, err := g.cache()
	if err != nil {
		return lab.Options{}, err
	}
	return lab.Options{
		State: dir, CacheDir: cache, Topology: top, Release: f.release, Mirror: f.mirror, Observe: observe,
	}, nil
}
