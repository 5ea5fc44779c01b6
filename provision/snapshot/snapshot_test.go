package snapshot

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func write(t *testing.T, path string, text []byte) *os.File {
	t.Helper()
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { file.Close() })
	if _, err := file.Write(text); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestCopy(t *testing.T) {
	page := bytes.Repeat([]byte{7}, block)
	zero := make([]byte, block)
	for name, content := range map[string][]byte{
		"empty": nil, "odd size": []byte("abc"), "all zero": slices.Concat(zero, zero),
		"hole in the middle": slices.Concat(page, zero, zero, page), "odd end": slices.Concat(zero, page, []byte{1, 2}),
		"more than a buffer": bytes.Repeat(page, 700),
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			from, to := write(t, filepath.Join(dir, "from"), content), write(t, filepath.Join(dir, "to"), nil)
			got, err := Copy(t.Context(), to, from)
			if err != nil || got.Size != int64(len(content)) || got.Name != "to" {
				t.Fatalf("%+v, %v", got, err)
			}
			text, err := os.ReadFile(to.Name())
			if err != nil || !bytes.Equal(text, content) {
				t.Error("the copy is another file", err)
			}
			// The digest does not depend on where the file system keeps holes.
			original, err := Describe(t.Context(), from.Name())
			if err != nil || original.Digest != got.Digest {
				t.Errorf("digests %s and %s, %v", original.Digest, got.Digest, err)
			}
		})
	}
}

func TestDigestSeesDamage(t *testing.T) {
	page, other := bytes.Repeat([]byte{7}, block), bytes.Repeat([]byte{8}, block)
	zero := make([]byte, block)
	seen := map[string]int{}
	for i, content := range [][]byte{
		slices.Concat(page, zero, other), slices.Concat(page, other, zero), slices.Concat(other, zero, page),
		slices.Concat(page, zero, other[1:], []byte{9}), slices.Concat(zero, zero, other),
	} {
		f := write(t, filepath.Join(t.TempDir(), "f"), content)
		d, err := Describe(t.Context(), f.Name())
		if err != nil {
			t.Fatal(err)
		}
		if before, known := seen[d.Digest]; known {
			t.Errorf("contents %d and %d have one digest", before, i)
		}
		seen[d.Digest] = i
	}
}

func TestCopyFails(t *testing.T) {
	from := write(t, filepath.Join(t.TempDir(), "from"), []byte("x"))
	readOnly, err := os.Open(from.Name())
	if err != nil {
		t.Fatal(err)
	}
	defer readOnly.Close()
	if _, err := Copy(t.Context(), readOnly, from); err == nil {
		t.Error("wrote what cannot be written")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Describe(ctx, from.Name()); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func open(t *testing.T) *Store {
	t.Helper()
	s, err := Open(filepath.Join(t.TempDir(), "snapshots"))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// save makes a set of one file.
func save(t *testing.T, s *Store, name string, ready bool) {
	t.Helper()
	d, err := s.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(d.Dir, "hive0.state"), []byte("state of "+name))
	f, err := Describe(t.Context(), filepath.Join(d.Dir, "hive0.state"))
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Commit(Manifest{Ready: ready, Created: time.Now(), Files: []File{f}}); err != nil {
		t.Fatal(err)
	}
}

func names(t *testing.T, s *Store) (all []string) {
	t.Helper()
	list, err := s.List()
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range list {
		all = append(all, i.Name)
	}
	slices.Sort(all)
	return all
}

func TestWholeOrNotAtAll(t *testing.T) {
	s := open(t)
	d, err := s.Create("mine")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Use("mine"); !errors.Is(err, fs.ErrNotExist) || len(names(t, s)) != 0 {
		t.Errorf("a set that is being made can be used: %v", err)
	}
	var busy *BusyError
	if _, err := s.Create("mine"); !errors.As(err, &busy) {
		t.Errorf("made twice at once: %v", err)
	}
	// Another process looks: what is being made stays, what a killed one left goes.
	dead := filepath.Join(s.Dir(), savingPrefix+"dead")
	if err := os.Mkdir(dead, 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(s.Dir()); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(d.Dir); err != nil {
		t.Error("a set that is being made was removed")
	}
	if _, err := os.Stat(dead); !errors.Is(err, fs.ErrNotExist) {
		t.Error("a killed save's files are still there")
	}
	if err := d.Abort(); err != nil || len(names(t, s)) != 0 {
		t.Error("aborted and there:", err)
	}
	if st, err := os.Stat(s.Dir()); err != nil || st.Mode().Perm() != 0o700 {
		t.Errorf("mode %v, %v: it holds keys", st.Mode(), err)
	}
}

func TestUse(t *testing.T) {
	s := open(t)
	save(t, s, "mine", false)
	save(t, s, "mine", false) // takes the first one's place
	set, err := s.Use("mine")
	if err != nil {
		t.Fatal(err)
	}
	if err := set.Verify(t.Context(), "hive0.state"); err != nil {
		t.Error(err)
	}
	again, err := s.Use("mine")
	if err != nil {
		t.Fatalf("two labs cannot use one set: %v", err)
	}
	again.Close()
	var busy *BusyError
	if err := s.Remove("mine"); !errors.As(err, &busy) {
		t.Errorf("removed what a lab uses: %v", err)
	}
	if removed, err := s.Prune(0, true); err != nil || len(removed) != 0 {
		t.Errorf("pruned what a lab uses: %v, %v", removed, err)
	}
	set.Close()
	for _, name := range []string{"../mine", "other", ""} {
		if _, err := s.Use(name); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("use of %q: %v", name, err)
		}
		if err := s.Remove(name); err == nil {
			t.Errorf("removed %q", name)
		}
	}
	if err := s.Remove("mine"); err != nil || len(names(t, s)) != 0 {
		t.Error("not removed:", err)
	}
}

func TestDamage(t *testing.T) {
	for name, c := range map[string]struct {
		damage func(dir string) error
		want   string
	}{
		"truncated":   {func(dir string) error { return os.Truncate(filepath.Join(dir, "hive0.state"), 3) }, "3 bytes and not"},
		"missing":     {func(dir string) error { return os.Remove(filepath.Join(dir, "hive0.state")) }, "hive0.state is missing"},
		"no manifest": {func(dir string) error { return os.Remove(filepath.Join(dir, manifestFile)) }, "manifest"},
		"half a manifest": {func(dir string) error {
			return os.WriteFile(filepath.Join(dir, manifestFile), []byte(`{"name": "mi`), 0o600)
		}, "manifest"},
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t)
			save(t, s, "mine", false)
			if err := c.damage(filepath.Join(s.Dir(), "mine")); err != nil {
				t.Fatal(err)
			}
			var damaged *DamagedError
			if _, err := s.Use("mine"); !errors.As(err, &damaged) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("used: %v", err)
			}
			list, err := s.List()
			if err != nil || len(list) != 1 || list[0].Problem == "" || list[0].InUse {
				t.Errorf("listed as %+v, %v", list, err)
			}
			if removed, err := s.Prune(5, false); err != nil || len(removed) != 1 {
				t.Errorf("pruned %v, %v", removed, err)
			}
		})
	}
	s := open(t)
	save(t, s, "mine", false)
	set, err := s.Use("mine")
	if err != nil {
		t.Fatal(err)
	}
	defer set.Close()
	if err := os.WriteFile(set.Path("hive0.state"), []byte("State of mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	var damaged *DamagedError
	if err := set.Verify(t.Context(), "hive0.state"); !errors.As(err, &damaged) {
		t.Errorf("a changed byte: %v", err)
	}
	if err := set.Verify(t.Context(), "other"); !errors.As(err, &damaged) {
		t.Errorf("a file that is not of the set: %v", err)
	}
}

func TestPrune(t *testing.T) {
	s := open(t)
	for i, name := range []string{"ready-a", "ready-b", "ready-c", "mine"} {
		save(t, s, name, name != "mine")
		at := time.Now().Add(time.Duration(i-10) * time.Hour)
		if err := os.Chtimes(filepath.Join(s.Dir(), name, manifestFile), at, at); err != nil {
			t.Fatal(err)
		}
	}
	used, err := s.Use("ready-a") // the oldest becomes the one used last
	if err != nil {
		t.Fatal(err)
	}
	used.Close()
	if _, err := s.Prune(2, false); err != nil || !slices.Equal(names(t, s), []string{"mine", "ready-a", "ready-c"}) {
		t.Errorf("left %v, %v", names(t, s), err)
	}
	if _, err := s.Prune(0, true); err != nil || len(names(t, s)) != 0 {
		t.Errorf("left %v, %v", names(t, s), err)
	}
}

func TestCheckName(t *testing.T) {
	for _, bad := range []string{"", "ready-1", "../x", ".x", "A", "a/b", strings.Repeat("x", 64)} {
		if CheckName(bad) == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
	if err := CheckName("before-the.bug_2"); err != nil {
		t.Error(err)
	}
}
