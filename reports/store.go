package reports

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"unicode"

	"github.com/hashicorp/go-multierror"
)

// The files of a run directory.
const (
	ResultFile   = "result.json"
	JUnitFile    = "junit.xml"
	HTMLFile     = "report.html"
	MarkdownFile = "summary.md"
	EvidenceDir  = "evidence"
	LatestLink   = "latest" // in the root, to the newest run directory
)

// Store is the directory of one run. Its methods may be called concurrently;
// a Result passed to one must not be changed until the call returns.
type Store struct {
	dir string

	mu    sync.Mutex        // one writer of files at a time
	names map[string]string // evidence path given out -> the names it was given for
}

// Create makes the run directory root/id, which must not exist, and points
// root/latest to it.
func Create(root, id string) (*Store, error) {
	if id != safeName(id) || id == LatestLink {
		return nil, fmt.Errorf("create run directory: %q is no run ID", id)
	}
	root, err := filepath.Abs(root)
	if err != nil {
		return nil, fmt.Errorf("create run directory: %w", err)
	}
	if err := os.MkdirAll(root, 0o755); err != nil {
		return nil, fmt.Errorf("create results directory: %w", err)
	}
	dir := filepath.Join(root, id)
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, fmt.Errorf("create run directory: %w", err)
	}
	if err := link(root, id); err != nil {
		return nil, fmt.Errorf("point %s to the run: %w", filepath.Join(root, LatestLink), err)
	}
	return newStore(dir), nil
}

// Open returns the store of an existing run directory, to render its reports again.
func Open(dir string) (*Store, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("open run directory: %w", err)
	}
	if _, err := os.Stat(filepath.Join(dir, ResultFile)); err != nil {
		return nil, fmt.Errorf("open run directory: %w", err)
	}
	return newStore(dir), nil
}

func newStore(dir string) *Store { return &Store{dir: dir, names: map[string]string{}} }

// Dir is the absolute path of the run directory.
func (s *Store) Dir() string { return s.dir }

// Save writes result.json: after it returns nil the result is on the disk, and
// whatever happens before that, the previous one is. It sets r.Schema, makes nil
// lists empty ones and calls r.Tally. It is meant to be called after every claim.
func (s *Store) Save(r *Result) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	r.Schema = Schema
	r.Tally()
	r.fill()
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		// A figure such as 0/0 must not cost the rest of the result.
		b, err = json.MarshalIndent(encodable(r), "", "  ")
	}
	if err != nil {
		return fmt.Errorf("encode result: %w", err)
	}
	if err := writeAtomic(filepath.Join(s.dir, ResultFile), append(b, '\n')); err != nil {
		return fmt.Errorf("save result: %w", err)
	}
	return nil
}

// Render writes junit.xml, report.html and summary.md, each atomically. It
// calls r.Tally. If one fails the others are still written; the error has all failures.
func (s *Store) Render(r *Result) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	r.Tally()
	var errs *multierror.Error
	for _, f := range []struct {
		name   string
		render func() ([]byte, error)
	}{
		{JUnitFile, func() ([]byte, error) { return JUnit(r) }},
		{MarkdownFile, func() ([]byte, error) { return Markdown(r), nil }},
		{HTMLFile, func() ([]byte, error) { return HTML(r, s.dir) }},
	} {
		b, err := f.render()
		if err == nil {
			err = writeAtomic(filepath.Join(s.dir, f.name), b)
		}
		if err != nil {
			errs = multierror.Append(errs, fmt.Errorf("render %s: %w", f.name, err))
		}
	}
	return errs.ErrorOrNil()
}

// EvidencePath makes evidence/<scenario>/ and returns where in it the file
// called name belongs: abs is the path to write, rel the same relative to the
// run directory, slash-separated, as Evidence.Path has it. Characters unfit for
// a file name are replaced; two names that would become one stay apart, and the
// same name gives the same path again.
func (s *Store) EvidencePath(scenario, name string) (abs, rel string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sub := s.unique(EvidenceDir, scenario)
	rel = s.unique(sub, name)
	if err := os.MkdirAll(filepath.Join(s.dir, filepath.FromSlash(sub)), 0o755); err != nil {
		return "", "", fmt.Errorf("create evidence directory: %w", err)
	}
	return filepath.Join(s.dir, filepath.FromSlash(rel)), rel, nil
}

// unique gives the path of name in dir, numbered if another name has taken it.
func (s *Store) unique(dir, name string) string {
	safe := safeName(name)
	ext := filepath.Ext(safe)
	for i := 1; ; i++ {
		path := dir + "/" + safe
		if i > 1 {
			path = fmt.Sprintf("%s/%s-%d%s", dir, strings.TrimSuffix(safe, ext), i, ext)
		}
		if owner, taken := s.names[path]; !taken || owner == name {
			s.names[path] = name
			return path
		}
	}
}

// safeName keeps letters, digits and "-_+=@,." of s, so that the result is one
// path element that no shell or file system minds.
func safeName(s string) string {
	var b strings.Builder
	for _, c := range s {
		if unicode.IsLetter(c) || unicode.IsDigit(c) || strings.ContainsRune("-_+=@,.", c) {
			b.WriteRune(c)
		} else {
			b.WriteByte('_')
		}
	}
	name := strings.TrimLeft(b.String(), ".-")
	if name == "" {
		return "_"
	}
	const limit = 180 // bytes; file systems allow 255
	if len(name) > limit {
		ext := filepath.Ext(name)
		if len(ext) > 16 {
			ext = ""
		}
		name = strings.ToValidUTF8(name[:limit-len(ext)], "") + ext
	}
	return name
}

// fill makes nil lists and objects empty, so that no reader of the JSON meets null.
func (r *Result) fill() {
	if r.Lab.Hosts == nil {
		r.Lab.Hosts = []Host{}
	}
	if r.Lab.Versions == nil {
		r.Lab.Versions = map[string]string{}
	}
	if r.Lab.Timings == nil {
		r.Lab.Timings = map[string]float64{}
	}
	if r.Scenarios == nil {
		r.Scenarios = []Scenario{}
	}
	for i := range r.Scenarios {
		if r.Scenarios[i].Claims == nil {
			r.Scenarios[i].Claims = []Claim{}
		}
	}
}

// ErrSchema is wrapped by the error of Load for a result of another format.
var ErrSchema = errors.New("unknown result format")

// Load reads the result.json of the run directory dir. A result of another
// schema is refused with an error that wraps ErrSchema. One whose Run.Finished
// is nil ended without finishing and is rendered as such.
func Load(dir string) (*Result, error) {
	path := filepath.Join(dir, ResultFile)
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("load result: %s is no run directory: %w", dir, err)
	}
	if err != nil {
		return nil, fmt.Errorf("load result: %w", err)
	}
	// The schema first: another one may differ in the types of its fields.
	var head struct {
		Schema string `json:"schema"`
	}
	if err := json.Unmarshal(b, &head); err != nil {
		return nil, fmt.Errorf("load result: %s: %w", path, err)
	}
	if head.Schema != Schema {
		return nil, fmt.Errorf("load result: %s has schema %q, this hiveproof reads %q: %w", path, head.Schema, Schema, ErrSchema)
	}
	var r Result
	if err := json.Unmarshal(b, &r); err != nil {
		return nil, fmt.Errorf("load result: %s: %w", path, err)
	}
	return &r, nil
}

// encodable returns a copy of r in which the figures that JSON cannot hold
// (NaN, infinities) are text, or left out where only a number fits.
func encodable(r *Result) *Result {
	out := *r
	out.Lab.Timings = finite(r.Lab.Timings)
	out.Scenarios = make([]Scenario, len(r.Scenarios))
	for i, s := range r.Scenarios {
		s.Timings = finite(s.Timings)
		s.DurationS = finiteOr0(s.DurationS)
		claims := make([]Claim, len(s.Claims))
		for j, c := range s.Claims {
			c.DurationS = finiteOr0(c.DurationS)
			ms := make(map[string]any, len(c.Measurements))
			for k, v := range c.Measurements {
				ms[k] = generic(v)
			}
			c.Measurements = ms
			samples := make([]Sample, len(c.Samples))
			for k, sm := range c.Samples {
				sm.RTTms = finiteOr0(sm.RTTms)
				samples[k] = sm
			}
			c.Samples = samples
			claims[j] = c
		}
		s.Claims = claims
		out.Scenarios[i] = s
	}
	return &out
}

func finiteOr0(f float64) float64 {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return 0
	}
	return f
}

func finite(m map[string]float64) map[string]float64 {
	out := make(map[string]float64, len(m))
	for k, v := range m {
		if finiteOr0(v) == v {
			out[k] = v
		}
	}
	return out
}

// link points root/latest to id. The rename replaces a link at once, so that
// there is always one.
func link(root, id string) error {
	tmp := filepath.Join(root, "."+LatestLink+"-"+id)
	if err := os.Symlink(id, tmp); err != nil {
		return err
	}
	if err := os.Rename(tmp, filepath.Join(root, LatestLink)); err != nil {
		_ = os.Remove(tmp)
		return err
	}
	return syncDir(root)
}

// writeAtomic replaces the file at path: temporary file in the same directory,
// fsync, rename, fsync of the directory. On failure the old file is as it was
// and no temporary one is left.
func writeAtomic(path string, data []byte) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = f.Close()
			_ = os.Remove(f.Name())
		}
	}()
	if _, err = f.Write(data); err != nil {
		return err
	}
	if err = f.Chmod(0o644); err != nil {
		return err
	}
	if err = f.Sync(); err != nil {
		return err
	}
	if err = f.Close(); err != nil {
		return err
	}
	if err = os.Rename(f.Name(), path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
