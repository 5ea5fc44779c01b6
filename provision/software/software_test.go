package software

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// rootTar makes the tar of a root file system with one file, as mmdebstrap does.
func rootTar(t *testing.T) (path string, content []byte) {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	text := []byte("debian\n")
	err := w.WriteHeader(&tar.Header{Name: "./etc/issue", Mode: 0o644, Size: int64(len(text))})
	if err == nil {
		_, err = w.Write(text)
	}
	path = filepath.Join(t.TempDir(), "root.tar")
	if err = errors.Join(err, w.Close(), os.WriteFile(path, b.Bytes(), 0o600)); err != nil {
		t.Fatal(err)
	}
	return path, b.Bytes()
}

func TestWrite(t *testing.T) {
	root, content := rootTar(t)
	archive := filepath.Join(t.TempDir(), "images.tar")
	if err := Write(root, archive); err != nil {
		t.Fatal(err)
	}
	layers := map[string]bool{}
	for tag, want := range map[string]struct {
		start          string
		ports, volumes []string
	}{
		"hiveproof/powerdns:debian": {"powerdns.sh", []string{"53/tcp", "53/udp"}, nil},
		"hiveproof/mariadb:debian":  {"mariadb.sh", []string{"3306/tcp"}, []string{"/var/lib/mysql"}},
		"hiveproof/nginx:debian":    {"nginx.sh", []string{"443/tcp", "80/tcp"}, nil},
	} {
		ref, err := name.NewTag(tag)
		if err != nil {
			t.Fatal(err)
		}
		img, err := tarball.ImageFromPath(archive, &ref)
		if err != nil {
			t.Fatalf("%s: %v", tag, err)
		}
		file, err := img.ConfigFile()
		if err != nil {
			t.Fatalf("%s: %v", tag, err)
		}
		c := file.Config
		if file.Architecture != "amd64" || file.OS != "linux" {
			t.Errorf("%s is for %s/%s: the engine would refuse it", tag, file.OS, file.Architecture)
		}
		if !slices.Equal(c.Entrypoint, []string{"/usr/lib/hiveproof/" + want.start}) || len(c.Cmd) != 0 {
			t.Errorf("%s starts %v %v", tag, c.Entrypoint, c.Cmd)
		}
		if got := slices.Sorted(maps.Keys(c.ExposedPorts)); !slices.Equal(got, want.ports) {
			t.Errorf("%s exposes %v, want %v", tag, got, want.ports)
		}
		if got := slices.Sorted(maps.Keys(c.Volumes)); !slices.Equal(got, want.volumes) {
			t.Errorf("%s has volumes %v, want %v", tag, got, want.volumes)
		}
		if !slices.ContainsFunc(c.Env, func(e string) bool { return strings.HasPrefix(e, "PATH=/usr/sbin:") }) {
			t.Errorf("%s does not find its programs: %v", tag, c.Env)
		}
		all, err := img.Layers()
		if err != nil || len(all) != 1 {
			t.Fatalf("%s: %d layers, %v", tag, len(all), err)
		}
		id, err := all[0].DiffID()
		if err != nil {
			t.Fatalf("%s: %v", tag, err)
		}
		layers[id.String()] = true
		r, err := all[0].Uncompressed()
		if err != nil {
			t.Fatalf("%s: %v", tag, err)
		}
		got, err := io.ReadAll(r)
		if err = errors.Join(err, r.Close()); err != nil || !bytes.Equal(got, content) {
			t.Errorf("%s: the layer is not the root file system: %d bytes, %v", tag, len(got), err)
		}
	}
	if len(layers) != 1 {
		t.Errorf("layers %v, want one shared", layers)
	}
	// Shared also in the file, which is loaded under emulation.
	if text, err := os.ReadFile(archive); err != nil || bytes.Count(text, content[:512]) != 1 {
		t.Errorf("the root file system is %d times in the archive (%v)", bytes.Count(text, content[:512]), err)
	}
}

func TestWriteFails(t *testing.T) {
	archive := filepath.Join(t.TempDir(), "images.tar")
	if err := Write(filepath.Join(t.TempDir(), "root.tar"), archive); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v, want that the root file system is missing", err)
	}
	if _, err := os.Stat(archive); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("an archive is left: %v", err)
	}
}

func TestWriteFiles(t *testing.T) {
	dir := t.TempDir()
	hook, err := WriteFiles(dir)
	if err != nil {
		t.Fatal(err)
	}
	if st, err := os.Stat(hook); err != nil || st.Mode()&0o111 != 0o111 || filepath.Dir(hook) != dir {
		t.Errorf("the hook %s cannot be run: %v", hook, err)
	}
	scripts, err := filepath.Glob(filepath.Join(dir, "*.sh"))
	if err != nil || len(scripts) < 1+len(Images()) {
		t.Fatalf("scripts %v, %v", scripts, err)
	}
	for _, script := range scripts {
		if out, err := exec.Command("sh", "-n", script).CombinedOutput(); err != nil {
			t.Errorf("%s: %v: %s", filepath.Base(script), err, out)
		}
	}
	for _, i := range Images() {
		if _, err := os.Stat(filepath.Join(dir, i.start)); err != nil {
			t.Errorf("%s: %v", i.Tag, err)
		}
		if !slices.Contains(Packages, i.Package) {
			t.Errorf("%s: package %s is not installed", i.Tag, i.Package)
		}
	}
	if _, err := WriteFiles(filepath.Join(dir, "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v, want that the directory is missing", err)
	}
}

// The hook is run on a root file system in which programs of its packages are fakes.
func TestHookInstallsTheScripts(t *testing.T) {
	hook, err := WriteFiles(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	root, bin := t.TempDir(), t.TempDir()
	for _, dir := range []string{"etc/nginx/sites-enabled", "etc/mysql/mariadb.conf.d", "usr/bin", "var/lib/mysql/old", "usr/share/pdns-backend-mysql/schema"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	schema := []byte("CREATE TABLE domains (id INT);\n")
	err = errors.Join(os.WriteFile(filepath.Join(root, "usr/share/pdns-backend-mysql/schema/schema.mysql.sql"), schema, 0o644),
		os.WriteFile(filepath.Join(bin, "chroot"), []byte("#!/bin/sh\nmkdir \"$1/var/lib/mysql/mysql\"\n"), 0o755))
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	if out, err := exec.Command(hook, root).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, i := range Images() {
		if st, err := os.Stat(filepath.Join(root, "usr/lib/hiveproof", i.start)); err != nil || st.Mode().Perm() != 0o755 {
			t.Errorf("%s cannot be started: %v", i.Tag, err)
		}
	}
	if got, err := os.ReadFile(filepath.Join(root, "usr/lib/hiveproof/roles/powerdns-initdb.sql")); err != nil || !bytes.Equal(got, schema) {
		t.Errorf("the database's role: %q, %v", got, err)
	}
	if dirs, err := os.ReadDir(filepath.Join(root, "var/lib/mysql")); err != nil || len(dirs) != 1 || dirs[0].Name() != "mysql" {
		t.Errorf("database files %v, %v; want only a new, empty database", dirs, err)
	}
}
