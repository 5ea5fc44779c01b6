package image

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/hiveproof/hiveproof/provision/child"
	"github.com/hiveproof/hiveproof/provision/software"
	"golang.org/x/sys/unix"
)

// SealInput is what a Sealer works on.
type SealInput struct {
	Kernel, Initrd string
	Disk           string // qcow2, to be written to
	Archive        string // docker-load archive
	Helper         bool   // the archive's image is the agent's, which is also the hosts' helper
	Dir            string // for whatever else the sealer needs; removed afterwards
}

// Sealer boots the disk once, loads the archive into its engine, shuts it down
// cleanly and returns the versions of what is on it. It is the provider's part
// of an image: only a provider can boot.
type Sealer func(ctx context.Context, in SealInput, progress func(string)) (versions map[string]string, err error)

// MissingProgramError says that an external program is not installed.
type MissingProgramError struct {
	Program, Package string
}

func (e *MissingProgramError) Error() string {
	return fmt.Sprintf("%s is not installed: apt-get install %s", e.Program, e.Package)
}

// Programs are the external programs that building needs, and their Debian packages.
var Programs = map[string]string{
	"mmdebstrap": "mmdebstrap",
	"mke2fs":     "e2fsprogs",
	"qemu-img":   "qemu-utils",
	"tar":        "tar",
	"unshare":    "util-linux",
}

// MinFreeBytes is the space a build takes at its height: packages, tar, tree and disk.
const MinFreeBytes = 4 << 30

var mke2fsOptions = []string{"-q", "-t", "ext4", "-E", "lazy_itable_init=1,lazy_journal_init=1,root_owner=0:0"}

// Ensure returns the image of a spec, building what of it is not in the cache.
// An interrupted or failed build leaves nothing that looks finished. Progress is
// called with short sentences, from one goroutine at a time.
func (s *Store) Ensure(ctx context.Context, spec Spec, seal Sealer, progress func(string)) (*Image, error) {
	if err := spec.Check(); err != nil {
		return nil, err
	}
	img, err := s.Lookup(spec)
	if err == nil || !errors.Is(err, fs.ErrNotExist) {
		return img, err
	}
	for program, pkg := range Programs {
		if _, err := exec.LookPath(program); err != nil {
			return nil, &MissingProgramError{Program: program, Package: pkg}
		}
	}
	baseKey, err := spec.BaseKey()
	if err != nil {
		return nil, err
	}
	key, err := spec.Key()
	if err != nil {
		return nil, err
	}
	softwareKey, err := spec.SoftwareKey()
	if err != nil {
		return nil, err
	}
	base := Manifest{Key: baseKey, Kind: "base", Release: spec.Release}
	err = s.build(ctx, base, progress, func(dir string, m *Manifest) error { return s.buildBase(ctx, spec, dir, progress) })
	if err != nil {
		return nil, fmt.Errorf("build the base image: %w", err)
	}
	below := Manifest{Key: softwareKey, Kind: "software", BaseKey: baseKey, Release: spec.Release}
	err = s.build(ctx, below, progress, func(dir string, m *Manifest) error {
		archive := filepath.Join(dir, "images.tar")
		if err := buildSoftware(ctx, spec, dir, archive, m, progress); err != nil {
			return err
		}
		err := s.buildLayer(ctx, baseKey, filepath.Join("..", "base-"+baseKey, "disk.raw"), "raw", dir, m, seal, SealInput{Archive: archive}, progress)
		return errors.Join(err, os.Remove(archive))
	})
	if err != nil {
		return nil, fmt.Errorf("build the software's images: %w", err)
	}
	node := Manifest{Key: key, Kind: "node", BaseKey: baseKey, SoftwareKey: softwareKey, Release: spec.Release}
	err = s.build(ctx, node, progress, func(dir string, m *Manifest) error {
		return s.buildLayer(ctx, baseKey, filepath.Join("..", "software-"+softwareKey, "disk.qcow2"), "qcow2", dir, m, seal,
			SealInput{Archive: spec.AgentArchive, Helper: true}, progress)
	})
	if err != nil {
		return nil, fmt.Errorf("build the node image: %w", err)
	}
	return s.Lookup(spec)
}

// build makes one layer in a directory of its own and moves it into place when
// it is complete, unless it is there already.
func (s *Store) build(ctx context.Context, m Manifest, progress func(string), fill func(dir string, m *Manifest) error) error {
	name := m.Kind + "-" + m.Key
	unlock, err := s.lock(ctx, name, progress)
	if err != nil {
		return err
	}
	defer unlock()
	if _, err := s.usable(m.Kind, m.Key); err == nil || !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := s.removeLeftovers(name); err != nil {
		return err
	}
	if _, err := s.load(m.Kind, m.Key); err == nil {
		progress("it was made on another build of the layer below: making it anew")
		if err := s.removeFinished(name); err != nil {
			return err
		}
	}
	if m.Below, err = s.buildBelow(&m); err != nil {
		return err
	}
	if err := s.checkSpace(); err != nil {
		return err
	}
	temp := filepath.Join(s.dir, fmt.Sprintf(".building-%s-%d", name, os.Getpid()))
	if err := os.Mkdir(temp, 0o755); err != nil {
		return fmt.Errorf("make the build directory: %w", err)
	}
	started := time.Now()
	if err := fill(temp, &m); err != nil {
		return errors.Join(err, removeTree(temp))
	}
	m.Created, m.BuildS = time.Now().UTC(), time.Since(started).Seconds()
	if err := finish(temp, s.layerDir(m.Kind, m.Key), m); err != nil {
		return errors.Join(err, removeTree(temp))
	}
	return nil
}

// finish flushes a layer to the disk and gives it its name.
func finish(temp, final string, m Manifest) error {
	text, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return fmt.Errorf("write the manifest: %w", err)
	}
	if err := os.WriteFile(filepath.Join(temp, manifestFile), text, 0o644); err != nil {
		return fmt.Errorf("write the manifest: %w", err)
	}
	dir, err := os.Open(temp)
	if err != nil {
		return fmt.Errorf("finish the image: %w", err)
	}
	defer dir.Close()
	// One call for all of the layer's files, instead of one fsync each.
	if err := unix.Syncfs(int(dir.Fd())); err != nil {
		return fmt.Errorf("flush the image to the disk: %w", err)
	}
	if err := os.Rename(temp, final); err != nil {
		return fmt.Errorf("finish the image: %w", err)
	}
	return nil
}

func (s *Store) checkSpace() error {
	free, err := FreeBytes(s.dir)
	if err != nil {
		return err
	}
	if free < MinFreeBytes {
		return fmt.Errorf("%.1f GiB free in %s, building an image takes %d: make room (hiveproof image prune) or choose another place with --cache-dir",
			float64(free)/(1<<30), s.dir, MinFreeBytes>>30)
	}
	return nil
}

// FreeBytes is the space that is free to this user where path is.
func FreeBytes(path string) (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return 0, fmt.Errorf("free space in %s: %w", path, err)
	}
	return int64(st.Bavail) * st.Bsize, nil
}

func (s *Store) buildBase(ctx context.Context, spec Spec, dir string, progress func(string)) error {
	guest := filepath.Join(dir, "guest")
	if err := writeGuestFiles(guest); err != nil {
		return err
	}
	if err := bootstrap(ctx, spec, dir, spec.packages(), filepath.Join(guest, "customize.sh"), filepath.Join(dir, "root.tar"), progress); err != nil {
		return err
	}

	progress("making the disk")
	root := filepath.Join(dir, "root")
	script := `set -eu
mkdir "$1/root"
tar -xf "$1/root.tar" -C "$1/root" --exclude='./dev/*'
cp "$1/root/boot/hiveproof-kernel" "$1/kernel"
cp "$1/root/boot/hiveproof-initrd" "$1/initrd"
rm -rf "$1/root/boot"/* "$1/root.tar"
truncate -s "$2" "$1/disk.raw"
shift 2
mke2fs "$@"
chmod 0644 "$0/kernel" "$0/initrd" "$0/disk.raw"
rm -rf "$0/root" "$0/guest"`
	program, args := "sh", append([]string{"-c", script, dir, dir, strconv.Itoa(DiskGiB) + "G"}, mke2fsOptions...)
	args = append(args, "-d", root, filepath.Join(dir, "disk.raw"))
	if os.Getuid() != 0 {
		// The tree belongs to many users: without root, inside a user namespace.
		program, args = "unshare", append([]string{"--map-root-user", "--map-auto", "--", "sh"}, args...)
	}
	return child.Run(ctx, nil, nil, program, args...)
}

// bootstrap makes the tar of a Debian root file system; what it needs meanwhile is below dir.
func bootstrap(ctx context.Context, spec Spec, dir string, packages []string, hook, tar string, progress func(string), more ...string) error {
	say := func(line string) {
		if text, ok := strings.CutPrefix(line, "I: "); ok {
			progress(text)
		}
	}
	// Its temporary root is made below our own directory, so that it goes with it.
	env := []string{"TMPDIR=" + dir, "LC_ALL=C", "DEBIAN_FRONTEND=noninteractive"}
	run := child.Run
	if os.Getuid() != 0 {
		if err := reachable(dir); err != nil {
			return err
		}
	} else {
		// As root it mounts /proc and others below its tree, and its helpers would
		// outlive it; without root it makes namespaces of its own.
		run = child.RunIsolated
	}
	args := append([]string{"--variant=minbase", "--architectures=amd64", "--include=" + strings.Join(packages, ","), "--customize-hook=" + hook}, more...)
	return run(ctx, say, env, "mmdebstrap", append(args, spec.Release, tar, spec.Mirror)...)
}

// buildSoftware makes the archive of the real software's images and enters their versions.
func buildSoftware(ctx context.Context, spec Spec, dir, archive string, m *Manifest, progress func(string)) error {
	files := filepath.Join(dir, "files")
	if err := os.Mkdir(files, 0o755); err != nil {
		return fmt.Errorf("make the software's directory: %w", err)
	}
	hook, err := software.WriteFiles(files)
	if err != nil {
		return err
	}
	tar := filepath.Join(dir, "root.tar")
	// The engine gives each container its own devices.
	if err := bootstrap(ctx, spec, dir, software.Packages, hook, tar, progress, "--skip=output/dev"); err != nil {
		return err
	}
	if m.Software, err = software.Versions(tar); err != nil {
		return err
	}
	progress("making the software's images")
	if err := software.Write(tar, archive); err != nil {
		return err
	}
	return errors.Join(os.Remove(tar), os.RemoveAll(files))
}

// reachable says whether the user namespace that builds the image without root
// can get to dir: its root is one of the user's subordinate IDs (subuid(5)), to
// which a private directory on the way is closed.
func reachable(dir string) error {
	for at := dir; at != "/"; at = filepath.Dir(at) {
		st, err := os.Stat(at)
		if err != nil {
			return fmt.Errorf("look at the way to the image cache: %w", err)
		}
		if st.Mode()&0o001 == 0 {
			return fmt.Errorf("%s is closed to other users, and so to the user namespace that builds the image without root: chmod o+x %s, or choose another place with --cache-dir", at, at)
		}
	}
	return nil
}

func writeGuestFiles(dir string) error {
	if err := os.Mkdir(dir, 0o755); err != nil {
		return fmt.Errorf("write the guest's files: %w", err)
	}
	entries, err := guestFiles.ReadDir("guest")
	if err != nil {
		return fmt.Errorf("write the guest's files: %w", err)
	}
	for _, e := range entries {
		text, err := guestFiles.ReadFile("guest/" + e.Name())
		if err != nil {
			return fmt.Errorf("write the guest's files: %w", err)
		}
		if err := os.WriteFile(filepath.Join(dir, e.Name()), text, 0o755); err != nil {
			return fmt.Errorf("write the guest's files: %w", err)
		}
	}
	return nil
}

// buildLayer makes a disk over another one and seals it: it is booted once, and
// its own engine loads an archive.
func (s *Store) buildLayer(ctx context.Context, baseKey, backing, format, dir string, m *Manifest, seal Sealer, in SealInput, progress func(string)) error {
	base := s.layerDir("base", baseKey)
	in.Kernel, in.Initrd = filepath.Join(base, "kernel"), filepath.Join(base, "initrd")
	in.Disk, in.Dir = filepath.Join(dir, "disk.qcow2"), filepath.Join(dir, "scratch")
	// The backing file's name is relative, so that the cache may be moved as a whole; all layers are siblings.
	if err := child.Run(ctx, nil, nil, "qemu-img", "create", "-q", "-f", "qcow2", "-b", backing, "-F", format, in.Disk); err != nil {
		return err
	}
	if err := os.Mkdir(in.Dir, 0o700); err != nil {
		return fmt.Errorf("make the sealer's directory: %w", err)
	}
	versions, err := seal(ctx, in, progress)
	if err != nil {
		return fmt.Errorf("seal: %w", err)
	}
	m.Content = versions
	if err := os.RemoveAll(in.Dir); err != nil {
		return fmt.Errorf("remove the sealer's directory: %w", err)
	}
	return nil
}
