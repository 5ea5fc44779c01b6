package agentimage

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/hiveproof/hiveproof/probes/agent"
)

func binary(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "agent")
	if err := os.WriteFile(path, []byte(content), 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

func image(t *testing.T, archive, tag string) v1.Image {
	t.Helper()
	ref, err := name.NewTag(tag)
	if err != nil {
		t.Fatal(err)
	}
	img, err := tarball.ImageFromPath(archive, &ref)
	if err != nil {
		t.Fatalf("%s: %v", tag, err)
	}
	return img
}

func TestReadsBack(t *testing.T) {
	program := strings.Repeat("not really ELF ", 1000)
	archive := filepath.Join(t.TempDir(), "new", "agent.tar")
	if err := Build(binary(t, program), archive); err != nil {
		t.Fatal(err)
	}
	var names, layers []string
	for _, tag := range Tags() {
		names = append(names, tag.Name)
		img := image(t, archive, tag.Name)
		config, err := img.ConfigFile()
		if err != nil {
			t.Fatal(err)
		}
		if got := config.Config.Entrypoint; !slices.Equal(got, []string{Binary}) || config.Config.Cmd != nil {
			t.Errorf("%s: entrypoint %q, command %q: a service's command would not become the arguments", tag.Name, got, config.Config.Cmd)
		}
		if config.OS != "linux" || config.Architecture != "amd64" {
			t.Errorf("%s is for %s/%s", tag.Name, config.OS, config.Architecture)
		}
		checkListens(t, tag, config.Config)
		all, err := img.Layers()
		if err != nil || len(all) != 1 {
			t.Fatalf("%s: %d layers, %v", tag.Name, len(all), err)
		}
		digest, err := all[0].Digest()
		if err != nil {
			t.Fatal(err)
		}
		layers = append(layers, digest.String())
		content, err := all[0].Uncompressed()
		if err != nil {
			t.Fatal(err)
		}
		checkLayer(t, content, program)
		content.Close()
	}
	if want := []string{"hiveproof/agent:dns", "hiveproof/agent:http", "hiveproof/agent:mariadb", "hiveproof/agent:generic"}; !slices.Equal(names, want) {
		t.Errorf("tags %v, want %v", names, want)
	}
	if len(slices.Compact(layers)) != 1 {
		t.Errorf("the images do not share their layer: %v", layers)
	}
	if n := bytes.Count(read(t, archive), []byte(program)); n != 1 {
		t.Errorf("the program is in the archive %d times, want once and as it is", n)
	}
}

// What the configuration says must be what Tags promises, in the agent's own words.
func checkListens(t *testing.T, tag Tag, config v1.Config) {
	t.Helper()
	env := map[string]string{}
	for _, e := range config.Env {
		key, value, _ := strings.Cut(e, "=")
		env[key] = value
	}
	if env["HIVEPROOF_ROLE"] != tag.Role || tag.Role == "" {
		t.Errorf("%s has the role %q, want %q", tag.Name, env["HIVEPROOF_ROLE"], tag.Role)
	}
	if len(tag.Listens) == 0 {
		// A service that forgets the setting must be told, and not serve something else.
		if v, set := env["HIVEPROOF_LISTEN"]; set || len(config.ExposedPorts) > 0 {
			t.Errorf("%s listens on %q and exposes %v, want nothing", tag.Name, v, config.ExposedPorts)
		}
		return
	}
	parsed, err := agent.ParseListens(env["HIVEPROOF_LISTEN"])
	if err != nil {
		t.Fatalf("%s: the agent refuses its own image's setting: %v", tag.Name, err)
	}
	var got []Listen
	exposed := map[string]struct{}{}
	for _, l := range parsed {
		got = append(got, Listen(l))
		exposed[fmt.Sprintf("%d/%s", l.Port, l.Proto)] = struct{}{}
	}
	if !slices.Equal(got, tag.Listens) {
		t.Errorf("%s listens on %v, want %v", tag.Name, got, tag.Listens)
	}
	if fmt.Sprint(config.ExposedPorts) != fmt.Sprint(exposed) {
		t.Errorf("%s exposes %v, want %v", tag.Name, config.ExposedPorts, exposed)
	}
}

func checkLayer(t *testing.T, layer io.Reader, program string) {
	t.Helper()
	files := tar.NewReader(layer)
	header, err := files.Next()
	if err != nil {
		t.Fatal(err)
	}
	if "/"+header.Name != Binary || header.Mode&0o111 != 0o111 {
		t.Errorf("file %s with mode %o", header.Name, header.Mode)
	}
	if content, err := io.ReadAll(files); err != nil || string(content) != program {
		t.Errorf("%d bytes, %v", len(content), err)
	}
	if _, err := files.Next(); err != io.EOF {
		t.Errorf("something follows: %v", err)
	}
}

func TestDeterministic(t *testing.T) {
	dir := t.TempDir()
	from := binary(t, "program")
	var first []byte
	for i := range 20 {
		path := filepath.Join(dir, fmt.Sprint(i))
		if err := Build(from, path); err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			first = read(t, path)
		} else if !bytes.Equal(first, read(t, path)) {
			t.Fatalf("build %d of the same binary differs", i)
		}
	}
	other := filepath.Join(dir, "other")
	if err := Build(binary(t, "another program"), other); err != nil {
		t.Fatal(err)
	}
	if bytes.Equal(first, read(t, other)) {
		t.Error("another binary gives the same archive")
	}
}

func TestDigest(t *testing.T) {
	one, err1 := Digest(binary(t, "program"))
	same, err2 := Digest(binary(t, "program"))
	other, err3 := Digest(binary(t, "another program"))
	if err1 != nil || err2 != nil || err3 != nil {
		t.Fatal(err1, err2, err3)
	}
	if one != same || one == other || len(one) != 64 {
		t.Errorf("digests %s, %s and of another binary %s", one, same, other)
	}
	if _, err := Digest(filepath.Join(t.TempDir(), "missing")); err == nil {
		t.Error("a missing binary has a digest")
	}
}

// What cannot be built leaves nothing that looks like an archive, nor parts of one.
func TestNothingHalfDone(t *testing.T) {
	dir := t.TempDir()
	if err := Build(filepath.Join(dir, "missing"), filepath.Join(dir, "archive")); err == nil {
		t.Error("built from a binary that is not there")
	}
	// A directory in the archive's place makes the very last step fail.
	taken := filepath.Join(dir, "taken")
	if err := os.MkdirAll(filepath.Join(taken, "x"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := Build(binary(t, "program"), taken); err == nil {
		t.Error("replaced a directory")
	}
	left, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(left) != 1 {
		t.Errorf("left behind: %v", left)
	}
}

func TestBuildAtOnce(t *testing.T) {
	from, archive := binary(t, strings.Repeat("program", 10000)), filepath.Join(t.TempDir(), "archive")
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			if err := Build(from, archive); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	image(t, archive, "hiveproof/agent:dns")
	if left, err := os.ReadDir(filepath.Dir(archive)); err != nil || len(left) != 1 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	// The builder of the node image may run as another user.
	if info, err := os.Stat(archive); err != nil || info.Mode().Perm() != 0o644 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}

func TestFindBinary(t *testing.T) {
	path := binary(t, "program")
	t.Setenv("HIVEPROOF_AGENT", path)
	if got, err := FindBinary(); got != path || err != nil {
		t.Errorf("found %q, %v; want %s", got, err, path)
	}
	t.Setenv("HIVEPROOF_AGENT", path+"x")
	if got, err := FindBinary(); err == nil || !strings.Contains(err.Error(), "HIVEPROOF_AGENT") {
		t.Errorf("found %q, %v", got, err)
	}
	t.Setenv("HIVEPROOF_AGENT", "")
	// A test's own program has no agent beside it.
	if got, err := FindBinary(); err == nil || !strings.Contains(err.Error(), "make build") {
		t.Errorf("found %q, %v; want to be told how to build it", got, err)
	}
}
