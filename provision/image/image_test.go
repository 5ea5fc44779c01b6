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

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/hiveproof/hiveproof/provision/software"
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

// layersOf names the layers of a spec, from the bottom.
func layersOf(t *testing.T, s Spec) []string {
	t.Helper()
	return []string{"base-" + baseKey(t, s), "software-" + softwareKey(t, s), "node-" + key(t, s)}
}

func TestKey(t *testing.T) {
	s := testSpec
	s.Mirror, s.AgentArchive = "https://mirror.example/debian", "/elsewhere/agent.tar"
	if !slices.Equal(layersOf(t, s), layersOf(t, testSpec)) {
		t.Error("the key depends on where things come from")
	}
	s = testSpec
	s.AgentDigest = "d2"
	if key(t, s) == key(t, testSpec) || softwareKey(t, s) != softwareKey(t, testSpec) || baseKey(t, s) != baseKey(t, testSpec) {
		t.Error("another agent must give another node layer on the same two")
	}
	s = testSpec
	s.Release = "forky"
	if key(t, s) == key(t, testSpec) || softwareKey(t, s) == softwareKey(t, testSpec) || baseKey(t, s) == baseKey(t, testSpec) {
		t.Error("another release has a key of the same")
	}
	saved, savedSoftware := packages, software.Packages
	defer func() { packages, software.Packages = saved, savedSoftware }()
	before := layersOf(t, testSpec)
	software.Packages = append(slices.Clone(software.Packages), "hello")
	if after := layersOf(t, testSpec); after[0] != before[0] || after[1] == before[1] || after[2] == before[2] {
		t.Error("another package of the software must change its layer and what is on it, and nothing below")
	}
	packages, software.Packages = append(slices.Clone(packages), "hello"), savedSoftware
	if after := layersOf(t, testSpec); after[0] == before[0] || after[1] == before[1] || after[2] == before[2] {
		t.Error("another package of the base must change all layers")
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
tar= previous=
for last; do
	case $last in --customize-hook="$TMPDIR"/*) test -x "${last#*=}" ;; esac
	tar=$previous; previous=$last
done
test "$last" = http://deb.debian.org/debian
mkdir -p "$TMPDIR/t/boot" "$TMPDIR/t/etc" "$TMPDIR/t/dev"
echo kernel > "$TMPDIR/t/boot/hiveproof-kernel"
echo initrd > "$TMPDIR/t/boot/hiveproof-initrd"
echo debian > "$TMPDIR/t/etc/issue"
mkdir -p "$TMPDIR/t/usr/lib/hiveproof"
echo 'pdns-server 4.9' > "$TMPDIR/t/usr/lib/hiveproof/versions"
touch "$TMPDIR/t/dev/null"
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
	content := map[string]string{"docker.io": "26.1.5"}
	if in.Helper {
		if in.Archive != testSpec.AgentArchive {
			return nil, fmt.Errorf("archive %s is not the agent's", in.Archive)
		}
	} else {
		content = nil
		for _, i := range software.Images() {
			tag, err := name.NewTag(i.Tag)
			if err != nil {
				return nil, err
			}
			if _, err := tarball.ImageFromPath(in.Archive, &tag); err != nil {
				return nil, fmt.Errorf("archive %s: %s: %w", in.Archive, i.Tag, err)
			}
		}
	}
	return content, os.WriteFile(filepath.Join(in.Dir, "console.log"), nil, 0o600)
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
	want = slices.Sorted(slices.Values(want))
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
	var sealed []SealInput
	img, err := s.Ensure(t.Context(), testSpec, func(ctx context.Context, in SealInput, progress func(string)) (map[string]string, error) {
		sealed = append(sealed, in)
		return seal(ctx, in, progress)
	}, func(text string) { said = append(said, text) })
	if err != nil {
		t.Fatal(err)
	}
	if m, err := s.load("software", softwareKey(t, testSpec)); err != nil || m.Software["pdns-server"] != "4.9" {
		t.Errorf("software layer %+v, %v", m, err)
	}
	if img.Key != key(t, testSpec) || img.Kind != "node" || img.Release != "trixie" || img.Content["docker.io"] != "26.1.5" || img.Created.IsZero() {
		t.Errorf("manifest %+v", img.Manifest)
	}
	if len(sealed) != 2 || sealed[0].Helper || sealed[0].Archive == testSpec.AgentArchive || !sealed[1].Helper || sealed[1].Archive != testSpec.AgentArchive {
		t.Errorf("sealed %+v, want the software and then the agent, which is the helper", sealed)
	}
	layers := layersOf(t, testSpec)
	for path, want := range map[string]string{img.Kernel: "kernel\n", img.Initrd: "initrd\n", img.Disk: "qcow2\n",
		filepath.Join(filepath.Dir(img.Kernel), "disk.raw"): "ext4\n"} {
		if got, err := os.ReadFile(path); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v", path, got, err)
		}
	}
	for _, layer := range layers {
		dir := filepath.Join(s.Dir(), layer)
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
	wantLayers(t, s, layers...)
	if want := []string{"installing packages", "making the disk", "installing packages", "making the software's images", "sealing", "sealing"}; !slices.Equal(said, want) {
		t.Errorf("progress %q, want %q", said, want)
	}
	first := calls()
	// The words that each call must have; backing files are relative.
	want := [][]string{
		{"mmdebstrap ", "--include=" + strings.Join(packages, ",") + " ", " trixie "},
		{"mke2fs "},
		{"mmdebstrap ", "--include=" + strings.Join(software.Packages, ",") + " ", " trixie "},
		{"qemu-img create ", "-b ../" + layers[0] + "/disk.raw -F raw "},
		{"qemu-img create ", "-b ../" + layers[1] + "/disk.qcow2 -F qcow2 "},
	}
	first = slices.DeleteFunc(first, func(c string) bool { return strings.HasPrefix(c, "unshare ") })
	if len(first) != len(want) {
		t.Fatalf("calls %q", first)
	}
	for i, words := range want {
		for _, word := range words {
			if !strings.Contains(first[i], word) {
				t.Errorf("call %d, %q, lacks %q", i, first[i], word)
			}
		}
	}

	found, err := s.Lookup(testSpec)
	if err != nil || found.Disk != img.Disk {
		t.Errorf("look-up: %v, %v", found, err)
	}
	before := len(calls())
	if again := ensure(t, s, testSpec); again.Disk != img.Disk || len(calls()) != before {
		t.Errorf("a finished image was built again: %q", calls()[before:])
	}
	other := testSpec
	other.AgentDigest = "d2"
	ensure(t, s, other)
	if more := calls()[before:]; len(more) != 1 || !strings.Contains(more[0], "-b ../"+layers[1]+"/disk.qcow2 ") {
		t.Errorf("another agent: %q, want only a new node layer on the same software", more)
	}
	wantLayers(t, s, append(layers, "node-"+key(t, other))...)
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

func TestFailingSealerKeepsWhatIsBelow(t *testing.T) {
	s, calls := builder(t)
	broken := errors.New("the guest did not boot")
	for i, helper := range []bool{false, true} {
		_, err := s.Ensure(t.Context(), testSpec, func(ctx context.Context, in SealInput, progress func(string)) (map[string]string, error) {
			if in.Helper == helper {
				return nil, broken
			}
			return seal(ctx, in, progress)
		}, func(string) {})
		if !errors.Is(err, broken) {
			t.Errorf("%v, want the sealer's error", err)
		}
		wantLayers(t, s, layersOf(t, testSpec)[:1+i]...)
		if _, err := s.Lookup(testSpec); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("look-up of half an image: %v", err)
		}
	}
	before := len(calls())
	ensure(t, s, testSpec)
	if more := calls()[before:]; len(more) != 1 || !strings.HasPrefix(more[0], "qemu-img ") {
		t.Errorf("last try: %q, want the layers below kept", more)
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
	for _, layer := range layersOf(t, testSpec) {
		leftover(t, s, layer)
	}
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
