// Package snapshot keeps saved clusters on disk: sets of files that belong
// together, each with a digest, under a name. A set appears under its name when
// it is whole, or not at all; what is damaged is detected, never used. Several
// processes may use one store.
package snapshot

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/go-multierror"
	"golang.org/x/sys/unix"
)

// Manifest describes a set. It is the last file written into it.
type Manifest struct {
	Name string `json:"name"`
	// Ready is true for the snapshot that a bring-up saved by itself and that
	// hiveproof may remove again; others were saved, and named, by a user.
	Ready bool `json:"ready"`
	// Needs is everything that the set depends on, a name and its value: it can
	// only be used where all of it is the same.
	Needs    map[string]string `json:"needs"`
	Hosts    []string          `json:"hosts"`
	Created  time.Time         `json:"created"`
	SaveS    float64           `json:"save_s"`     // seconds that saving took
	BringUpS float64           `json:"bring_up_s"` // seconds that the lab had taken and lived until then
	Versions map[string]string `json:"versions"`   // of what runs on the hosts
	Files    []File            `json:"files"`
}

// Info is a stored set as it is listed.
type Info struct {
	Manifest
	Used        time.Time `json:"used"` // last
	BytesOnDisk int64     `json:"bytes_on_disk"`
	InUse       bool      `json:"in_use"` // by a lab that runs
	Problem     string    `json:"problem,omitempty"`
}

// DamagedError says that a set is not what was saved.
type DamagedError struct{ Name, Reason string }

func (e *DamagedError) Error() string {
	return fmt.Sprintf("snapshot %s is damaged: %s", e.Name, e.Reason)
}

// BusyError says that another process uses or makes a set.
type BusyError struct{ Name string }

func (e *BusyError) Error() string {
	return fmt.Sprintf("snapshot %s is in use by another hiveproof", e.Name)
}

const (
	manifestFile = "manifest.json"
	savingPrefix = ".saving-"
)

var validName = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,62}$`)

// CheckName says whether a user may give this name.
func CheckName(name string) error {
	if !validName.MatchString(name) || strings.HasPrefix(name, ReadyPrefix) {
		return fmt.Errorf("snapshot name %q: want lower-case letters, digits, '.', '_' and '-', a letter or digit first, and not %s…", name, ReadyPrefix)
	}
	return nil
}

// ReadyPrefix begins the names of ready snapshots.
const ReadyPrefix = "ready-"

// Store is a directory of sets.
type Store struct{ dir string }

// Open makes the directory if need be, readable by its owner only: the sets hold
// keys and the memory of machines. What killed saves left is removed.
func Open(dir string) (*Store, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("snapshots in %s: %w", dir, err)
	}
	if err := os.MkdirAll(abs, 0o700); err != nil {
		return nil, fmt.Errorf("make the directory of the snapshots: %w", err)
	}
	s := &Store{dir: abs}
	return s, s.removeUnfinished()
}

// Dir is the store's absolute path.
func (s *Store) Dir() string { return s.dir }

// removeUnfinished removes what saves left that did not end. A save that goes on
// holds its lock.
func (s *Store) removeUnfinished() error {
	left, err := filepath.Glob(filepath.Join(s.dir, savingPrefix+"*"))
	if err != nil {
		return fmt.Errorf("look for unfinished snapshots: %w", err)
	}
	var problems *multierror.Error
	for _, dir := range left {
		name := strings.TrimPrefix(filepath.Base(dir), savingPrefix)
		unlock, err := s.lock(name, unix.LOCK_EX)
		var busy *BusyError
		if errors.As(err, &busy) {
			continue
		}
		if err == nil {
			err = os.RemoveAll(dir)
			unlock()
		}
		if err != nil {
			problems = multierror.Append(problems, fmt.Errorf("remove an unfinished snapshot: %w", err))
		}
	}
	return problems.ErrorOrNil()
}

// lock takes a set's lock without waiting; how is unix.LOCK_EX or unix.LOCK_SH.
func (s *Store) lock(name string, how int) (unlock func(), err error) {
	file, err := os.OpenFile(filepath.Join(s.dir, name+".lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock snapshot %s: %w", name, err)
	}
	if err := unix.Flock(int(file.Fd()), how|unix.LOCK_NB); err != nil {
		file.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, &BusyError{Name: name}
		}
		return nil, fmt.Errorf("lock snapshot %s: %w", name, err)
	}
	return func() { file.Close() }, nil
}

// Draft is a set that is being made.
type Draft struct {
	Dir    string // put the files here
	store  *Store
	name   string
	unlock func()
}

// Create begins a set; it takes the place of an older one of the same name when
// it is committed. It fails with *BusyError if a lab runs from the older one.
func (s *Store) Create(name string) (*Draft, error) {
	unlock, err := s.lock(name, unix.LOCK_EX)
	if err != nil {
		return nil, err
	}
	d := &Draft{Dir: filepath.Join(s.dir, savingPrefix+name), store: s, name: name, unlock: unlock}
	err = os.RemoveAll(d.Dir)
	if err == nil {
		err = os.Mkdir(d.Dir, 0o700)
	}
	if err != nil {
		unlock()
		return nil, fmt.Errorf("begin snapshot %s: %w", name, err)
	}
	return d, nil
}

// Commit writes the manifest and gives the set its name. The files are not
// flushed first: what a power cut leaves unwritten is found by the digests.
func (d *Draft) Commit(m Manifest) error {
	defer d.unlock()
	m.Name = d.name
	text, err := json.MarshalIndent(m, "", "  ")
	if err == nil {
		err = os.WriteFile(filepath.Join(d.Dir, manifestFile), text, 0o600)
	}
	final := filepath.Join(d.store.dir, d.name)
	if err == nil {
		err = os.RemoveAll(final)
	}
	if err == nil {
		err = os.Rename(d.Dir, final)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("finish snapshot %s: %w", d.name, err), os.RemoveAll(d.Dir))
	}
	return nil
}

// Abort removes what there is of the set.
func (d *Draft) Abort() error {
	defer d.unlock()
	if err := os.RemoveAll(d.Dir); err != nil {
		return fmt.Errorf("remove the unfinished snapshot %s: %w", d.name, err)
	}
	return nil
}

// Snapshot is a set in use: until Close nobody removes it.
type Snapshot struct {
	Manifest
	Dir    string
	unlock func()
}

// Close gives the set back. Nothing of it may be used afterwards.
func (s *Snapshot) Close() { s.unlock() }

// Path is where a file of the set is.
func (s *Snapshot) Path(name string) string { return filepath.Join(s.Dir, name) }

// File is what the set's manifest says of a file.
func (s *Snapshot) File(name string) (File, error) {
	i := slices.IndexFunc(s.Files, func(f File) bool { return f.Name == name })
	if i < 0 {
		return File{}, &DamagedError{s.Name, "its manifest does not list " + name}
	}
	return s.Files[i], nil
}

// Use opens a set. It fails with fs.ErrNotExist if there is none of this name,
// and with *DamagedError if a file is missing or has another size. That the
// contents are right is for the reader to check, as it reads them.
func (s *Store) Use(name string) (*Snapshot, error) {
	if !validName.MatchString(name) { // nor is it a way out of the store
		return nil, fmt.Errorf("snapshot %q: %w", name, fs.ErrNotExist)
	}
	if _, err := os.Stat(filepath.Join(s.dir, name)); err != nil {
		return nil, fmt.Errorf("snapshot %s: %w", name, err)
	}
	unlock, err := s.lock(name, unix.LOCK_SH)
	if err != nil {
		return nil, err
	}
	m, err := s.read(name)
	if err != nil {
		unlock()
		return nil, err
	}
	dir := filepath.Join(s.dir, name)
	now := time.Now()
	if err := os.Chtimes(filepath.Join(dir, manifestFile), now, now); err != nil { // when it was last used
		unlock()
		return nil, fmt.Errorf("snapshot %s: %w", name, err)
	}
	return &Snapshot{Manifest: *m, Dir: dir, unlock: unlock}, nil
}

// read reads a set's manifest and looks for its files.
func (s *Store) read(name string) (*Manifest, error) {
	text, err := os.ReadFile(filepath.Join(s.dir, name, manifestFile))
	if err != nil {
		return nil, &DamagedError{name, "its manifest cannot be read: " + err.Error()}
	}
	m := new(Manifest)
	if err := json.Unmarshal(text, m); err != nil {
		return nil, &DamagedError{name, "its manifest cannot be read: " + err.Error()}
	}
	for _, f := range m.Files {
		st, err := os.Stat(filepath.Join(s.dir, name, f.Name))
		switch {
		case err != nil:
			return m, &DamagedError{name, f.Name + " is missing"}
		case st.Size() != f.Size:
			return m, &DamagedError{name, fmt.Sprintf("%s has %d bytes and not %d", f.Name, st.Size(), f.Size)}
		}
	}
	return m, nil
}

// List returns the sets, the one used last first. Damaged ones are among them.
func (s *Store) List() ([]Info, error) {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return nil, fmt.Errorf("list the snapshots: %w", err)
	}
	var all []Info
	for _, e := range entries {
		if !e.IsDir() || strings.HasPrefix(e.Name(), ".") {
			continue
		}
		info := Info{BytesOnDisk: onDisk(filepath.Join(s.dir, e.Name()))}
		m, err := s.read(e.Name())
		if m != nil {
			info.Manifest = *m
		}
		if err != nil {
			info.Problem = err.Error()
		}
		info.Name = e.Name()
		if st, err := os.Stat(filepath.Join(s.dir, e.Name(), manifestFile)); err == nil {
			info.Used = st.ModTime().UTC()
		}
		unlock, err := s.lock(e.Name(), unix.LOCK_EX)
		if err == nil {
			unlock()
		}
		info.InUse = err != nil
		all = append(all, info)
	}
	slices.SortFunc(all, func(a, b Info) int { return b.Used.Compare(a.Used) })
	return all, nil
}

// Remove removes a set; *BusyError if a lab runs from it, fs.ErrNotExist if there is none.
func (s *Store) Remove(name string) error {
	if !validName.MatchString(name) {
		return fmt.Errorf("snapshot %q: %w", name, fs.ErrNotExist)
	}
	unlock, err := s.lock(name, unix.LOCK_EX)
	if err != nil {
		return err
	}
	defer unlock()
	// It loses its name first: an interrupted removal leaves nothing that looks whole.
	doomed := filepath.Join(s.dir, savingPrefix+name)
	if err := os.RemoveAll(doomed); err != nil {
		return fmt.Errorf("remove snapshot %s: %w", name, err)
	}
	if err := os.Rename(filepath.Join(s.dir, name), doomed); err != nil {
		return fmt.Errorf("remove snapshot %s: %w", name, err)
	}
	if err := os.RemoveAll(doomed); err != nil {
		return fmt.Errorf("remove snapshot %s: %w", name, err)
	}
	return nil
}

// Prune removes damaged sets and the ready ones that were used least recently,
// until at most keepReady of those are left; with all also those that users
// named. Sets in use are left alone. It returns what was removed.
func (s *Store) Prune(keepReady int, all bool) ([]Info, error) {
	sets, err := s.List()
	if err != nil {
		return nil, err
	}
	var removed []Info
	var problems *multierror.Error
	for _, set := range sets {
		ready := strings.HasPrefix(set.Name, ReadyPrefix)
		keep := !ready && !all
		if set.Problem != "" {
			keep = false
		} else if ready && keepReady > 0 {
			keepReady--
			keep = true
		}
		if keep || set.InUse {
			continue
		}
		err := s.Remove(set.Name)
		var busy *BusyError
		switch {
		case err == nil:
			removed = append(removed, set)
		case !errors.As(err, &busy):
			problems = multierror.Append(problems, err)
		}
	}
	return removed, problems.ErrorOrNil()
}

// onDisk is what a directory's files occupy, in bytes; holes do not count.
func onDisk(dir string) int64 {
	var sum int64
	_ = filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		var st unix.Stat_t
		if err == nil && unix.Lstat(path, &st) == nil { // a figure for people: what cannot be read counts nothing
			sum += st.Blocks * 512
		}
		return nil
	})
	return sum
}

// Compare says whether a file of the set, as it was read, is what was saved.
func (s *Snapshot) Compare(want, got File) error {
	if want.Size != got.Size || want.Digest != got.Digest {
		return &DamagedError{s.Name, want.Name + " does not hold what was saved"}
	}
	return nil
}

// Verify reads a file of the set and says whether it is what was saved.
func (s *Snapshot) Verify(ctx context.Context, name string) error {
	want, err := s.File(name)
	if err != nil {
		return err
	}
	got, err := Describe(ctx, s.Path(name))
	if err != nil {
		return err
	}
	return s.Compare(want, got)
}
