package image

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestLookupWithoutALayer(t *testing.T) {
	s, _ := builder(t)
	for _, layer := range layersOf(t, testSpec) {
		t.Run(layer[:strings.IndexByte(layer, '-')], func(t *testing.T) {
			if _, err := s.Prune(nil); err != nil {
				t.Fatal(err)
			}
			ensure(t, s, testSpec)
			if err := os.RemoveAll(filepath.Join(s.Dir(), layer)); err != nil {
				t.Fatal(err)
			}
			if _, err := s.Lookup(testSpec); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), layer) {
				t.Errorf("%v, want %s named as missing", err, layer)
			}
		})
	}
}

// A layer whose lower layer was removed by hand and made anew would be a disk over
// blocks that are not those it was made on.
func TestLayersOverAnotherBuildAreMadeAnew(t *testing.T) {
	for i, kind := range []string{"base", "software"} {
		t.Run(kind, func(t *testing.T) {
			s, calls := builder(t)
			first := ensure(t, s, testSpec)
			layers := layersOf(t, testSpec)
			if err := os.RemoveAll(filepath.Join(s.Dir(), layers[i])); err != nil {
				t.Fatal(err)
			}
			before := len(calls())
			again := ensure(t, s, testSpec)
			made := 0
			for _, c := range calls()[before:] {
				if strings.HasPrefix(c, "qemu-img create ") {
					made++
				}
			}
			if made != 2 {
				t.Errorf("%d layers were made over the one that is new, want software and node: %q", made, calls()[before:])
			}
			if !again.Created.After(first.Created) || again.Build == first.Build {
				t.Errorf("the node layer of %s was kept", first.Build)
			}
			wantLayers(t, s, layers...)
		})
	}
	t.Run("and are not found meanwhile", func(t *testing.T) {
		s, _ := builder(t)
		ensure(t, s, testSpec)
		layers := layersOf(t, testSpec)
		manifest := filepath.Join(s.Dir(), layers[0], manifestFile)
		text, err := os.ReadFile(manifest)
		if err != nil {
			t.Fatal(err)
		}
		m, err := s.load("base", strings.TrimPrefix(layers[0], "base-"))
		if err != nil {
			t.Fatal(err)
		}
		other := strings.Replace(string(text), m.build(), m.Created.Add(1).Format(time.RFC3339Nano), 1)
		if err := os.WriteFile(manifest, []byte(other), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Lookup(testSpec); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), layers[1]+" was made on another build of "+layers[0]) {
			t.Errorf("%v, want the software layer not to fit", err)
		}
	})
}

func TestPrune(t *testing.T) {
	agent, release := testSpec, testSpec
	agent.AgentDigest, release.Release = "d2", "forky"
	kept, other, old := layersOf(t, testSpec), layersOf(t, release), layersOf(t, agent)[2]
	for _, test := range []struct {
		name string
		held string // layer that somebody builds
		keep *Spec
		left []string
	}{
		{"keep one", "", &testSpec, kept},
		{"keep none", "", nil, nil},
		// What is held needs what is below it, not what is above.
		{"node held", other[2], &testSpec, append(slices.Clone(kept), other...)},
		{"software held", other[1], &testSpec, append(slices.Clone(kept), other[:2]...)},
		{"base held", other[0], nil, other[:1]},
	} {
		t.Run(test.name, func(t *testing.T) {
			s, _ := builder(t)
			for _, spec := range []Spec{testSpec, agent, release} {
				ensure(t, s, spec)
			}
			leftover(t, s, "base-0123456789abcdef")
			leftover(t, s, kept[2])
			if test.held != "" {
				unlock, ok, err := s.tryLock(test.held)
				if err != nil || !ok {
					t.Fatal(ok, err)
				}
				defer unlock()
			}
			removed, err := s.Prune(test.keep)
			if err != nil {
				t.Error(err)
			}
			last, names := height["node"], []string(nil)
			for _, m := range removed {
				names = append(names, m.Kind+"-"+m.Key)
				if height[m.Kind] > last || m.BytesOnDisk == 0 {
					t.Errorf("removed %s of %d bytes after a layer below it", m.Kind, m.BytesOnDisk)
				}
				last = height[m.Kind]
			}
			want := slices.DeleteFunc(append(slices.Clone(kept), append(slices.Clone(other), old)...), func(l string) bool { return slices.Contains(test.left, l) })
			slices.Sort(names)
			slices.Sort(want)
			if !slices.Equal(names, want) {
				t.Errorf("removed %v, want %v", names, want)
			}
			wantLayers(t, s, test.left...)
			if _, err := s.Lookup(testSpec); test.keep != nil && err != nil {
				t.Errorf("what was to be kept: %v", err)
			}
			ensure(t, s, testSpec)
		})
	}
}
