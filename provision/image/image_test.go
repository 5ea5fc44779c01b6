package image

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

var testSpec = Spec{Release: "trixie", Mirror: DefaultMirror, AgentArchive: "/agent.tar", AgentDigest: "d1"}

func key(t *testing.T, s Spec) string {
	t.Helper()
	k, err := s.Key()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func baseKey(t *testing.T, s Spec) string {
	t.Helper()
	k, err := s.BaseKey()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func softwareKey(t *testing.T, s Spec) string {
	t.Helper()
	k, err := s.SoftwareKey()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// layersOf are the names of a spec's layers.
func layersOf(t *testing.T, s Spec) []string {
	t.Helper()
	return []string{"base-" + baseKey(t, s), "software-" + softwareKey(t, s), "node-" + key(t, s)}
}

func TestKey(t *testing.T) {
	s := testSpec
	s.Mirror, s.AgentArchive = "https://mirror.example/debian", "/elsewhere/agent.tar"
	if key(t, s) != key(t, testSpec) || baseKey(t, s) != baseKey(t, testSpec) {
		t.Error("the key depends on where things come from")
	}
	s = testSpec
	s.AgentDigest = "d2"
	if key(t, s) == key(t, testSpec) || baseKey(t, s) != baseKey(t, testSpec) || softwareKey(t, s) != softwareKey(t, testSpec) {
		t.Error("another agent must give another node layer on the same software and base")
	}
	s = testSpec
	s.Release = "forky"
	if key(t, s) == key(t, testSpec) || baseKey(t, s) == baseKey(t, testSpec) || softwareKey(t, s) == softwareKey(t, testSpec) {
		t.Error("another release has the same key")
	}
	saved := packages
	defer func() { packages = saved }()
	before := baseKey(t, testSpec)
	packages = append(slices.Clone(packages), "hello")
	if baseKey(t, testSpec) == before {
		t.Error("another package does not change the key")
	}
}

func TestPackagesOfARelease(t *testing.T) {
	old, recent := Spec{Release: "bookworm"}.packages(), Spec{Release: "trixie"}.packages()
	if slices.Contains(old, "docker-cli") || !slices.Contains(recent, "docker-cli") || !slices.Contains(packages, "docker-cli") {
		t.Errorf("bookworm: %v; trixie: %v", old, recent)
	}
}

func TestCheck(t *testing.T) {
	if err := testSpec.Check(); err != nil {
		t.Error(err)
	}
	for _, s := range []Spec{
		{Release: "", Mirror: DefaultMirror},
		{Release: "--help", Mirror: DefaultMirror},
		{Release: "../etc", Mirror: DefaultMirror},
		{Release: "trixie sid", Mirror: DefaultMirror},
		{Release: "trixie", Mirror: ""},
		{Release: "trixie", Mirror: "deb.debian.org"},
		{Release: "trixie", Mirror: "file:///etc"},
		{Release: "trixie", Mirror: "--setup-hook=reboot"},
	} {
		if err := s.Check(); err == nil {
			t.Errorf("%+v is accepted", s)
		}
		store, _ := builder(t)
		if _, err := store.Ensure(t.Context(), s, nil, func(string) {}); err == nil {
			t.Errorf("%+v is built", s)
		}
	}
}

// fakes are programs that write down how they were called and make something
// like what the real ones make.
var fakes = map[string]string{
	"mmdebstrap": `printf 'I: installing packages\nI am not progress\n'
case " $* " in
*pdns-server*) test -x "$TMPDIR/files/customize.sh" ;;
*) test -x "$TMPDIR/guest/customize.sh" ;;
esac
tar= previous=
for last; do tar=$previous; previous=$last; done
test "$last" = http://deb.debian.org/debian
mkdir -p "$TMPDIR/t/boot" "$TMPDIR/t/etc" "$TMPDIR/t/dev"
echo kernel > "$TMPDIR/t/boot/hiveproof-kernel"
echo initrd > "$TMPDIR/t/boot/hiveproof-initrd"
echo debian > "$TMPDIR/t/etc/issue"
touch "$TMPDIR/t/dev/null"
mkdir -p "$TMPDIR/t/usr/lib/hiveproof"
echo 'pdns-server 4.9' > "$TMPDIR/t/usr/lib/hiveproof/versions"
tar -C "$TMPDIR/t" -cf "$tar" .
rm -r "$TMPDIR/t"`,
	"mke2fs": `while [ "$1" != -d ]; do shift; done
test -e "$2/etc/issue" && test ! -e "$2/boot/hiveproof-kernel" && test ! -e "$2/dev/null"
test -s "$3" && echo ext4 > "$3"`,
	"qemu-img": `for last; do :; done
echo qcow2 > "$last"`,
	// Used only without root; needs no sub-UIDs.
	"unshare": `while [ "$1" != -- ]; do shift; done; shift
exec "$@"`,
}

// builder returns an empty store, and the calls of fake programs so far.
func builder(t *testing.T) (s *Store, calls func() []string) {
	t.Helper()
	s, err := OpenStore(filepath.Join(t.TempDir(), "cache"))
	if err != nil {
		t.Fatal(err)
	}
	if free, err := FreeBytes(s.Dir()); err != nil || free < MinFreeBytes {
		t.Skipf("%d bytes free, %v", free, err)
	}
	bin, log := t.TempDir(), filepath.Join(t.TempDir(), "log")
	t.Setenv("FAKE_LOG", log)
	t.Setenv("FAKE_BIN", bin)
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	for program, script := range fakes {
		fake(t, program, script)
	}
	return s, func() []string {
		text, err := os.ReadFile(log)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
		return strings.Split(strings.TrimSpace(string(text)), "\n")
	}
}

// fake replaces a program, after builder.
func fake(t *testing.T, program, script string) {
	t.Helper()
	text := "#!/bin/sh\nset -eu\necho \"${0##*/} $*\" >> \"$FAKE_LOG\"\n" + script + "\n"
	if err := os.WriteFile(filepath.Join(os.Getenv("FAKE_BIN"), program), []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
}

func seal(_ context.Context, in SealInput, progress func(string)) (map[string]string, error) {
	progress("sealing")
	for path, want := range map[string]string{in.Kernel: "kernel\n", in.Initrd: "initrd\n", in.Disk: "qcow2\n"} {
		if got, err := os.ReadFile(path); err != nil || string(got) != want {
			return nil, fmt.Errorf("%s: %q, %v", path, got, err)
		}
	}
	if in.Helper != (in.Archive == testSpec.AgentArchive) {
		return nil, fmt.Errorf("archive %s, helper %v", in.Archive, in.Helper)
	}
	if !in.Helper {
		if st, err := os.Stat(in.Archive); err != nil || st.Size() == 0 {
			return nil, fmt.Errorf("archive %s: %v", in.Archive, err)
		}
	}
	return map[string]string{"docker.io": "26.1.5"}, os.WriteFile(filepath.Join(in.Dir, "console.log"), nil, 0o600)
}

func ensure(t *testing.T, s *Store, spec Spec) *Image {
	t.Helper()
	img, err := s.Ensure(t.Context(), spec, seal, func(string) {})
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// wantLayers says which layers there must be, and no unfinished ones.
func wantLayers(t *testing.T, s *Store, want ...string) {
	t.Helper()
	all, err := s.List()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, m := range all {
		got = append(got, m.Kind+"-"+m.Key)
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("layers %v, want %v", got, want)
	}
	entries, err := os.ReadDir(s.Dir())
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.IsDir() && !slices.Contains(want, e.Name()) {
			t.Errorf("%s is left behind", e.Name())
		}
	}
}

func TestEnsure(t *testing.T) {
	s, calls := builder(t)
	if _, err := s.Lookup(testSpec); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("empty cache: %v", err)
	}
	var said []string
	img, err := s.Ensure(t.Context(), testSpec, seal, func(text string) { said = append(said, text) })
	if err != nil {
		t.Fatal(err)
	}
	if img.Key != key(t, testSpec) || img.Kind != "node" || img.Release != "trixie" || img.Content["docker.io"] != "26.1.5" || img.Created.IsZero() {
		t.Errorf("manifest %+v", img.Manifest)
	}
	for path, want := range map[string]string{img.Kernel: "kernel\n", img.Initrd: "initrd\n", img.Disk: "qcow2\n",
		filepath.Join(filepath.Dir(img.Kernel), "disk.raw"): "ext4\n"} {
		if got, err := os.ReadFile(path); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v", path, got, err)
		}
	}
	for _, dir := range []string{filepath.Dir(img.Kernel), filepath.Dir(img.Disk)} {
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if e.IsDir() || strings.HasSuffix(e.Name(), ".tar") {
				t.Errorf("%s is left in %s", e.Name(), dir)
			}
		}
	}
	wantLayers(t, s, layersOf(t, testSpec)...)
	if m, err := s.load("software", softwareKey(t, testSpec)); err != nil || m.Software["pdns-server"] != "4.9" {
		t.Errorf("software layer %+v, %v", m, err)
	}
	if want := []string{"installing packages", "making the disk", "installing packages", "making the software's images", "sealing", "sealing"}; !slices.Equal(said, want) {
		t.Errorf("progress %q, want %q", said, want)
	}
	first := calls()
	for _, want := range []string{"--include=" + strings.Join(packages, ","), " trixie "} {
		if !strings.Contains(first[0], want) {
			t.Errorf("%q lacks %q", first[0], want)
		}
	}
	for i, want := range map[int]string{2: "-b ../base-" + baseKey(t, testSpec) + "/disk.raw -F raw ", 1: "-b ../software-" + softwareKey(t, testSpec) + "/disk.qcow2 -F qcow2 "} {
		created := slices.DeleteFunc(slices.Clone(first), func(c string) bool { return !strings.HasPrefix(c, "qemu-img ") })
		if got := created[len(created)-i]; !strings.Contains(got, want) {
			t.Errorf("%q lacks %q: backing files are relative", got, want)
		}
	}

	found, err := s.Lookup(testSpec)
	if err != nil || found.Disk != img.Disk {
		t.Errorf("look-up: %v, %v", found, err)
	}
	if again := ensure(t, s, testSpec); again.Disk != img.Disk || len(calls()) != len(first) {
		t.Errorf("a finished image was built again: %q", calls()[len(first):])
	}
	other := testSpec
	other.AgentDigest = "d2"
	ensure(t, s, other)
	if more := calls()[len(first):]; len(more) != 1 || !strings.HasPrefix(more[0], "qemu-img ") {
		t.Errorf("another agent: %q, want only a new node layer", more)
	}
}

func TestFailingBuild(t *testing.T) {
	s, calls := builder(t)
	fake(t, "mmdebstrap", `touch "$TMPDIR/partial"; seq 100; echo "E: Unable to locate package drbd-utils" >&2; exit 25`)
	_, err := s.Ensure(t.Context(), testSpec, seal, func(string) {})
	if err == nil || !strings.Contains(err.Error(), "E: Unable to locate package drbd-utils") || strings.Contains(err.Error(), "\n  2\n") {
		t.Errorf("%v: want the last lines of what it printed", err)
	}
	if slices.ContainsFunc(calls(), func(c string) bool { return strings.HasPrefix(c, "mke2fs ") || strings.HasPrefix(c, "qemu-img ") }) {
		t.Errorf("went on: %q", calls())
	}
	wantLayers(t, s)
	if _, err := s.Lookup(testSpec); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("look-up: %v", err)
	}
	for _, program := range []string{"mke2fs", "qemu-img"} {
		fake(t, "mmdebstrap", fakes["mmdebstrap"])
		fake(t, program, "echo no >&2; exit 1")
		if _, err := s.Ensure(t.Context(), testSpec, seal, func(string) {}); err == nil {
			t.Errorf("%s failed, and nobody noticed", program)
		}
		if _, err := s.Lookup(testSpec); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: look-up: %v", program, err)
		}
		fake(t, program, fakes[program])
	}
	ensure(t, s, testSpec)
}

func TestCancelledBuild(t *testing.T) {
	s, _ := builder(t)
	cause := errors.New("the user pressed Ctrl-C")
	fake(t, "mmdebstrap", `touch "$TMPDIR/partial"; echo "I: downloading"; exec sleep 600`)
	ctx, cancel := context.WithCancelCause(t.Context())
	_, err := s.Ensure(ctx, testSpec, seal, func(string) { cancel(cause) })
	if !errors.Is(err, cause) {
		t.Errorf("%v, want the cause", err)
	}
	wantLayers(t, s)

	fake(t, "mmdebstrap", fakes["mmdebstrap"])
	ctx, cancel = context.WithCancelCause(t.Context())
	_, err = s.Ensure(ctx, testSpec, func(ctx context.Context, _ SealInput, _ func(string)) (map[string]string, error) {
		cancel(cause)
		<-ctx.Done()
		return nil, context.Cause(ctx)
	}, func(string) {})
	if !errors.Is(err, cause) {
		t.Errorf("%v, want the cause", err)
	}
	wantLayers(t, s, "base-"+baseKey(t, testSpec))
}

func TestFailingSealerKeepsTheBase(t *testing.T) {
	s, calls := builder(t)
	broken := errors.New("the guest did not boot")
	_, err := s.Ensure(t.Context(), testSpec, func(context.Context, SealInput, func(string)) (map[string]string, error) { return nil, broken }, func(string) {})
	if !errors.Is(err, broken) {
		t.Errorf("%v, want the sealer's error", err)
	}
	wantLayers(t, s, "base-"+baseKey(t, testSpec))
	before := len(calls())
	_, err = s.Ensure(t.Context(), testSpec, func(ctx context.Context, in SealInput, progress func(string)) (map[string]string, error) {
		if in.Helper {
			return nil, broken
		}
		return seal(ctx, in, progress)
	}, func(string) {})
	more := slices.DeleteFunc(calls()[before:], func(c string) bool { return strings.HasPrefix(c, "unshare ") }) // only root has it
	if !errors.Is(err, broken) || len(more) != 3 || !strings.Contains(more[0], "pdns-server") {
		t.Errorf("second try: %q, %v, want the base kept", more, err)
	}
	wantLayers(t, s, layersOf(t, testSpec)[:2]...)
	before = len(calls())
	ensure(t, s, testSpec)
	if more := calls()[before:]; len(more) != 1 || !strings.HasPrefix(more[0], "qemu-img ") {
		t.Errorf("third try: %q, want the base and the software kept", more)
	}
}

// leftover makes what a killed build leaves.
func leftover(t *testing.T, s *Store, layer string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Join(s.Dir(), ".building-"+layer+"-999999", "root", "dev"), 0o755); err != nil {
		t.Fatal(err)
	}
}

func TestKilledBuildIsTidiedByTheNext(t *testing.T) {
	s, _ := builder(t)
	leftover(t, s, "base-"+baseKey(t, testSpec))
	leftover(t, s, "node-"+key(t, testSpec))
	if all, err := s.List(); err != nil || len(all) != 0 {
		t.Errorf("an unfinished build is listed: %v, %v", all, err)
	}
	ensure(t, s, testSpec)
	wantLayers(t, s, layersOf(t, testSpec)...)
}

func TestMissingProgram(t *testing.T) {
	s, _ := builder(t)
	bin := os.Getenv("FAKE_BIN")
	fake(t, "tar", "")
	for program, pkg := range Programs {
		text, err := os.ReadFile(filepath.Join(bin, program))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(filepath.Join(bin, program)); err != nil {
			t.Fatal(err)
		}
		t.Setenv("PATH", bin)
		_, err = s.Ensure(t.Context(), testSpec, seal, func(string) {})
		var missing *MissingProgramError
		if !errors.As(err, &missing) || missing.Program != program || !strings.Contains(err.Error(), "apt-get install "+pkg) {
			t.Errorf("%s: %v", program, err)
		}
		if err := os.WriteFile(filepath.Join(bin, program), text, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	wantLayers(t, s)
}

func TestPrune(t *testing.T) {
	s, _ := builder(t)
	ensure(t, s, testSpec)
	agent, release := testSpec, testSpec
	agent.AgentDigest, release.Release = "d2", "forky"
	ensure(t, s, agent)
	ensure(t, s, release)
	leftover(t, s, "base-0123456789abcdef")
	leftover(t, s, "node-"+key(t, testSpec))

	held, ok, err := s.tryLock("node-" + key(t, release))
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	removed, err := s.Prune(&testSpec)
	held()
	if err != nil || len(removed) != 1 || removed[0].Key != key(t, agent) || removed[0].BytesOnDisk == 0 {
		t.Errorf("removed %v, %v", removed, err)
	}
	wantLayers(t, s, append(layersOf(t, testSpec), layersOf(t, release)...)...)
	if _, err := s.Lookup(testSpec); err != nil {
		t.Errorf("what was to be kept: %v", err)
	}
	if removed, err := s.Prune(nil); err != nil || len(removed) != 6 {
		t.Errorf("removed %v, %v", removed, err)
	}
	wantLayers(t, s)
	ensure(t, s, testSpec)
}

func TestReachable(t *testing.T) {
	open := t.TempDir()
	// The test's own directories may be private: only what is below counts here.
	private := filepath.Join(open, "private")
	inner := filepath.Join(private, "inner")
	if err := os.MkdirAll(inner, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(private, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := reachable(inner); err == nil || !strings.Contains(err.Error(), "chmod o+x "+private) {
		t.Errorf("got %v, want the private directory named with what to do", err)
	}
}
