// Package recipe reads hive-builder's service definitions (plugin hive_services)
// strictly, keeps where in the file everything stands, fills in the defaults and
// places each service on the three axes of the guide's chapter サービスパターン.
//
// What is wrong with a file is reported as Problems, all of them at once. The
// facts of the dialect are those of hive-builder 3.9: its inventory plugin
// hive_services.py, its documentation, and the Ansible modules that it hands the
// values to. Files are read as Ansible reads them, so that unquoted scalars have
// the types of YAML 1.1.
//
// A Recipe is not safe for concurrent use while Resolve runs; otherwise it may be
// read from anywhere.
package recipe

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"
)

// Plugin is the value of the key plugin that makes a file a service definition.
const Plugin = "hive_services"

// DefaultNetwork is the overlay network that every service is attached to unless
// it says otherwise. hive-builder creates it when no file declares it.
const DefaultNetwork = "hive_default_network"

// FirstAssignedPort and LastAssignedPort bound the numbers that ports without a
// published_port get, lowest first.
const (
	FirstAssignedPort = 61001
	LastAssignedPort  = 65534
)

// Recipe is one service definition file.
type Recipe struct {
	File     string
	Plugin   string
	Services []*Service // in the order of the file
	// Networks are those declared, in the order of the file, and DefaultNetwork
	// last if it is not among them (its Position is then zero).
	Networks []*Network

	document
	// needed are the template values that stand where a number or a keyword must
	// be known.
	needed map[*node]bool
	yaml   Problems // what is wrong with it apart from what the keys say
}

// Service looks a service up by name; nil if there is none.
func (r *Recipe) Service(name string) *Service {
	for _, s := range r.Services {
		if s.Name == name {
			return s
		}
	}
	return nil
}

// Network is a network of the file.
type Network struct {
	Position   Position
	Name       string
	Driver     string // "overlay" unless given
	DriverOpts Pairs
	IPAM       any // as written: nil, or maps, lists and scalars
}

// Mode is a service's mode.
type Mode string

// The modes of a service. ModeReplicated is the default.
const (
	ModeReplicated Mode = "replicated"
	ModeGlobal     Mode = "global"
)

// EndpointMode says what the service's name resolves to.
type EndpointMode string

// The endpoint modes. EndpointVIP is the default.
const (
	EndpointVIP   EndpointMode = "vip"
	EndpointDNSRR EndpointMode = "dnsrr"
)

// Service is one service. Fields that the file does not give hold the dialect's
// default; where that is "as the image has it", they are zero. Has tells whether
// a key was written.
type Service struct {
	Position Position // of the name
	Name     string

	Image      Image
	Command    []string // arguments (the engine's "args"); a string is split at its commas, as Ansible does
	Entrypoint []string // a string is split as a shell splits words, as Ansible does
	User       string
	WorkingDir string
	Standalone bool // runs /sbin/init; the mounts and capabilities that it implies are not among Volumes and CapAdd

	Mode         Mode
	Replicas     int // 1 unless given; without meaning for ModeGlobal
	EndpointMode EndpointMode
	Ports        []*Port
	Volumes      []*Volume
	Networks     []Attachment // DefaultNetwork unless given

	Environment Pairs
	Labels      Pairs // values that are no strings are JSON, as hive-builder makes them
	Hosts       Pairs // host name -> address
	Sysctls     Pairs
	DNS         []string
	CapAdd      []string
	CapDrop     []string

	Placement       Placement
	StopGracePeriod time.Duration
	MemLimit        int64   // bytes; 0 is no limit
	CPULimit        float64 // CPUs; 0 is no limit
	Healthcheck     *Healthcheck
	RestartConfig   *RestartConfig
	Logging         *Logging

	InitializeRoles []string
	AvailableOn     []string // stages; all of them unless the service or the file says otherwise
	IgnoreError     []string // patterns of log lines
	MonitorError    []string
	BackupScripts   []map[string]any // as written

	keys *node // the service's map
}

// Has reports whether the file gives the key.
func (s *Service) Has(key string) bool { return s.keys.get(key) != nil }

// At is where the file gives the key, or the service's own position if it does not.
func (s *Service) At(key string) Position { return keyPosition(s.keys, key, s.Position) }

// ValueAt is where the key's value begins, or the service's own position if the
// file does not give it.
func (s *Service) ValueAt(key string) Position { return valuePosition(s.keys, key, s.Position) }

// Known reports whether the field of key holds what the file says, or the default
// of a key that it does not give. It is false where something about the value was
// wrong, and where it must be known and is a template: the field may then hold a
// default.
func (s *Service) Known(key string) bool { return known(s.keys, key) }

// Raw is the key's value as written: map[string]any, []any, string, bool, int64
// or nil. ok is false if the file does not give the key.
func (s *Service) Raw(key string) (value any, ok bool) {
	v := s.keys.get(key)
	if v == nil {
		return nil, false
	}
	return v.value(), true
}

// known reports whether nothing about a key's value was in doubt.
func known(n *node, key string) bool {
	v := n.get(key)
	return v == nil && n.kind == kindMap || v != nil && !v.unknown
}

func valuePosition(n *node, key string, otherwise Position) Position {
	if n != nil {
		if v := n.get(key); v != nil {
			return v.pos
		}
	}
	return otherwise
}

func keyPosition(n *node, key string, otherwise Position) Position {
	if n != nil {
		for _, e := range n.entries {
			if e.key.text == key {
				return e.key.pos
			}
		}
	}
	return otherwise
}

// Image is a tag, or how hive-builder builds the image on another one.
type Image struct {
	Position Position
	Tag      string // empty if the image is built

	From       string // empty if the image is not built
	Roles      []string
	Env        Pairs
	StopSignal string
	User       string
	WorkingDir string
	Standalone bool
	Privileged bool
	Entrypoint []string
	Command    []string
	Expose     []string
	PullOn     []string // stages where the image is pulled and not built
	PullFrom   string
}

// Ref is the tag that the file names: of the image itself, or of the one that it
// is built on.
func (i Image) Ref() string {
	if i.Tag != "" {
		return i.Tag
	}
	return i.From
}

// Pair is a name with its value.
type Pair struct {
	Position      Position // of the name, or of the list's element
	ValuePosition Position
	Name, Value   string
}

// Pairs are names with their values in the order of the file, names unique.
type Pairs []Pair

// Get is the value of name.
func (p Pairs) Get(name string) (value string, ok bool) {
	for _, pair := range p {
		if pair.Name == name {
			return pair.Value, true
		}
	}
	return "", false
}

// Map gives the pairs as a new map.
func (p Pairs) Map() map[string]string {
	m := make(map[string]string, len(p))
	for _, pair := range p {
		m[pair.Name] = pair.Value
	}
	return m
}

// Attachment is a network that a service is attached to.
type Attachment struct {
	Position Position // zero for the default
	Name     string
	Aliases  []string
}

// Placement says where tasks may run.
type Placement struct {
	Constraints []string // "key==value" or "key!=value"
	Spread      []string // preferences: spread over the values of these
	MaxPerNode  int      // 0 is no limit
}

// Healthcheck replaces the image's. Zero durations are the engine's defaults.
type Healthcheck struct {
	Test                           []string // as the engine takes it: first NONE, CMD or CMD-SHELL
	Interval, Timeout, StartPeriod time.Duration
	Retries                        int
}

// RestartConfig says when a task is started anew. Zero is the engine's default.
type RestartConfig struct {
	Condition     string // none, on-failure or any
	Delay, Window time.Duration
	MaxAttempts   int
}

// Logging is the log driver.
type Logging struct {
	Driver  string
	Options Pairs
}

// Parse reads a service definition; name stands for the file in positions. On
// bad input the error is Problems: everything that is wrong with it. Templates
// ({{ name }}) stay in the text, see Recipe.Resolve.
func Parse(name string, src []byte) (*Recipe, error) {
	r, problems := ParsePartial(name, src)
	if len(problems) > 0 {
		return nil, problems
	}
	return r, nil
}

// ParsePartial is Parse for those who want to say more about a file than what is
// wrong with it: the recipe is never nil and holds as much as could be understood
// (nothing of what is not YAML). What stands beside a problem has its default, and
// Known is false for it.
func ParsePartial(name string, src []byte) (*Recipe, Problems) {
	c := &complaints{}
	r := &Recipe{document: parseTree(name, src, c), File: name}
	if r.root == nil && len(c.list) == 0 {
		c.add(Problem{File: name, Line: 1, Column: 1, Rule: RuleDefinition, Message: "the file is empty; a service definition has plugin: " + Plugin + " and services"})
	}
	r.yaml = slices.Clone(c.sorted())
	if r.root != nil {
		decode(r, r.root, c)
	}
	return r, c.sorted()
}

// ParseFile reads the service definition at path. Beside what Parse returns, the
// error may be that of reading the file.
func ParseFile(path string) (*Recipe, error) {
	src, err := readFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading a service definition: %w", err)
	}
	return Parse(path, src)
}

// readFile reads at most so much of a file that its parser can tell that it is too
// long.
func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	src, err := io.ReadAll(io.LimitReader(f, maxBytes+1))
	return src, errors.Join(err, f.Close())
}
