package pull

import (
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

func push(t *testing.T, tag string) v1.Hash {
	t.Helper()
	img, err := random.Image(1<<10, 2)
	if err != nil {
		t.Fatal(err)
	}
	ref, err := name.ParseReference(tag)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(ref, img); err != nil {
		t.Fatal(err)
	}
	id, err := img.ConfigName()
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func TestImage(t *testing.T) {
	server := httptest.NewServer(registry.New())
	defer server.Close()
	tag := strings.TrimPrefix(server.URL, "http://") + "/shop/web:1"
	dir := filepath.Join(t.TempDir(), "pulled")
	want := push(t, tag)
	first, err := Image(t.Context(), tag, dir)
	if err != nil {
		t.Fatal(err)
	}
	ref, err := name.NewTag(tag)
	if err != nil {
		t.Fatal(err)
	}
	img, err := tarball.ImageFromPath(first, &ref)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := img.ConfigName(); err != nil || got != want {
		t.Errorf("the archive holds %s, %v; want %s", got, err, want)
	}
	// The same content is not written again.
	before, err := os.Stat(first)
	if err != nil {
		t.Fatal(err)
	}
	again, err := Image(t.Context(), tag, dir)
	if err != nil {
		t.Fatal(err)
	}
	if after, err := os.Stat(again); err != nil || again != first || !os.SameFile(before, after) {
		t.Errorf("pulled again to %s, %v", again, err)
	}
	// A tag that moved is followed.
	push(t, tag)
	if moved, err := Image(t.Context(), tag, dir); err != nil || moved == first {
		t.Errorf("a moved tag gives %s, %v", moved, err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*.part")); len(left) > 0 {
		t.Errorf("left over: %v", left)
	}
}

func TestImageErrors(t *testing.T) {
	server := httptest.NewServer(registry.New())
	defer server.Close()
	host := strings.TrimPrefix(server.URL, "http://")
	for _, tag := range []string{host + "/none:1", "No Reference"} {
		if _, err := Image(t.Context(), tag, t.TempDir()); err == nil || !strings.Contains(err.Error(), "pull "+tag) {
			t.Errorf("%s: %v", tag, err)
		}
	}
}
