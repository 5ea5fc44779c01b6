package image

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/go-multierror"
	"golang.org/x/sys/unix"
)

// Store is the cache of images, a directory. Several processes may use one.
type Store struct {
	dir string
}

// OpenStore makes the directory if need be.
func OpenStore(dir string) (*Store, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("image cache %s: %w", dir, err)
	}
	if err := os.MkdirAll(abs, 0o755); err != nil {
		return nil, fmt.Errorf("make the image cache: %w", err)
	}
	return &Store{dir: abs}, nil
}

// Dir is the cache's absolute path.
func (s *Store) Dir() string { return s.dir }

// Manifest describes a finished layer. It is the last file written into it.
type Manifest struct {
	Key         string            `json:"key"`
	Kind        string            `json:"kind"` // "base", "software" or "node"
	BaseKey     string            `json:"base_key,omitempty"`
	SoftwareKey string            `json:"software_key,omitempty"`
	Below       string            `json:"below,omitempty"` // build of the layer that this one lies on
	Release     string            `json:"release"`
	Created     time.Time         `json:"created"`
	BuildS      float64           `json:"build_s"`
	Content     map[string]string `json:"content,omitempty"` // component -> version, of the node layer
	// Software are the versions of the packages in the software layer's container images.
	Software map[string]string `json:"software,omitempty"`
	// BytesOnDisk is what the layer occupies; computed when it is listed.
	BytesOnDisk int64 `json:"-"`
}

// Image is a finished image, ready to start hosts from.
type Image struct {
	Manifest
	Kernel, Initrd string // files
	Disk           string // qcow2 layer that the hosts' overlays are backed by; never written to
	// Build tells two builds of one key apart: they hold the same packages, not the same
	// blocks. It stands for the layers below as well, which have to fit.
	Build string
}

// height orders the kinds of layers; each lies on the one before.
var height = map[string]int{"base": 1, "software": 2, "node": 3}

const manifestFile = "manifest.json"

func (s *Store) layerDir(kind, key string) string { return filepath.Join(s.dir, kind+"-"+key) }

// build tells two builds of one key apart.
func (m *Manifest) build() string { return m.Created.Format(time.RFC3339Nano) }

// below names the layer that this one lies on; a base lies on none.
func (m *Manifest) below() (kind, key string) {
	switch m.Kind {
	case "software":
		return "base", m.BaseKey
	case "node":
		return "software", m.SoftwareKey
	}
	return "", ""
}

// usable reads a finished layer and sees that it and all below it lie on what they
// were made on: a disk over another build's blocks is a damaged one. It is
// fs.ErrNotExist if one is missing or does not fit.
func (s *Store) usable(kind, key string) (*Manifest, error) {
	m, err := s.load(kind, key)
	if err != nil {
		return nil, err
	}
	below, err := s.buildBelow(m)
	if err != nil {
		return nil, err
	}
	if m.Below != below {
		kind, key := m.below()
		return nil, fmt.Errorf("image %s-%s was made on another build of %s-%s: %w", m.Kind, m.Key, kind, key, fs.ErrNotExist)
	}
	return m, nil
}

// buildBelow is the build that is there of the layer that m lies on; empty for a base.
func (s *Store) buildBelow(m *Manifest) (string, error) {
	kind, key := m.below()
	if kind == "" {
		return "", nil
	}
	below, err := s.usable(kind, key)
	if err != nil {
		return "", err
	}
	return below.build(), nil
}

// load reads a finished layer; fs.ErrNotExist if there is none.
func (s *Store) load(kind, key string) (*Manifest, error) {
	text, err := os.ReadFile(filepath.Join(s.layerDir(kind, key), manifestFile))
	if err != nil {
		return nil, fmt.Errorf("image %s-%s: %w", kind, key, err)
	}
	m := new(Manifest)
	if err := json.Unmarshal(text, m); err != nil {
		return nil, fmt.Errorf("image %s-%s: read the manifest: %w", kind, key, err)
	}
	return m, nil
}

// Lookup returns the finished image of a spec, or fs.ErrNotExist.
func (s *Store) Lookup(spec Spec) (*Image, error) {
	key, err := spec.Key()
	if err != nil {
		return nil, err
	}
	m, err := s.usable("node", key)
	if err != nil {
		return nil, err
	}
	base := s.layerDir("base", m.BaseKey)
	return &Image{
		Manifest: *m,
		Kernel:   filepath.Join(base, "kernel"),
		Initrd:   filepath.Join(base, "initrd"),
		Disk:     filepath.Join(s.layerDir("node", key), "disk.qcow2"),
		Build:    m.build(),
	}, nil
}

// List returns the finished layers, oldest first.
func (s *Store) List() ([]Manifest, error) {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return nil, fmt.Errorf("list the image cache: %w", err)
	}
	var all []Manifest
	for _, e := range entries {
		kind, key, ok := strings.Cut(e.Name(), "-")
		if !e.IsDir() || !ok || height[kind] == 0 {
			continue
		}
		m, err := s.load(kind, key)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		m.BytesOnDisk = onDisk(filepath.Join(s.dir, e.Name()))
		all = append(all, *m)
	}
	slices.SortFunc(all, func(a, b Manifest) int { return a.Created.Compare(b.Created) })
	return all, nil
}

// Prune removes every layer but those that keep needs, and what interrupted
// builds left. An image that a build holds is left alone. It returns what was removed.
func (s *Store) Prune(keep *Spec) ([]Manifest, error) {
	wanted := map[string]bool{}
	if keep != nil {
		baseKey, err := keep.BaseKey()
		if err != nil {
			return nil, err
		}
		key, err := keep.Key()
		if err != nil {
			return nil, err
		}
		softwareKey, err := keep.SoftwareKey()
		if err != nil {
			return nil, err
		}
		wanted["base-"+baseKey], wanted["software-"+softwareKey], wanted["node-"+key] = true, true, true
	}
	all, err := s.List()
	if err != nil {
		return nil, err
	}
	// From the top: a layer that was built anew below an old one would not fit it.
	slices.SortStableFunc(all, func(a, b Manifest) int { return height[b.Kind] - height[a.Kind] })
	var removed []Manifest
	var problems *multierror.Error
	for _, m := range all {
		name := m.Kind + "-" + m.Key
		if wanted[name] {
			continue
		}
		ok, err := s.remove(name)
		if err != nil {
			problems = multierror.Append(problems, err)
		}
		if ok {
			removed = append(removed, m)
		} else {
			wanted["base-"+m.BaseKey], wanted["software-"+m.SoftwareKey] = true, true
		}
	}
	left, err := filepath.Glob(filepath.Join(s.dir, ".building-*-*"))
	if err != nil {
		problems = multierror.Append(problems, fmt.Errorf("look for unfinished builds: %w", err))
	}
	for _, dir := range left {
		name := strings.TrimPrefix(filepath.Base(dir), ".building-")
		name = name[:strings.LastIndexByte(name, '-')]
		unlock, ok, err := s.tryLock(name)
		if ok {
			err = s.removeLeftovers(name)
			unlock()
		}
		if err != nil {
			problems = multierror.Append(problems, err)
		}
	}
	return removed, problems.ErrorOrNil()
}

// remove removes a finished layer and its leftovers, unless a build holds it.
func (s *Store) remove(name string) (ok bool, err error) {
	unlock, ok, err := s.tryLock(name)
	if err != nil || !ok {
		return false, err
	}
	defer unlock()
	if err := s.removeLeftovers(name); err != nil {
		return false, err
	}
	err = s.removeFinished(name)
	return err == nil, err
}

// removeFinished removes a finished layer. It loses its name first, so that a removal
// that is interrupted leaves nothing that looks finished. The caller holds its lock
// and has removed its leftovers.
func (s *Store) removeFinished(name string) error {
	doomed := filepath.Join(s.dir, fmt.Sprintf(".building-%s-%d", name, os.Getpid()))
	if err := os.Rename(filepath.Join(s.dir, name), doomed); err != nil {
		return fmt.Errorf("remove image %s: %w", name, err)
	}
	return removeTree(doomed)
}

// removeLeftovers removes unfinished builds of a layer. The caller holds its lock.
func (s *Store) removeLeftovers(name string) error {
	old, err := filepath.Glob(filepath.Join(s.dir, ".building-"+name+"-*"))
	if err != nil {
		return fmt.Errorf("look for unfinished builds: %w", err)
	}
	var problems *multierror.Error
	for _, dir := range old {
		if err := removeTree(dir); err != nil {
			problems = multierror.Append(problems, err)
		}
	}
	return problems.ErrorOrNil()
}

// removeTree removes a directory, unless something is mounted below it: a
// builder that was killed may have left /dev or /sys of this machine there.
func removeTree(dir string) error {
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return fmt.Errorf("remove %s: look for mounts: %w", dir, err)
	}
	if strings.Contains(string(mounts), " "+dir+"/") {
		return fmt.Errorf("remove %s: file systems are mounted below it (left by a build that was killed): unmount them first", dir)
	}
	// What was killed a moment ago may still be writing its last file.
	deadline := time.Now().Add(removeTimeout)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		err := os.RemoveAll(dir)
		if err == nil {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("remove %s: %w", dir, err)
		}
		<-tick.C
	}
}

// removeTimeout is how long a tree may resist its removal.
const removeTimeout = 5 * time.Second

func (s *Store) tryLock(name string) (unlock func(), ok bool, err error) {
	file, err := os.OpenFile(filepath.Join(s.dir, name+".lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, false, fmt.Errorf("lock image %s: %w", name, err)
	}
	if err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		file.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, false, nil
		}
		return nil, false, fmt.Errorf("lock image %s: %w", name, err)
	}
	return func() { file.Close() }, true, nil
}

// lock waits for the lock of a layer: somebody else may be building it for us.
func (s *Store) lock(ctx context.Context, name string, progress func(string)) (unlock func(), err error) {
	told := false
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		unlock, ok, err := s.tryLock(name)
		if err != nil || ok {
			return unlock, err
		}
		if !told {
			progress("another process is building it: waiting")
			told = true
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for another build of image %s: %w", name, context.Cause(ctx))
		case <-tick.C:
		}
	}
}

// onDisk is what a tree occupies, in bytes; holes do not count.
func onDisk(dir string) int64 {
	var sum int64
	_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return nil // a figure for people: what cannot be read counts nothing
		}
		var st unix.Stat_t
		if unix.Lstat(path, &st) == nil {
			sum += st.Blocks * 512
		}
		return nil
	})
	return sum
}
